output "vpc_id" {
  description = "The VPC."
  value       = local.vpc_id
}

output "task_subnet_ids" {
  description = "Subnets of the tasks."
  value       = var.public_tasks ? local.public : local.private
}

output "private_subnet_ids" {
  description = "Subnets of the databases."
  value       = local.private
}

output "public_subnet_ids" {
  description = "Subnets of the load balancer."
  value       = local.public
}

output "security_group_ids" {
  description = "Security groups, by part."
  value       = { for part, group in aws_security_group.this : part => group.id }
}
