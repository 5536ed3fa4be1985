# What the roles of the parts may do: one for the part itself, one for ECS to start it. `permanent` creates the roles.

locals {
  account = data.aws_caller_identity.this.account_id
  region  = data.aws_region.this.name
  ecs     = "arn:${data.aws_partition.this.partition}:ecs:${local.region}:${local.account}"

  # Parts that watch or stop runs describe the run's task definition. AWS supports no resource for this action.
  launches = {
    sid       = "KnowTheLauncher"
    actions   = ["ecs:DescribeTaskDefinition"]
    resources = ["*"]
  }

  alert = { sid = "Alert", actions = ["sns:Publish"], resources = [var.alerts_topic_arn] }

  services_may = {
    code-server = [
      # `catch_up` and `source_activity` look up captures
      { sid = "ListCaptures", actions = ["s3:ListBucket"], resources = [var.bucket_arns["ingestion"]] },
      { sid = "ReadCaptures", actions = ["s3:GetObject"], resources = ["${var.bucket_arns["ingestion"]}/*"] },
      local.alert,
    ]
    daemon = [
      local.launches,
      { sid = "StartRuns", actions = ["ecs:RunTask"], resources = [for part in keys(local.runs) : "${local.ecs}:task-definition/${local.family[part]}:*"],
      condition = { test = "ArnEquals", variable = "ecs:cluster", values = [aws_ecs_cluster.this.arn] } },
      { sid = "TagRuns", actions = ["ecs:TagResource"], resources = ["${local.ecs}:task/${var.name}/*"],
      condition = { test = "StringEquals", variable = "ecs:CreateAction", values = ["RunTask"] } },
      { sid = "WatchAndStopRuns", actions = ["ecs:DescribeTasks", "ecs:StopTask"], resources = ["${local.ecs}:task/${var.name}/*"] },
      # runs start in the network of the daemon's own task; AWS supports no resource for this action
      { sid = "SeeItsNetwork", actions = ["ec2:DescribeNetworkInterfaces"], resources = ["*"] },
      { sid       = "GiveRunsTheirRoles", actions = ["iam:PassRole"],
        resources = flatten([for part in keys(local.runs) : [var.roles.task[part].arn, var.roles.execution[part].arn]]),
      condition = { test = "StringEquals", variable = "iam:PassedToService", values = ["ecs-tasks.amazonaws.com"] } },
      # the last lines of a run that died, for its event log
      { sid = "ReadLastWords", actions = ["logs:GetLogEvents"], resources = ["${aws_cloudwatch_log_group.part["run"].arn}:log-stream:*"] },
    ]
    webserver = [
      local.launches,
      { sid = "StopRuns", actions = ["ecs:DescribeTasks", "ecs:StopTask"], resources = ["${local.ecs}:task/${var.name}/*"] },
      { sid = "ShowComputeLogs", actions = ["s3:GetObject"], resources = ["${var.compute_logs.arn}/*"] },
    ]
  }

  runs_may = { for part, may in local.runs : part => concat(
    [
      { sid = "ListFiles", actions = ["s3:ListBucket"], resources = [for stage in concat(may.reads, may.writes) : var.bucket_arns[stage]] },
      { sid = "ReadFiles", actions = ["s3:GetObject"], resources = [for stage in concat(may.reads, may.writes) : "${var.bucket_arns[stage]}/*"] },
      # it checks whether they exist already
      { sid = "WriteComputeLogs", actions = ["s3:GetObject", "s3:PutObject"], resources = ["${var.compute_logs.arn}/*"] },
    ],
    length(may.writes) == 0 ? [] : [
      { sid = "WriteFiles", actions = ["s3:PutObject", "s3:AbortMultipartUpload"], resources = [for stage in may.writes : "${var.bucket_arns[stage]}/*"] },
    ],
    # AWS supports no resource for this action
    !contains(may.databases, "warehouse") ? [] : [
      { sid = "TellLoads", actions = ["cloudwatch:PutMetricData"], resources = ["*"],
      condition = { test = "StringEquals", variable = "cloudwatch:namespace", values = [var.name] } },
    ],
    # hooks of your own jobs
    part == "run" ? [local.alert] : [],
  ) }

  # Amazon ECS developer guide, “ECS Exec”. AWS supports no resource for these actions.
  sessions = {
    sid = "OpenSessions"
    actions = [
      "ssmmessages:CreateControlChannel", "ssmmessages:CreateDataChannel", "ssmmessages:OpenControlChannel",
      "ssmmessages:OpenDataChannel",
    ]
    resources = ["*"]
  }

  all_may = merge(
    local.services_may,
    local.runs_may,
    { shell = concat(local.runs_may["run"], [local.sessions]), tunnel = [local.sessions] },
    # it starts no tasks; what the other services may, a run may too
    { for part in keys(local.services) : part => local.runs_may["run"] if var.together },
  )
  may = { for part in keys(local.parts) : part => local.all_may[part] }
}

data "aws_iam_policy_document" "task" {
  for_each = local.may

  dynamic "statement" {
    for_each = each.value

    content {
      sid       = statement.value.sid
      actions   = statement.value.actions
      resources = statement.value.resources

      dynamic "condition" {
        for_each = try([statement.value.condition], [])

        content {
          test     = condition.value.test
          variable = condition.value.variable
          values   = condition.value.values
        }
      }
    }
  }
}

resource "aws_iam_role_policy" "task" {
  for_each = local.may
  name     = "part"
  role     = var.roles.task[each.key].name
  policy   = data.aws_iam_policy_document.task[each.key].json
}

data "aws_iam_policy_document" "execution" {
  for_each = local.parts

  # AWS supports no resource for this action
  statement {
    sid       = "LogInToTheRegistry"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }

  statement {
    sid       = "PullTheImage"
    actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    resources = [var.registry_arn]
  }

  statement {
    sid       = "WriteItsLog"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = [for name in keys(each.value.containers) : "${aws_cloudwatch_log_group.part[local.log_group[name]].arn}:log-stream:*"]
  }

  dynamic "statement" {
    for_each = length(local.secrets[each.key]) == 0 ? [] : [values(local.secrets[each.key])]

    content {
      sid       = "ReadItsSecrets"
      actions   = ["secretsmanager:GetSecretValue"]
      resources = statement.value
    }
  }
}

resource "aws_iam_role_policy" "execution" {
  for_each = local.parts
  name     = "start"
  role     = var.roles.execution[each.key].name
  policy   = data.aws_iam_policy_document.execution[each.key].json
}
