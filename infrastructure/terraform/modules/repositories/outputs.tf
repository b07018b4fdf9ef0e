output "arns" {
  description = "The repositories' ARNs."
  value       = [for repository in aws_ecr_repository.each : repository.arn]
}

output "urls" {
  description = "The address of each repository, by the image's name."
  value       = { for name, repository in aws_ecr_repository.each : name => repository.repository_url }
}
