# Dagster on ECS: three services, and one task per run, started by the daemon; or, together, one service, in whose task the
# runs are processes of the code server. All use one image.

data "aws_region" "this" {}
data "aws_partition" "this" {}
data "aws_caller_identity" "this" {}

resource "aws_ecs_cluster" "this" {
  name = var.name

  setting {
    name  = "containerInsights"
    value = var.container_insights ? "enabled" : "disabled"
  }
}

resource "aws_ecs_cluster_capacity_providers" "this" {
  cluster_name       = aws_ecs_cluster.this.name
  capacity_providers = ["FARGATE", "FARGATE_SPOT"]
}

resource "aws_service_discovery_private_dns_namespace" "this" {
  count       = var.together ? 0 : 1
  name        = "${var.name}.internal"
  description = "Where the daemon and the webserver find the code server."
  vpc         = var.vpc_id
}

resource "aws_service_discovery_service" "code_server" {
  count         = var.together ? 0 : 1
  name          = local.code_server.name
  force_destroy = true

  dns_config {
    namespace_id   = aws_service_discovery_private_dns_namespace.this[0].id
    routing_policy = "MULTIVALUE"

    dns_records {
      type = "A"
      ttl  = 10
    }
  }
}

resource "aws_cloudwatch_log_group" "part" {
  for_each          = toset(values(local.log_group))
  name              = "/${var.name}/${each.key}"
  retention_in_days = var.log_retention_days
}
