output "host" {
  description = "libpq's PGHOST."
  value       = aws_db_instance.this.address
}

output "database" {
  description = "libpq's PGDATABASE."
  value       = aws_db_instance.this.db_name
}
