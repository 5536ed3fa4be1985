# One page for a person: what is loaded, what failed, and how the machines are.

locals {
  graphs = merge(
    {
      "Loads"                        = { statistic = "SampleCount", metrics = [[var.name, "RowsLoaded"]] }
      "Rows loaded"                  = { statistic = "Sum", metrics = [[var.name, "RowsLoaded"]] }
      "Seconds from capture to load" = { statistic = "Maximum", metrics = [[var.name, "SecondsFromCaptureToLoad"]] }
      "Failed steps, critical lines" = { statistic = "Sum", metrics = [for metric in concat(values(local.failed_steps), ["CriticalLines"]) : [var.name, metric]] }
      "Running tasks" = { statistic = local.running_tasks.statistic, metrics = [
        for service in var.services : [local.running_tasks.namespace, local.running_tasks.name, "ClusterName", var.cluster, "ServiceName", service]
      ] }
    },
    { for balancer in var.balancer[*] : "Requests to the UI, and errors" => { statistic = "Sum", metrics = [
      for metric in ["RequestCount", "HTTPCode_Target_5XX_Count", "HTTPCode_ELB_5XX_Count"] : ["AWS/ApplicationELB", metric, "LoadBalancer", balancer.suffix]
    ] } },
    { for metric, title in {
      CPUUtilization      = "CPU of databases, %"
      CPUCreditBalance    = "CPU credits of databases"
      FreeableMemory      = "Free memory of databases"
      FreeStorageSpace    = "Free storage of databases"
      DatabaseConnections = "Connections to databases"
    } : title => { statistic = "Average", metrics = [for database in keys(var.databases) : ["AWS/RDS", metric, "DBInstanceIdentifier", database]] } },
  )
}

resource "aws_cloudwatch_dashboard" "this" {
  count          = var.monitoring.dashboard ? 1 : 0
  dashboard_name = var.name
  dashboard_body = jsonencode({ widgets = concat(
    [{
      type   = "alarm"
      width  = 24
      height = 4
      properties = {
        title  = "Alarms"
        alarms = concat([for name, alarm in aws_cloudwatch_metric_alarm.this : alarm.arn if !contains(keys(local.conditional), name)], values(aws_cloudwatch_composite_alarm.this)[*].arn)
      }
    }],
    [for title, graph in local.graphs : {
      type       = "metric"
      width      = 8
      height     = 6
      properties = { title = title, region = data.aws_region.this.name, stat = graph.statistic, period = 300, metrics = graph.metrics }
    }],
  ) })
}
