# One role for each service account of infrastructure/kubernetes, with what its program does and no more.

locals {
  use_key = { Effect = "Allow", Action = ["kms:Decrypt", "kms:GenerateDataKey"], Resource = [aws_kms_key.data.arn] }
  objects = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]

  read_write = {
    for name, arn in { artifacts = module.artifacts.arn, lake = module.lake.arn } : name => [
      { Effect = "Allow", Action = ["s3:ListBucket", "s3:GetBucketLocation"], Resource = [arn] },
      { Effect = "Allow", Action = local.objects, Resource = ["${arn}/*"] },
      local.use_key,
    ]
  }

  service_accounts = {
    mlflow   = { accounts = ["mlflow"], statements = local.read_write.artifacts }
    workflow = { accounts = ["workflow"], statements = local.read_write.lake }
    spark    = { accounts = ["spark-connect", "spark-executor"], statements = local.read_write.lake }

    serve = { accounts = ["serve"], statements = [ # it writes the requests that it answered, and reads no other table
      { Effect = "Allow", Action = ["s3:GetBucketLocation"], Resource = [module.lake.arn] },
      {
        Effect    = "Allow"
        Action    = ["s3:ListBucket"]
        Resource  = [module.lake.arn]
        Condition = { StringLike = { "s3:prefix" = ["*_requests", "*_requests/*"] } }
      },
      { Effect = "Allow", Action = local.objects, Resource = ["${module.lake.arn}/*_requests/*"] },
      local.use_key,
    ] }

    secrets = { accounts = ["secrets"], statements = [
      {
        Effect   = "Allow"
        Action   = ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"]
        Resource = [for secret in aws_secretsmanager_secret.each : secret.arn]
      },
      { Effect = "Allow", Action = ["kms:Decrypt"], Resource = [aws_kms_key.data.arn] },
    ] }
  }
}

module "service_role" {
  source   = "./modules/service_role"
  for_each = local.service_accounts

  name              = "${var.name}-${each.key}"
  oidc_provider_arn = module.cluster.oidc_provider_arn
  namespace         = var.namespace
  service_accounts  = each.value.accounts
  policy            = jsonencode({ Version = "2012-10-17", Statement = each.value.statements })
}

# Adds nodes when pods wait for one, and takes those that are empty: without it there would be none for executors.
module "autoscaler_role" {
  source = "./modules/service_role"

  name              = "${var.name}-cluster-autoscaler"
  oidc_provider_arn = module.cluster.oidc_provider_arn
  namespace         = "kube-system"
  service_accounts  = ["cluster-autoscaler"]
  policy            = data.aws_iam_policy_document.autoscaler.json
}

data "aws_iam_policy_document" "autoscaler" {
  #checkov:skip=CKV_AWS_356:the calls of the first statement only describe, and know no resource
  statement {
    actions = [
      "autoscaling:DescribeAutoScalingGroups",
      "autoscaling:DescribeAutoScalingInstances",
      "autoscaling:DescribeLaunchConfigurations",
      "autoscaling:DescribeScalingActivities",
      "autoscaling:DescribeTags",
      "ec2:DescribeImages",
      "ec2:DescribeInstanceTypes",
      "ec2:DescribeLaunchTemplateVersions",
      "ec2:GetInstanceTypesFromInstanceRequirements",
    ]
    resources = ["*"]
  }

  statement {
    actions   = ["eks:DescribeNodegroup"]
    resources = module.cluster.node_group_arns
  }

  statement {
    actions   = ["autoscaling:SetDesiredCapacity", "autoscaling:TerminateInstanceInAutoScalingGroup"]
    resources = ["arn:${local.partition}:autoscaling:${local.region}:${local.account_id}:autoScalingGroup:*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/k8s.io/cluster-autoscaler/${var.name}"
      values   = ["owned"]
    }
  }
}
