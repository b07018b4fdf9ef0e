output "vpc_id" {
  description = "The network's id."
  value       = aws_vpc.this.id
}

output "private_subnet_ids" {
  description = "The subnets of nodes, pods and the database, one for each zone."
  value       = [for subnet in aws_subnet.private : subnet.id]
}
