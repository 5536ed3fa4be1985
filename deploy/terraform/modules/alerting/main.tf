# Alarms for what Dagster itself cannot report. They go to the same topic as the messages of the sensor `alerts`. What the
# sensor reports too is an alarm only while the sensor is silent, so that one event is one message.

variable "name" {
  description = "Prefix of the names of all resources, and the namespace of the platform's own metrics."
  type        = string
}

variable "topic_arn" {
  description = "The SNS topic that receives the alarms."
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

variable "part_of_runs" {
  description = "The part whose log group has the lines of runs."
  type        = string
}

variable "monitoring" {
  description = "Whether there are the metrics of Container Insights, and a dashboard."
  type        = object({ container_insights = bool, dashboard = bool })
}

variable "balancer" {
  description = "Names of the load balancer and its targets in metrics. Null: none."
  type        = object({ suffix = string, target_group = string })
}

variable "databases" {
  description = "RDS instances created here, by name: the number of connections that is too high, and whether the CPU is paid for in credits."
  type        = map(object({ connections = number, burstable = bool }))
}

variable "automated" {
  description = "Whether something is loaded without anybody asking for it."
  type        = bool
}

variable "late_after_minutes" {
  description = "Maximum time without a load, and maximum age of a capture when it is loaded."
  type        = number
}

locals {
  failed_steps = { for stage in ["ingestion", "transformation", "warehouse", "reports"] : stage => "Failed${title(stage)}Steps" }

  # by part, the alarm on the service that it belongs to: the daemon's, if the services are one task
  absence = { for part in ["code-server", "daemon", "webserver"] : part => "no-${contains(var.services, part) ? part : "daemon"}" }

  # Every line of every log is JSON (etl_assets/adapters/json_lines.py).
  filters = concat(
    # the sensor has sent what it logs
    [for part in keys(var.log_groups) : { metric = "CriticalLines", part = part
    pattern = "{ ($.level = \"CRITICAL\") && ($.logger != \"etl_assets.alerts\") }" }],
    [for stage, metric in local.failed_steps : { metric = metric, part = var.part_of_runs
    pattern = "{ ($.event = \"STEP_FAILURE\") && ($.stage = \"${stage}\") }" }],
    [{ metric = "DeliveredAlerts", part = "code-server", pattern = "{ $.event = \"ALERTS_DELIVERED\" }" }],
  )

  # datapoints: of `periods`, how many must breach; without it, all.
  # with, without: the alarm speaks only while those alarms are in ALARM, or are not.
  alarms = merge(
    {
      critical = {
        description = "A log contains a line of level CRITICAL, which a person must act on."
        metric      = { namespace = var.name, name = "CriticalLines", statistic = "Sum", dimensions = {} }
        is          = "GreaterThanOrEqualToThreshold"
        threshold   = 1
        seconds     = 300
        periods     = 1
        missing     = "notBreaching"
      }
      # It notices silence later than the alarms on the services notice their absence, and its end sooner.
      alerts-silent = {
        description = "The alerts sensor has delivered nothing for ten minutes: it is off, fails, cannot reach SNS, or the daemon hangs. Until it is back, CloudWatch reports failed steps and late loads."
        metric      = { namespace = var.name, name = "DeliveredAlerts", statistic = "Sum", dimensions = {} }
        is          = "LessThanThreshold"
        threshold   = 1
        seconds     = 60
        periods     = 10
        missing     = "breaching"
        without     = distinct([local.absence["daemon"], local.absence["code-server"]])
      }
      no-loads = {
        description = "Nothing was loaded for ${var.late_after_minutes} minutes, and the alerts sensor is silent."
        metric      = { namespace = var.name, name = "RowsLoaded", statistic = "SampleCount", dimensions = {} }
        is          = "LessThanThreshold"
        threshold   = 1
        seconds     = 60 * var.late_after_minutes
        periods     = 1
        missing     = "breaching"
        with        = ["alerts-silent"]
      }
      late-loads = {
        description = "A capture was loaded more than ${var.late_after_minutes} minutes after it was made, and the alerts sensor is silent."
        metric      = { namespace = var.name, name = "SecondsFromCaptureToLoad", statistic = "Maximum", dimensions = {} }
        is          = "GreaterThanThreshold"
        threshold   = 60 * var.late_after_minutes
        seconds     = 300
        periods     = 1
        missing     = "notBreaching"
        with        = ["alerts-silent"]
      }
    },
    { for stage, metric in local.failed_steps : "failed-${stage}" => {
      description = "A step of ${stage} failed, after its retries, and the alerts sensor is silent."
      metric      = { namespace = var.name, name = metric, statistic = "Sum", dimensions = {} }
      is          = "GreaterThanOrEqualToThreshold"
      threshold   = 1
      seconds     = 300
      periods     = 6 # until silence that began just before is noticed
      datapoints  = 1
      missing     = "notBreaching"
      with        = ["alerts-silent"]
    } },
    { for service in var.services : "no-${service}" => {
      description = "No task of the service ${service} ran for six of twelve minutes."
      metric      = merge(local.running_tasks, { dimensions = { ClusterName = var.cluster, ServiceName = service } })
      is          = "LessThanThreshold"
      threshold   = 1
      seconds     = 60
      periods     = 12
      datapoints  = 6 # so it ends when the service is back for six minutes
      missing     = "breaching"
    } },
    { for balancer in var.balancer[*] : "unhealthy-webserver" => {
      description = "The load balancer finds no healthy webserver."
      metric = {
        namespace  = "AWS/ApplicationELB"
        name       = "HealthyHostCount"
        statistic  = "Maximum"
        dimensions = { LoadBalancer = balancer.suffix, TargetGroup = balancer.target_group }
      }
      is        = "LessThanThreshold"
      threshold = 1
      seconds   = 60
      periods   = 10
      missing   = "breaching"
      without   = [local.absence["webserver"]]
    } },
    { for origin, metric in { webserver = "HTTPCode_Target_5XX_Count", balancer = "HTTPCode_ELB_5XX_Count" } : "errors-of-${origin}" => {
      description                       = "The ${origin} answered ten requests with an error (5xx) in each of three times five minutes."
      metric                            = { namespace = "AWS/ApplicationELB", name = metric, statistic = "Sum", dimensions = { LoadBalancer = try(var.balancer.suffix, null) } }
      is                                = "GreaterThanOrEqualToThreshold"
      threshold                         = 10
      seconds                           = 300
      periods                           = 3 # by then it is known whether there is a webserver at all
      missing                           = "notBreaching"
      without                           = [local.absence["webserver"], "unhealthy-webserver"]
    } if var.balancer != null },
    local.database_alarms,
  )

  # Every running task sends a sample of its CPU per minute, which costs nothing.
  running_tasks = var.monitoring.container_insights ? {
    namespace = "ECS/ContainerInsights", name = "RunningTaskCount", statistic = "Maximum"
  } : { namespace = "AWS/ECS", name = "CPUUtilization", statistic = "SampleCount" }

  conditional = { for name, alarm in local.alarms : name => alarm if can(alarm.with) || can(alarm.without) }
  silent      = var.automated ? [] : ["no-loads"]
}

resource "aws_cloudwatch_log_metric_filter" "this" {
  for_each       = { for filter in local.filters : "${filter.metric}-${filter.part}" => filter }
  name           = each.key
  log_group_name = var.log_groups[each.value.part]
  pattern        = each.value.pattern

  metric_transformation {
    namespace = var.name
    name      = each.value.metric
    value     = "1"
  }
}

# An alarm with a condition sends nothing itself: the composite alarm of its name does.
resource "aws_cloudwatch_metric_alarm" "this" {
  for_each            = local.alarms
  alarm_name          = "${var.name}-${each.key}${contains(keys(local.conditional), each.key) ? "-signal" : ""}"
  alarm_description   = "${each.value.description} docs/operations.md says what to do."
  namespace           = each.value.metric.namespace
  metric_name         = each.value.metric.name
  dimensions          = each.value.metric.dimensions
  statistic           = each.value.metric.statistic
  comparison_operator = each.value.is
  threshold           = each.value.threshold
  period              = each.value.seconds
  evaluation_periods  = each.value.periods
  datapoints_to_alarm = try(each.value.datapoints, each.value.periods)
  treat_missing_data  = each.value.missing
  alarm_actions       = contains(keys(local.conditional), each.key) ? [] : [var.topic_arn]
  ok_actions          = contains(keys(local.conditional), each.key) ? [] : [var.topic_arn]
}

resource "aws_cloudwatch_composite_alarm" "this" {
  for_each          = local.conditional
  alarm_name        = "${var.name}-${each.key}"
  alarm_description = aws_cloudwatch_metric_alarm.this[each.key].alarm_description
  actions_enabled   = !contains(local.silent, each.key)
  alarm_actions     = [var.topic_arn]
  ok_actions        = [var.topic_arn]

  alarm_rule = join(" AND ", concat(
    [for name in concat([each.key], try(each.value.with, [])) : "ALARM(\"${aws_cloudwatch_metric_alarm.this[name].alarm_name}\")"],
    [for name in try(each.value.without, []) : "NOT ALARM(\"${aws_cloudwatch_metric_alarm.this[name].alarm_name}\")"],
  ))
}
