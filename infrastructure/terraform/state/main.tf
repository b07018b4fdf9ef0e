# Where the state of the examples is kept: applied once in an account, with a state of its own on the machine that did.

terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.25"
    }
  }
}

variable "name" {
  description = "What the bucket's name begins with; the account's number follows."
  type        = string
  default     = "tabular-workflow-state"
}

variable "region" {
  description = "The region of the bucket."
  type        = string
}

provider "aws" {
  region = var.region
}

data "aws_caller_identity" "current" {}

resource "aws_kms_key" "state" {
  description         = "${var.name}: who reads the state knows the platform"
  enable_key_rotation = true
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "Account"
      Effect    = "Allow"
      Action    = "kms:*"
      Resource  = "*"
      Principal = { AWS = "arn:aws:iam::${data.aws_caller_identity.current.account_id}:root" }
    }]
  })
}

module "bucket" {
  source = "../modules/bucket"

  name            = "${var.name}-${data.aws_caller_identity.current.account_id}"
  noncurrent_days = 365
  disposable      = false
  kms_key_arn     = aws_kms_key.state.arn
}

output "bucket" {
  description = "For `tofu init -backend-config=bucket=...`."
  value       = module.bucket.name
}
