# Passwords: made here, kept in Secrets Manager, in neither the state nor a plan. The database has MLflow's own user;
# MLflow has an administrator and one user for each program that comes to it.

locals {
  secret_users = {
    database        = "mlflow"
    mlflow-admin    = "admin"
    mlflow-serve    = "serve"
    mlflow-workflow = "workflow"
  }
}

ephemeral "aws_secretsmanager_random_password" "each" {
  for_each = local.secret_users

  password_length     = 32
  exclude_punctuation = true # no program on the way has to quote it
}

resource "aws_secretsmanager_secret" "each" {
  #checkov:skip=CKV2_AWS_57:password_version makes new ones; a rotation by itself would leave running servers with the old one
  for_each = local.secret_users

  name                    = "${var.name}/${each.key}"
  kms_key_id              = aws_kms_key.data.arn
  recovery_window_in_days = var.disposable ? 0 : 30
}

resource "aws_secretsmanager_secret_version" "each" {
  for_each = local.secret_users

  secret_id                = aws_secretsmanager_secret.each[each.key].id
  secret_string_wo         = jsonencode({ username = each.value, password = ephemeral.aws_secretsmanager_random_password.each[each.key].random_password })
  secret_string_wo_version = var.password_version
}

# Read back rather than taken from above: the database gets what the secret holds, whichever of the two changed last.
ephemeral "aws_secretsmanager_secret_version" "database" {
  secret_id = aws_secretsmanager_secret_version.each["database"].secret_id
}
