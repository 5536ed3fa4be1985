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

output "part_of_runs" {
  description = "The part whose log group has the lines of runs."
  value       = var.together ? "code-server" : "run"
}

output "balancer" {
  description = "The load balancer: its host name, and the names of it and its targets in metrics. Null: none."
  value = one([for number, balancer in aws_lb.this : {
    host_name    = balancer.dns_name
    suffix       = balancer.arn_suffix
    target_group = aws_lb_target_group.webserver[number].arn_suffix
  }])
}
