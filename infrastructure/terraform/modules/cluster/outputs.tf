output "name" {
  description = "The cluster's name, once its add-ons and nodes are there."
  value       = aws_eks_cluster.this.name
  depends_on  = [aws_eks_addon.after_nodes]
}

output "arn" {
  description = "The cluster's ARN."
  value       = aws_eks_cluster.this.arn
}

output "security_group_id" {
  description = "The security group of nodes and pods."
  value       = aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
}

output "oidc_provider_arn" {
  description = "The provider by which service accounts take roles."
  value       = aws_iam_openid_connect_provider.cluster.arn
}

output "node_group_arns" {
  description = "The node groups' ARNs."
  value       = [for group in aws_eks_node_group.each : group.arn]
}
