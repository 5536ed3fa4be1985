# What is told when Dagster itself cannot: all of it goes to the topic that the platform's own alerts go to.

variable "name" {
  description = "What the names of all resources begin with, and the namespace of the platform's own metrics."
  type        = string
}

variable "topic_arn" {
  description = "Who is told."
  type        = string
}

variable "log_groups" {
  description = "Names of the log groups, by part."
  type        = map(string)
}

variable "cluster" {
  description = "Name of the cluster."
  type        = string
}

variable "services" {
  description = "Names of the services."
  type        = set(string)
}

variable "balancer" {
  description = "The balancer and its targets, as their metrics call them."
  type        = object({ suffix = string, target_group = string })
}

variable "databases" {
  description = "Instances of RDS made here: by name, the GB at which storage is short."
  type        = map(number)
}

variable "late_after_minutes" {
  description = "How long no load may arrive, and how old one may be."
  type        = number
}

locals {
  gigabyte = 1024 * 1024 * 1024

  patterns = {
    CriticalLines = "{ $.level = \"CRITICAL\" }"
    # JSON of Dagster's own events, in the log of runs
    FailedLoads = "{ ($.event = \"STEP_FAILURE\") && ($.step = \"warehouse\") }"
  }

  filtered = merge(
    { for part, group in var.log_groups : "CriticalLines ${part}" => { metric = "CriticalLines", group = group } },
    { "FailedLoads run" = { metric = "FailedLoads", group = var.log_groups["run"] } },
  )

  alarms = merge(
    {
      critical = {
        description = "A line of level CRITICAL is in a log: what a person must act on. It is in the alert of the same minute too, unless SNS did not take that."
        metric      = { namespace = var.name, name = "CriticalLines", statistic = "Sum", dimensions = {} }
        is          = "GreaterThanOrEqualToThreshold"
        threshold   = 1
        seconds     = 300
        periods     = 1
        missing     = "notBreaching"
      }
      failed-loads = {
        description = "A load failed, after its retries."
        metric      = { namespace = var.name, name = "FailedLoads", statistic = "Sum", dimensions = {} }
        is          = "GreaterThanOrEqualToThreshold"
        threshold   = 1
        seconds     = 900
        periods     = 1
        missing     = "notBreaching"
      }
      no-loads = {
        description = "The dead-man's switch: nothing was loaded. Dagster itself may be dead."
        metric      = { namespace = var.name, name = "RowsLoaded", statistic = "SampleCount", dimensions = {} }
        is          = "LessThanThreshold"
        threshold   = 1
        seconds     = 60 * var.late_after_minutes
        periods     = 1
        missing     = "breaching"
      }
      late-loads = {
        description = "A capture was loaded later than promised."
        metric      = { namespace = var.name, name = "SecondsFromCaptureToLoad", statistic = "Maximum", dimensions = {} }
        is          = "GreaterThanThreshold"
        threshold   = 60 * var.late_after_minutes
        seconds     = 300
        periods     = 1
        missing     = "notBreaching"
      }
      unhealthy-webserver = {
        description = "The balancer finds no healthy webserver."
        metric = {
          namespace  = "AWS/ApplicationELB"
          name       = "HealthyHostCount"
          statistic  = "Maximum"
          dimensions = { LoadBalancer = var.balancer.suffix, TargetGroup = var.balancer.target_group }
        }
        is        = "LessThanThreshold"
        threshold = 1
        seconds   = 60
        periods   = 10
        missing   = "breaching"
      }
    },
    { for service in var.services : "no-${service}" => {
      description = "No task of the service ${service} runs."
      metric = {
        namespace  = "ECS/ContainerInsights"
        name       = "RunningTaskCount"
        statistic  = "Maximum"
        dimensions = { ClusterName = var.cluster, ServiceName = service }
      }
      is        = "LessThanThreshold"
      threshold = 1
      seconds   = 60
      periods   = 10
      missing   = "breaching"
    } },
    { for database, gigabytes in var.databases : "storage-of-${database}" => {
      description = "The disk of ${database} is nearly full, and grows no more."
      metric = {
        namespace  = "AWS/RDS"
        name       = "FreeStorageSpace"
        statistic  = "Minimum"
        dimensions = { DBInstanceIdentifier = database }
      }
      is        = "LessThanThreshold"
      threshold = gigabytes * local.gigabyte
      seconds   = 300
      periods   = 3
      missing   = "missing"
    } },
  )
}

resource "aws_cloudwatch_log_metric_filter" "this" {
  for_each       = local.filtered
  name           = replace(each.key, " ", "-")
  log_group_name = each.value.group
  pattern        = local.patterns[each.value.metric]

  metric_transformation {
    namespace = var.name
    name      = each.value.metric
    value     = "1"
  }
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each            = local.alarms
  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = "${each.value.description} docs/operations.md says what to do."
  namespace           = each.value.metric.namespace
  metric_name         = each.value.metric.name
  dimensions          = each.value.metric.dimensions
  statistic           = each.value.metric.statistic
  comparison_operator = each.value.is
  threshold           = each.value.threshold
  period              = each.value.seconds
  evaluation_periods  = each.value.periods
  treat_missing_data  = each.value.missing
  alarm_actions       = [var.topic_arn]
  ok_actions          = [var.topic_arn]
}
