# For work that others rely on: three zones with a way out each, a second database that takes over, nothing disposable.

locals {
  name = "tabular-workflow-production"
}

module "platform" {
  source = "../.."

  name                 = local.name
  zones                = ["${var.region}a", "${var.region}b", "${var.region}c"]
  nat_gateway_per_zone = true
  kubernetes_version   = "1.35"
  administrator_cidrs  = var.administrator_cidrs
  github_repository    = var.github_repository

  service_nodes = { instance_types = ["m7i.large", "m6i.large"], minimum = 3, maximum = 9 }
  spark_nodes   = { instance_types = ["m7i.2xlarge", "m6i.2xlarge", "m6a.2xlarge", "m5.2xlarge"], maximum = 20 }

  database = {
    instance_class = "db.m7g.large"
    storage_gib    = 100
    maximum_gib    = 500
    multi_zone     = true
    backup_days    = 30
  }

  budget = { monthly_usd = 1500, email = var.budget_email }
}
