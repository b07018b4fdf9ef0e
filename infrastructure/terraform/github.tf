# Continuous deployment without a stored key: GitHub says by OIDC which repository and environment a job is of.

locals {
  github = var.github_repository == "" ? toset([]) : toset([var.github_repository])
}

resource "aws_iam_openid_connect_provider" "github" {
  for_each = local.github

  url            = "https://token.actions.githubusercontent.com"
  client_id_list = ["sts.amazonaws.com"]
}

resource "aws_iam_role" "deploy" {
  for_each = local.github

  name               = "${var.name}-deploy"
  assume_role_policy = data.aws_iam_policy_document.github[each.key].json
}

data "aws_iam_policy_document" "github" {
  for_each = local.github

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [aws_iam_openid_connect_provider.github[each.key].arn]
    }

    condition {
      test     = "StringEquals"
      variable = "token.actions.githubusercontent.com:aud"
      values   = ["sts.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "token.actions.githubusercontent.com:sub"
      values   = ["repo:${each.key}:environment:${var.github_environment}"]
    }
  }
}

resource "aws_iam_role_policy" "deploy" {
  for_each = local.github

  name   = "push-and-deploy"
  role   = aws_iam_role.deploy[each.key].name
  policy = data.aws_iam_policy_document.deploy.json
}

data "aws_iam_policy_document" "deploy" {
  #checkov:skip=CKV_AWS_356:ecr:GetAuthorizationToken knows no resource
  statement {
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }

  statement {
    actions = [
      "ecr:BatchCheckLayerAvailability",
      "ecr:BatchGetImage",
      "ecr:CompleteLayerUpload",
      "ecr:GetDownloadUrlForLayer",
      "ecr:InitiateLayerUpload",
      "ecr:PutImage",
      "ecr:UploadLayerPart",
    ]
    resources = module.repositories.arns
  }

  statement {
    actions   = ["eks:DescribeCluster"]
    resources = [module.cluster.arn]
  }
}

# In Kubernetes the job may change what runs in the platform's namespace, and nothing else.
resource "aws_eks_access_entry" "deploy" {
  for_each = local.github

  cluster_name  = module.cluster.name
  principal_arn = aws_iam_role.deploy[each.key].arn
}

resource "aws_eks_access_policy_association" "deploy" {
  for_each = local.github

  cluster_name  = module.cluster.name
  principal_arn = aws_eks_access_entry.deploy[each.key].principal_arn
  policy_arn    = "arn:${local.partition}:eks::aws:cluster-access-policy/AmazonEKSEditPolicy"

  access_scope {
    type       = "namespace"
    namespaces = [var.namespace]
  }
}
