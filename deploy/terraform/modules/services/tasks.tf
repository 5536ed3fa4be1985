locals {
  every_container = {
    image                  = var.image
    entryPoint             = ["python", "-m", "etl_assets.adapters.json_lines"] # all output becomes JSON lines
    readonlyRootFilesystem = true
    user                   = "1000:1000"
    mountPoints            = [{ sourceVolume = "tmp", containerPath = "/tmp", readOnly = false }]
    linuxParameters        = { initProcessEnabled = true, capabilities = { drop = ["ALL"] } }
    environment            = [for name, value in local.environment : { name = name, value = value }]
    stopTimeout            = 120
  }

  # SSM's agent writes to the root file system; “readonlyRootFilesystem isn't supported” with ECS Exec.
  tool_container = {
    entryPoint             = []
    readonlyRootFilesystem = false
    linuxParameters        = { initProcessEnabled = true }
  }

  containers = { for part, of in local.parts : part => [for name, is in of.containers : merge(local.every_container, contains(keys(local.tools), part) ? local.tool_container : null, {
    name      = name
    essential = !is.ends
    # containers of one task share its memory
    cpu               = floor(of.size.cpu / length(of.containers))
    memory            = length(of.containers) == 1 ? of.size.memory : null
    memoryReservation = length(of.containers) == 1 ? null : floor(of.size.memory / length(of.containers))

    dependsOn    = length(is.after) == 0 ? null : [for container, condition in is.after : { containerName = container, condition = condition }]
    command      = is.command
    secrets      = [for name, arn in is.secrets : { name = name, valueFrom = arn }]
    portMappings = is.port == null ? [] : [{ containerPort = is.port, protocol = "tcp" }]
    healthCheck = is.healthy == null ? null : {
      command     = concat(["CMD"], is.healthy)
      interval    = anytrue([for other in of.containers : contains(keys(other.after), name)]) ? 60 : 120
      timeout     = 60
      retries     = 3
      startPeriod = 180
    }
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.part[local.log_group[name]].name
        awslogs-region        = data.aws_region.this.name
        awslogs-stream-prefix = length(of.containers) == 1 ? part : name
        # While CloudWatch is away, tasks go on, and keep the last lines: 25 MB are hours of them.
        mode            = "non-blocking"
        max-buffer-size = "25m"
      }
    }
  })] }
}

resource "aws_ecs_task_definition" "part" {
  # checkov:skip=CKV_AWS_249:the two roles are different, which it cannot see
  for_each                 = local.parts
  family                   = local.family[each.key]
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = each.value.size.cpu
  memory                   = each.value.size.memory
  task_role_arn            = var.roles.task[each.key].arn
  execution_role_arn       = var.roles.execution[each.key].arn
  container_definitions    = jsonencode(local.containers[each.key])
  skip_destroy             = true # rolled-back deployments and queued runs still need the previous one

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

  # Never two daemons: the old one ends before the new one starts. Other services start the new task first.
  deployment_minimum_healthy_percent = each.key == "daemon" ? 0 : 100
  deployment_maximum_percent         = each.key == "daemon" ? 100 : 200

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = var.task_subnet_ids
    security_groups  = [var.security_group_ids[each.key]]
    assign_public_ip = var.public_tasks
  }

  dynamic "service_registries" {
    for_each = each.key == "code-server" ? aws_service_discovery_service.code_server[*].arn : []

    content {
      registry_arn = service_registries.value
    }
  }

  dynamic "load_balancer" {
    for_each = contains(each.value, local.webserver.name) ? aws_lb_target_group.webserver[*].arn : []

    content {
      target_group_arn = load_balancer.value
      container_name   = local.webserver.name
      container_port   = local.webserver.port
    }
  }

  depends_on = [aws_lb_listener.https, aws_iam_role_policy.task, aws_iam_role_policy.execution]
}
