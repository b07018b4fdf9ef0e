# For trying things: small, in two zones with one way out, and gone by one command, data included.

locals {
  name = "tabular-workflow-dev"
}

module "platform" {
  source = "../.."

  name                = local.name
  zones               = ["${var.region}a", "${var.region}b"]
  kubernetes_version  = "1.35"
  administrator_cidrs = var.administrator_cidrs
  github_repository   = var.github_repository
  github_environments = { deploy = "dev", train = "dev" }

  service_nodes = { instance_types = ["t3a.large", "t3.large"], minimum = 2, maximum = 4 }
  spark_nodes   = { instance_types = ["m7i.xlarge", "m6i.xlarge", "m6a.xlarge"], maximum = 2 }

  database = {
    instance_class = "db.t4g.micro"
    storage_gib    = 20
    maximum_gib    = 50
    multi_zone     = false
    backup_days    = 1
  }

  noncurrent_days = 7
  log_days        = 30
  disposable      = true
  budget          = { monthly_usd = 350, email = var.budget_email }
}
