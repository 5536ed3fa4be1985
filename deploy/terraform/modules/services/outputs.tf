output "cluster" {
  description = "Name of the cluster."
  value       = aws_ecs_cluster.this.name
}

output "services" {
  description = "Names of the services."
  value       = keys(aws_ecs_service.part)
}

output "log_groups" {
  description = "Names of the log groups, by part."
  value       = { for part, group in aws_cloudwatch_log_group.part : part => group.name }
}

output "balancer" {
  description = "The load balancer: its host name, and the names of it and its targets in metrics."
  value = {
    host_name    = aws_lb.this.dns_name
    suffix       = aws_lb.this.arn_suffix
    target_group = aws_lb_target_group.webserver.arn_suffix
  }
}
