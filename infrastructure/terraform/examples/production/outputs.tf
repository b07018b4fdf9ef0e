output "settings" {
  description = "The settings of docs/reference/settings.md."
  value       = module.platform.settings
}

output "settings_env" {
  description = "The same as lines of NAME=value."
  value       = module.platform.settings_env
}

output "platform_env" {
  description = "What the Kubernetes overlay needs beside them."
  value       = module.platform.platform_env
}

output "repository_urls" {
  description = "Where the images are."
  value       = module.platform.repository_urls
}

output "cluster_name" {
  description = "For `aws eks update-kubeconfig --name`."
  value       = module.platform.cluster_name
}

output "cluster_autoscaler_role_arn" {
  description = "The role of the cluster autoscaler."
  value       = module.platform.cluster_autoscaler_role_arn
}

output "github_role_arns" {
  description = "The roles that GitHub's jobs take."
  value       = module.platform.github_role_arns
}
