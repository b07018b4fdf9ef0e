# MLflow's PostgreSQL: private, encrypted, backed up.

resource "aws_db_subnet_group" "this" {
  name       = var.name
  subnet_ids = var.subnet_ids
}

resource "aws_security_group" "this" {
  name        = "${var.name}-database"
  description = "PostgreSQL, for the pods of the cluster alone"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name}-database" }
}

resource "aws_vpc_security_group_ingress_rule" "cluster" {
  security_group_id            = aws_security_group.this.id
  description                  = "MLflow's server"
  referenced_security_group_id = var.client_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
}

resource "aws_db_parameter_group" "this" {
  name_prefix = "${var.name}-"
  family      = "postgres17"

  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }

  parameter { # changes of the schema, which a new MLflow makes
    name  = "log_statement"
    value = "ddl"
  }

  parameter { # milliseconds
    name  = "log_min_duration_statement"
    value = "1000"
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_cloudwatch_log_group" "postgresql" {
  #checkov:skip=CKV_AWS_338:log_days is a year unless an environment is for trying things
  name              = "/aws/rds/instance/${var.name}/postgresql" # RDS's own name for it; made here to be encrypted, and to end
  retention_in_days = var.log_days
  kms_key_id        = var.kms_key_arn
}

resource "aws_db_instance" "this" {
  #checkov:skip=CKV_AWS_118:the metrics of RDS and Performance Insights tell enough of a database that one server uses
  #checkov:skip=CKV_AWS_157:production has two zones; multi_zone says so
  #checkov:skip=CKV_AWS_293:what is not disposable has it
  identifier     = var.name
  engine         = "postgres"
  engine_version = "17"
  instance_class = var.settings.instance_class

  db_name             = "mlflow"
  username            = "mlflow"
  password_wo         = var.password
  password_wo_version = var.password_version

  storage_type          = "gp3"
  allocated_storage     = var.settings.storage_gib
  max_allocated_storage = var.settings.maximum_gib
  storage_encrypted     = true
  kms_key_id            = var.kms_key_arn

  db_subnet_group_name   = aws_db_subnet_group.this.name
  vpc_security_group_ids = [aws_security_group.this.id]
  parameter_group_name   = aws_db_parameter_group.this.name
  publicly_accessible    = false
  multi_az               = var.settings.multi_zone

  iam_database_authentication_enabled = true # for people; MLflow's server has its password

  backup_retention_period    = var.settings.backup_days
  backup_window              = "02:00-03:00"
  maintenance_window         = "sun:03:30-sun:04:30"
  auto_minor_version_upgrade = true
  copy_tags_to_snapshot      = true
  deletion_protection        = !var.disposable
  skip_final_snapshot        = var.disposable
  final_snapshot_identifier  = var.disposable ? null : "${var.name}-final"

  performance_insights_enabled    = true # seven days of it are free
  performance_insights_kms_key_id = var.kms_key_arn
  enabled_cloudwatch_logs_exports = ["postgresql"]

  depends_on = [aws_cloudwatch_log_group.postgresql]
}
