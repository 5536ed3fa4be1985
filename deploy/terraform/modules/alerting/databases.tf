# The alarms on each database.

locals {
  megabyte = 1024 * 1024

  database_alarms = merge([for database, limits in var.databases : {
    for resource, alarm in {
      storage = {
        description = "The disk of ${database} is nearly full and cannot grow further."
        metric      = { name = "FreeStorageSpace", statistic = "Minimum" }
        is          = "LessThanThreshold"
        threshold   = 2048 * local.megabyte
        periods     = 3
      }
      cpu = {
        description = "The CPU of ${database} was busy for half an hour."
        metric      = { name = "CPUUtilization", statistic = "Average" }
        is          = "GreaterThanThreshold"
        threshold   = 90
        periods     = 6
      }
      memory = {
        description = "${database} has less than 64 MB of memory left."
        metric      = { name = "FreeableMemory", statistic = "Average" }
        is          = "LessThanThreshold"
        threshold   = 64 * local.megabyte
        periods     = 3
      }
      connections = {
        description = "${database} has more than ${limits.connections} connections."
        metric      = { name = "DatabaseConnections", statistic = "Maximum" }
        is          = "GreaterThanThreshold"
        threshold   = limits.connections
        periods     = 3
      }
      # for three hours, because a new instance begins without any
      credits = {
        description = "${database} has no CPU credits left, and more CPU is charged for: it needs a larger class."
        metric      = { name = "CPUCreditBalance", statistic = "Maximum" }
        is          = "LessThanThreshold"
        threshold   = 1
        periods     = 36
      }
      } : "${resource}-of-${database}" => merge(alarm, {
        metric  = merge(alarm.metric, { namespace = "AWS/RDS", dimensions = { DBInstanceIdentifier = database } })
        seconds = 300
        missing = "missing"
    }) if resource != "credits" || limits.burstable
  }]...)
}
