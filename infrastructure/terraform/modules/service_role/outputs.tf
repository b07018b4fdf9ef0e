output "arn" {
  description = "The role's ARN, for the annotation eks.amazonaws.com/role-arn."
  value       = aws_iam_role.this.arn
}
