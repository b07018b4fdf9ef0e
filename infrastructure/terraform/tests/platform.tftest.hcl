# Both examples and the parts that calculate, planned by OpenTofu itself with resources that are made up: nothing is made,
# and no account is needed. ../../check.sh runs it, with the provider's schema in place of the provider.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "111122223333" }
  }

  mock_data "aws_region" {
    defaults = { region = "eu-central-1" }
  }

  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }

  mock_resource "aws_eks_cluster" {
    defaults = {
      identity = [{ oidc = [{ issuer = "https://oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLE" }] }]
    }
  }

  mock_resource "aws_iam_openid_connect_provider" {
    defaults = { arn = "arn:aws:iam::111122223333:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLE" }
  }
}

variables {
  region              = "eu-central-1"
  administrator_cidrs = ["203.0.113.0/24"]
  budget_email        = "ml-platform@example.com"
}

run "dev_hands_on_what_its_overlay_has" {
  command = plan

  module {
    source = "./examples/dev"
  }

  assert {
    condition     = output.settings_env == file("../kubernetes/overlays/dev/platform/settings.env")
    error_message = "The output settings_env is not what overlays/dev/platform/settings.env has."
  }

  assert {
    condition = ([for line in split("\n", output.platform_env) : split("=", line)[0]] ==
    [for line in split("\n", file("../kubernetes/overlays/dev/platform/platform.env")) : split("=", line)[0]])
    error_message = "The output platform_env does not name what overlays/dev/platform/platform.env does."
  }

  assert {
    condition     = length(output.github_role_arns) == 0
    error_message = "Without github_repository nobody comes from GitHub."
  }
}

run "production_hands_on_what_its_overlay_has" {
  command = plan

  variables {
    github_repository = "example/tabular-workflow"
  }

  module {
    source = "./examples/production"
  }

  assert {
    condition     = output.settings_env == file("../kubernetes/overlays/production/platform/settings.env")
    error_message = "The output settings_env is not what overlays/production/platform/settings.env has."
  }

  assert {
    condition = ([for line in split("\n", output.platform_env) : split("=", line)[0]] ==
    [for line in split("\n", file("../kubernetes/overlays/production/platform/platform.env")) : split("=", line)[0]])
    error_message = "The output platform_env does not name what overlays/production/platform/platform.env does."
  }

  assert {
    condition     = keys(output.github_role_arns) == ["deploy", "train"]
    error_message = "A github_repository has a role to deploy by, and one to train by."
  }

  assert {
    condition = alltrue([
      for named in regexall("`(settings|repository_urls|github_role_arns)\\.(\\w+)`", file("../../docs/how-to/ci.md")) :
      contains(keys({ settings = output.settings, repository_urls = output.repository_urls, github_role_arns = output.github_role_arns }[named[0]]), named[1])
    ])
    error_message = "docs/how-to/ci.md names an output that there is not."
  }
}

run "a_job_of_github_has_the_role_of_its_environment_alone" {
  command = plan

  variables {
    name                = "test"
    zones               = ["eu-central-1a", "eu-central-1b"]
    kubernetes_version  = "1.35"
    service_nodes       = { instance_types = ["t3.large"], minimum = 2, maximum = 4 }
    spark_nodes         = { instance_types = ["m7i.xlarge", "m6i.xlarge"], maximum = 2 }
    database            = { instance_class = "db.t4g.micro", storage_gib = 20, maximum_gib = 50, multi_zone = false, backup_days = 1 }
    budget              = { monthly_usd = 300, email = "ml-platform@example.com" }
    github_repository   = "example/tabular-workflow"
    github_environments = { deploy = "production", train = "training" }

    github_provider_exists = true
  }

  assert {
    condition = { for job, trust in data.aws_iam_policy_document.github : job => join(" ", flatten(trust.statement[0].condition[*].values)) } == {
      deploy = "sts.amazonaws.com repo:example/tabular-workflow:environment:production"
      train  = "sts.amazonaws.com repo:example/tabular-workflow:environment:training"
    }
    error_message = "A role is of the jobs of one repository and environment."
  }

  assert {
    condition = toset(flatten(values(data.aws_iam_policy_document.github)[*].statement[0].principals[*].identifiers)) == toset(
    ["arn:aws:iam::111122223333:oidc-provider/token.actions.githubusercontent.com"]) && length(aws_iam_openid_connect_provider.github) == 0
    error_message = "The account's provider for GitHub is trusted, and where there is one no other is made."
  }

  assert {
    condition     = { for job, role in aws_iam_role.github : job => role.max_session_duration } == { deploy = 3600, train = 21600 }
    error_message = "Training takes up to six hours, a deployment up to one."
  }

  assert {
    condition     = join(" ", flatten(local.github_jobs.train.statements[*].Action)) == "s3:ListBucket s3:GetBucketLocation s3:GetObject s3:PutObject s3:DeleteObject s3:AbortMultipartUpload s3:ListMultipartUploadParts kms:Decrypt kms:GenerateDataKey"
    error_message = "Training reads and writes objects of one bucket, and uses the key for them."
  }
}

run "networks_have_a_subnet_of_each_kind_in_each_zone_and_none_overlap" {
  command = plan

  variables {
    name                 = "test"
    cidr                 = "10.0.0.0/16"
    zones                = ["eu-central-1a", "eu-central-1b", "eu-central-1c"]
    nat_gateway_per_zone = true
    kms_key_arn          = "arn:aws:kms:eu-central-1:111122223333:key/example"
    log_days             = 30
  }

  module {
    source = "./modules/network"
  }

  assert {
    condition     = [for subnet in aws_subnet.private : subnet.cidr_block] == ["10.0.0.0/18", "10.0.64.0/18", "10.0.128.0/18"]
    error_message = "Each private subnet is a quarter of the network."
  }

  assert {
    condition     = [for subnet in aws_subnet.public : subnet.cidr_block] == ["10.0.192.0/20", "10.0.208.0/20", "10.0.224.0/20"]
    error_message = "Public subnets are in the last quarter."
  }

  assert {
    condition     = length(aws_nat_gateway.this) == 3
    error_message = "Each zone has a way out of its own."
  }
}

run "one_nat_gateway_serves_all_zones_where_that_is_enough" {
  command = plan

  variables {
    name                 = "test"
    cidr                 = "10.0.0.0/16"
    zones                = ["eu-central-1a", "eu-central-1b"]
    nat_gateway_per_zone = false
    kms_key_arn          = "arn:aws:kms:eu-central-1:111122223333:key/example"
    log_days             = 30
  }

  module {
    source = "./modules/network"
  }

  assert {
    condition     = keys(aws_nat_gateway.this) == ["eu-central-1a"] && length(aws_route.nat) == 2
    error_message = "One NAT gateway, and a route to it from each zone."
  }
}

run "roles_are_of_no_account_with_a_wildcard" {
  command = plan

  variables {
    name              = "test"
    oidc_provider_arn = "arn:aws:iam::111122223333:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLE"
    namespace         = "tabular-workflow"
    service_accounts  = ["*"]
    policy            = "{}"
  }

  module {
    source = "./modules/service_role"
  }

  expect_failures = [var.service_accounts]
}
