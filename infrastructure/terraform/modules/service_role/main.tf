# A role that the pods of some service accounts take, and nobody else.

locals {
  issuer = split(":oidc-provider/", var.oidc_provider_arn)[1] # the cluster's, without https://
}

resource "aws_iam_role" "this" {
  name               = var.name
  assume_role_policy = data.aws_iam_policy_document.trust.json
}

data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [var.oidc_provider_arn]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:aud"
      values   = ["sts.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:sub"
      values   = [for account in var.service_accounts : "system:serviceaccount:${var.namespace}:${account}"]
    }
  }
}

resource "aws_iam_role_policy" "this" {
  name   = "what-it-does"
  role   = aws_iam_role.this.name
  policy = var.policy
}
