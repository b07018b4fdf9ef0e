# The platform in one AWS account and region: what compose/ is on one machine. Each part is a module of modules/.

data "aws_caller_identity" "current" {}
data "aws_region" "current" {}
data "aws_partition" "current" {}

locals {
  account_id = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition
  region     = data.aws_region.current.region
}

module "network" {
  source = "./modules/network"

  name                 = var.name
  cidr                 = var.vpc_cidr
  zones                = var.zones
  nat_gateway_per_zone = var.nat_gateway_per_zone
  kms_key_arn          = aws_kms_key.data.arn
  log_days             = var.log_days
}

module "cluster" {
  source = "./modules/cluster"

  name                = var.name
  kubernetes_version  = var.kubernetes_version
  subnet_ids          = module.network.private_subnet_ids
  administrator_cidrs = var.administrator_cidrs
  service_nodes       = var.service_nodes
  spark_nodes         = var.spark_nodes
  kms_key_arn         = aws_kms_key.data.arn
  log_days            = var.log_days
}

module "database" {
  source = "./modules/database"

  name                     = var.name
  vpc_id                   = module.network.vpc_id
  subnet_ids               = module.network.private_subnet_ids
  client_security_group_id = module.cluster.security_group_id
  settings                 = var.database
  disposable               = var.disposable
  password                 = jsondecode(ephemeral.aws_secretsmanager_secret_version.database.secret_string).password
  password_version         = var.password_version
  kms_key_arn              = aws_kms_key.data.arn
  log_days                 = var.log_days
}

# What runs log through MLflow's server: models, reports.
module "artifacts" {
  source = "./modules/bucket"

  name            = "${var.name}-artifacts-${local.account_id}"
  noncurrent_days = var.noncurrent_days
  disposable      = var.disposable
  kms_key_arn     = aws_kms_key.data.arn
}

# The lake: tables, and sources that somebody puts beside them.
module "lake" {
  source = "./modules/bucket"

  name            = "${var.name}-lake-${local.account_id}"
  noncurrent_days = var.noncurrent_days
  disposable      = var.disposable
  kms_key_arn     = aws_kms_key.data.arn
}

module "repositories" {
  source = "./modules/repositories"

  prefix      = var.name
  names       = ["mlflow", "serve", "spark", "workflow"]
  disposable  = var.disposable
  kms_key_arn = aws_kms_key.data.arn
}
