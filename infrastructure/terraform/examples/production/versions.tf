terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.25"
    }
  }

  backend "s3" { # bucket and region: tofu init -backend-config=...
    key          = "production/platform.tfstate"
    encrypt      = true
    use_lockfile = true # one apply at a time
  }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = { Platform = local.name }
  }
}
