locals {
  # as the CLI of AWS reads it
  network_of_a_task = "awsvpcConfiguration={subnets=[${join(",", module.network.task_subnet_ids)}],securityGroups=[%s],assignPublicIp=${var.network.public_tasks ? "ENABLED" : "DISABLED"}}"
}

output "url" {
  description = "URL of the UI; without a load balancer, that at the end of the tunnel."
  value       = local.url
}

output "login_redirect_uri" {
  description = "The redirect URI to register for the login, at the identity provider."
  value       = "${local.url}/oauth2/idpresponse"
}

output "shell_network" {
  description = "Where `shell` is started: as runs are, in the security group of the daemon."
  value       = format(local.network_of_a_task, module.network.security_group_ids["daemon"])
}

output "tunnel_network" {
  description = "Where `tunnel` is started; empty if it has nowhere to lead to."
  value       = try(format(local.network_of_a_task, module.network.security_group_ids["tunnel"]), "")
}

output "warehouse_host_name" {
  description = "Host name of the warehouse created here; empty if it is elsewhere."
  value       = join("", module.warehouse[*].address)
}

output "balancer_host_name" {
  description = "The host name that the UI's host name must be an alias of; empty without a load balancer."
  value       = join("", module.services.balancer[*].host_name)
}

output "cluster" {
  description = "Name of the ECS cluster."
  value       = module.services.cluster
}

output "services" {
  description = "Names of its services."
  value       = module.services.services
}

output "log_groups" {
  description = "Names of the log groups, by part."
  value       = module.services.log_groups
}
