output "settings" {
  description = "The settings of docs/reference/settings.md, for programs in the cluster. Keys and a region come with the role of their service account."
  value       = local.settings
}

output "settings_env" {
  description = "The same as lines of NAME=value: infrastructure/kubernetes/overlays/<environment>/platform/settings.env."
  value       = join("", [for name, value in local.settings : "${name}=${value}\n"])
}

output "platform_env" {
  description = "What only the Kubernetes overlay needs: infrastructure/kubernetes/overlays/<environment>/platform/platform.env."
  value       = join("", [for name, value in merge(local.connections, local.roles) : "${name}=${value}\n"])
}

output "repository_urls" {
  description = "Where each image is pushed to, and pulled from."
  value       = module.repositories.urls
}

output "cluster_name" {
  description = "For `aws eks update-kubeconfig --name`."
  value       = module.cluster.name
}

output "cluster_autoscaler_role_arn" {
  description = "The role of the cluster autoscaler's service account in kube-system."
  value       = module.autoscaler_role.arn
}

output "github_role_arns" {
  description = "The roles that GitHub's jobs take to deploy and to train; none without github_repository."
  value       = { for job, role in aws_iam_role.github : job => role.arn }
}

locals {
  settings = {
    AWS_REGION          = local.region
    LAKE_URI            = "s3://${module.lake.name}"
    MLFLOW_TRACKING_URI = "http://mlflow.${var.namespace}.svc:5000"
    SPARK_REMOTE        = "sc://spark-connect.${var.namespace}.svc:15002"
  }

  connections = {
    ARTIFACTS_BUCKET = module.artifacts.name
    PGDATABASE       = module.database.database
    PGHOST           = module.database.host
    SECRETS_PREFIX   = var.name
  }

  roles = { for name, role in module.service_role : "${upper(name)}_ROLE_ARN" => role.arn }
}
