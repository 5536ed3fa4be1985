# One role a part for what it does, and one for what ECS does to start it.

locals {
  account     = data.aws_caller_identity.this.account_id
  region      = data.aws_region.this.name
  ecs         = "arn:${data.aws_partition.this.partition}:ecs:${local.region}:${local.account}"
  ingestion   = var.bucket_arns["ingestion"]
  transformed = var.bucket_arns["transformation"]

  # Dagster describes the run's task definition where it watches or stops runs. AWS knows no resource for this action.
  launches = {
    sid       = "KnowTheLauncher"
    actions   = ["ecs:DescribeTaskDefinition"]
    resources = ["*"]
  }

  may = {
    code-server = [
      # `catch_up` and `source_activity` look for the newest captures
      { sid = "ListCaptures", actions = ["s3:ListBucket"], resources = [local.ingestion] },
      { sid = "ReadCaptures", actions = ["s3:GetObject"], resources = ["${local.ingestion}/*"] },
      { sid = "Alert", actions = ["sns:Publish"], resources = [var.alerts_topic_arn] },
    ]
    daemon = [
      local.launches,
      { sid = "StartRuns", actions = ["ecs:RunTask"], resources = ["${local.ecs}:task-definition/${local.family["run"]}:*"],
      condition = { test = "ArnEquals", variable = "ecs:cluster", values = [aws_ecs_cluster.this.arn] } },
      { sid = "TagRuns", actions = ["ecs:TagResource"], resources = ["${local.ecs}:task/${var.name}/*"],
      condition = { test = "StringEquals", variable = "ecs:CreateAction", values = ["RunTask"] } },
      { sid = "WatchAndStopRuns", actions = ["ecs:DescribeTasks", "ecs:StopTask"], resources = ["${local.ecs}:task/${var.name}/*"] },
      # where it runs itself, runs run too; AWS knows no resource for this action
      { sid = "SeeItsNetwork", actions = ["ec2:DescribeNetworkInterfaces"], resources = ["*"] },
      { sid       = "GiveRunsTheirRoles", actions = ["iam:PassRole"],
        resources = [aws_iam_role.task["run"].arn, aws_iam_role.execution["run"].arn],
      condition = { test = "StringEquals", variable = "iam:PassedToService", values = ["ecs-tasks.amazonaws.com"] } },
      # of a run that died, for its event log
      { sid = "ReadLastWords", actions = ["logs:GetLogEvents"], resources = ["${aws_cloudwatch_log_group.part["run"].arn}:log-stream:*"] },
    ]
    run = [
      { sid = "ListFiles", actions = ["s3:ListBucket"], resources = [local.ingestion, local.transformed] },
      { sid = "ReadAndWriteFiles", actions = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"],
      resources = ["${local.ingestion}/*", "${local.transformed}/*"] },
      # it looks whether they are there already
      { sid = "WriteComputeLogs", actions = ["s3:GetObject", "s3:PutObject"], resources = ["${var.compute_logs.arn}/*"] },
      # AWS knows no resource for this action
      { sid = "TellLoads", actions = ["cloudwatch:PutMetricData"], resources = ["*"],
      condition = { test = "StringEquals", variable = "cloudwatch:namespace", values = [var.name] } },
    ]
    webserver = [
      local.launches,
      { sid = "StopRuns", actions = ["ecs:DescribeTasks", "ecs:StopTask"], resources = ["${local.ecs}:task/${var.name}/*"] },
      { sid = "ShowComputeLogs", actions = ["s3:GetObject"], resources = ["${var.compute_logs.arn}/*"] },
    ]
  }
}

# Each as the Amazon ECS developer guide has it, under “Amazon ECS task IAM role” and “task execution IAM role”.
data "aws_iam_policy_document" "trust" {
  for_each = toset(["task", "execution"])

  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }

    dynamic "condition" {
      for_each = each.key == "task" ? {
        StringEquals = { variable = "aws:SourceAccount", value = local.account }
        ArnLike      = { variable = "aws:SourceArn", value = "${local.ecs}:*" }
      } : {}

      content {
        test     = condition.key
        variable = condition.value.variable
        values   = [condition.value.value]
      }
    }
  }
}

resource "aws_iam_role" "task" {
  for_each             = local.parts
  name                 = "${var.name}-${each.key}"
  description          = "What the ${each.key} does."
  assume_role_policy   = data.aws_iam_policy_document.trust["task"].json
  permissions_boundary = var.boundary_arn
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
  for_each = aws_iam_role.task
  name     = "part"
  role     = each.value.id
  policy   = data.aws_iam_policy_document.task[each.key].json
}

resource "aws_iam_role" "execution" {
  for_each             = local.parts
  name                 = "${var.name}-${each.key}-start"
  description          = "What ECS does to start the ${each.key}."
  assume_role_policy   = data.aws_iam_policy_document.trust["execution"].json
  permissions_boundary = var.boundary_arn
}

data "aws_iam_policy_document" "execution" {
  for_each = local.parts

  # AWS knows no resource for this action
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
    resources = ["${aws_cloudwatch_log_group.part[each.key].arn}:log-stream:*"]
  }

  statement {
    sid       = "ReadItsSecrets"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = values(each.value.secrets)
  }
}

resource "aws_iam_role_policy" "execution" {
  for_each = aws_iam_role.execution
  name     = "start"
  role     = each.value.id
  policy   = data.aws_iam_policy_document.execution[each.key].json
}
