locals {
  every_container = {
    image                  = var.image
    readonlyRootFilesystem = true
    user                   = "1000:1000"
    mountPoints            = [{ sourceVolume = "tmp", containerPath = "/tmp", readOnly = false }]
    linuxParameters        = { initProcessEnabled = true, capabilities = { drop = ["ALL"] } }
    environment            = [for name, value in local.environment : { name = name, value = value }]
    stopTimeout            = 120
  }

  containers = { for part, is in local.parts : part => merge(local.every_container, {
    name         = part
    essential    = true
    cpu          = is.size.cpu
    memory       = is.size.memory
    command      = is.command
    secrets      = [for name, arn in is.secrets : { name = name, valueFrom = arn }]
    portMappings = is.port == null ? [] : [{ containerPort = is.port, protocol = "tcp" }]
    healthCheck = is.healthy == null ? null : {
      command     = concat(["CMD"], is.healthy)
      interval    = 120
      timeout     = 60
      retries     = 3
      startPeriod = 180
    }
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.part[part].name
        awslogs-region        = data.aws_region.this.name
        awslogs-stream-prefix = part
      }
    }
  }) }
}

resource "aws_ecs_task_definition" "part" {
  for_each                 = local.parts
  family                   = local.family[each.key]
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = each.value.size.cpu
  memory                   = each.value.size.memory
  task_role_arn            = aws_iam_role.task[each.key].arn
  execution_role_arn       = aws_iam_role.execution[each.key].arn
  container_definitions    = jsonencode([local.containers[each.key]])
  skip_destroy             = true # a deployment that is rolled back, and runs that are queued, still want the last one

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.cpu_architecture
  }

  volume {
    name = "tmp"
  }
}

resource "aws_ecs_service" "part" {
  for_each                = local.services
  name                    = each.key
  cluster                 = aws_ecs_cluster.this.id
  task_definition         = aws_ecs_task_definition.part[each.key].arn
  desired_count           = 1
  launch_type             = "FARGATE"
  propagate_tags          = "SERVICE"
  enable_ecs_managed_tags = true

  # Never two daemons: the old one ends before the new one begins. Of the others the new one is there first.
  deployment_minimum_healthy_percent = each.key == "daemon" ? 0 : 100
  deployment_maximum_percent         = each.key == "daemon" ? 100 : 200

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = var.private_subnet_ids
    security_groups  = [var.security_group_ids[each.key]]
    assign_public_ip = false
  }

  dynamic "service_registries" {
    for_each = each.key == "code-server" ? [aws_service_discovery_service.code_server.arn] : []

    content {
      registry_arn = service_registries.value
    }
  }

  dynamic "load_balancer" {
    for_each = each.key == "webserver" ? [aws_lb_target_group.webserver.arn] : []

    content {
      target_group_arn = load_balancer.value
      container_name   = each.key
      container_port   = local.webserver.port
    }
  }

  depends_on = [aws_lb_listener.https, aws_iam_role_policy.task, aws_iam_role_policy.execution]
}
