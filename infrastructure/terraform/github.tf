# GitHub's jobs without a stored key: GitHub says by OIDC which repository and environment a job is of.

locals {
  github_jobs = { for job, role in {
    deploy = { environment = var.github_environments.deploy, hours = 1, statements = [
      { Effect = "Allow", Action = ["ecr:GetAuthorizationToken"], Resource = ["*"] }, # a call that knows no resource
      {
        Effect = "Allow"
        Action = [
          "ecr:BatchCheckLayerAvailability",
          "ecr:BatchGetImage",
          "ecr:CompleteLayerUpload",
          "ecr:GetDownloadUrlForLayer",
          "ecr:InitiateLayerUpload",
          "ecr:PutImage",
          "ecr:UploadLayerPart",
        ]
        Resource = module.repositories.arns
      },
      { Effect = "Allow", Action = ["eks:DescribeCluster"], Resource = [module.cluster.arn] },
    ] }

    # Tables alone: MLflow's artifacts go through its server, and the password for that is a secret of GitHub's.
    train = { environment = var.github_environments.train, hours = 6, statements = local.read_write.lake }
  } : job => role if var.github_repository != "" }
}

resource "aws_iam_openid_connect_provider" "github" {
  count = var.github_repository == "" || var.github_provider_exists ? 0 : 1

  url            = "https://token.actions.githubusercontent.com"
  client_id_list = ["sts.amazonaws.com"]
}

resource "aws_iam_role" "github" {
  for_each = local.github_jobs

  name                 = "${var.name}-${each.key}"
  assume_role_policy   = data.aws_iam_policy_document.github[each.key].json
  max_session_duration = each.value.hours * 3600
}

data "aws_iam_policy_document" "github" {
  #checkov:skip=CKV_AWS_358:it takes the examples' empty repository for one; there is no role then, and variables.tf asks for owner/name
  for_each = local.github_jobs

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = ["arn:${local.partition}:iam::${local.account_id}:oidc-provider/token.actions.githubusercontent.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "token.actions.githubusercontent.com:aud"
      values   = ["sts.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "token.actions.githubusercontent.com:sub"
      values   = ["repo:${var.github_repository}:environment:${each.value.environment}"]
    }
  }
}

resource "aws_iam_role_policy" "github" {
  for_each = local.github_jobs

  name   = "what-it-does"
  role   = aws_iam_role.github[each.key].name
  policy = jsonencode({ Version = "2012-10-17", Statement = each.value.statements })
}

# In Kubernetes a deployment may change what runs in the platform's namespace, and nothing else.
resource "aws_eks_access_entry" "deploy" {
  count = var.github_repository == "" ? 0 : 1

  cluster_name  = module.cluster.name
  principal_arn = aws_iam_role.github["deploy"].arn
}

resource "aws_eks_access_policy_association" "deploy" {
  count = var.github_repository == "" ? 0 : 1

  cluster_name  = module.cluster.name
  principal_arn = aws_eks_access_entry.deploy[count.index].principal_arn
  policy_arn    = "arn:${local.partition}:eks::aws:cluster-access-policy/AmazonEKSEditPolicy"

  access_scope {
    type       = "namespace"
    namespaces = [var.namespace]
  }
}
