output "url" {
  description = "Where the UI is."
  value       = "https://${var.balancer.host}"
}

output "balancer_host_name" {
  description = "What the UI's host name is to be an alias of."
  value       = module.services.balancer.host_name
}

output "cluster" {
  description = "Name of the ECS cluster."
  value       = module.services.cluster
}

output "services" {
  description = "Names of the services in it."
  value       = module.services.services
}

output "log_groups" {
  description = "Names of the log groups, by part."
  value       = module.services.log_groups
}
