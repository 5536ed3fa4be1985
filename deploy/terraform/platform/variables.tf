variable "region" {
  description = "Region of all resources."
  type        = string
}

variable "environment" {
  description = "Name of the environment, as in `permanent`."
  type        = string
}

variable "state_bucket" {
  description = "The bucket for the states, created by `state`."
  type        = string
}

variable "image_tag" {
  description = "Tag of the image in the registry."
  type        = string
}

variable "cpu_architecture" {
  description = "CPU architecture of the image: X86_64 or ARM64."
  type        = string
  default     = "X86_64"
}

variable "network" {
  description = <<-EOT
    cidr: the address range of the VPC.
    nat_gateway: whether tasks can reach the internet, about 37 USD per month. Needed if totesys is there.
    public_tasks: whether tasks reach the internet by public addresses of their own, about 4 USD per month each, to which
      nobody can connect. Then neither a NAT gateway nor endpoints are needed.
    interface_endpoints: AWS services reached without it, about 8 USD per month, service and zone. Only one of the two is
      needed: without a NAT gateway, all of those that the platform uses.
    routes: ways to other networks, such as that of totesys: by address range, the ID of a peering connection, transit
      gateway or virtual private gateway.
    existing: a VPC to use instead. Its private subnets must reach AWS.
  EOT
  type = object({
    cidr                = optional(string, "10.20.0.0/16")
    nat_gateway         = optional(bool, true)
    public_tasks        = optional(bool, false)
    interface_endpoints = optional(set(string), [])
    routes              = optional(map(string), {})
    existing = optional(object({
      vpc_id             = string
      private_subnet_ids = list(string)
      public_subnet_ids  = list(string)
    }))
  })
  default = {}

  validation {
    condition = var.network.existing != null || var.network.nat_gateway || var.network.public_tasks || length(setsubtract([
      "ec2", "ecr.api", "ecr.dkr", "ecs", "logs", "monitoring", "secretsmanager", "sns", "ssmmessages",
    ], var.network.interface_endpoints)) == 0
    error_message = "Without a NAT gateway or public_tasks, tasks reach AWS through interface_endpoints only: ec2, ecr.api, ecr.dkr, ecs, logs, monitoring, secretsmanager, sns and ssmmessages."
  }

  validation {
    condition     = alltrue([for id in values(var.network.routes) : can(regex("^(pcx|tgw|vgw)-", id))])
    error_message = "Routes lead to a peering connection (pcx-…), a transit gateway (tgw-…) or a virtual private gateway (vgw-…)."
  }
}

variable "totesys" {
  description = "Addresses and port of totesys, and of a warehouse that is not created here, that tasks may connect to."
  type        = object({ cidrs = set(string), port = optional(number, 5432) })
}

variable "readers" {
  description = <<-EOT
    Who may connect to the warehouse created here, besides the platform: security groups of this VPC or a peered one, and
    address ranges of networks that are connected to it. It has no public address: a tunnel needs neither (docs/deployment.md).
  EOT
  type        = object({ security_group_ids = optional(set(string), []), cidrs = optional(set(string), []) })
  default     = {}

  validation {
    condition     = alltrue([for cidr in var.readers.cidrs : can(cidrnetmask(cidr)) && tonumber(split("/", cidr)[1]) >= 8])
    error_message = "The warehouse is for known readers: IPv4 ranges of /8 or narrower."
  }
}

variable "allowed_cidrs" {
  description = "Addresses that may reach the UI; empty: none. All addresses only with a login."
  type        = set(string)
  default     = []

  validation {
    condition     = var.login != null || try(var.balancer.internal, true) || alltrue([for cidr in var.allowed_cidrs : tonumber(split("/", cidr)[1]) >= 16])
    error_message = "Dagster's UI has no login of its own: set login, make the balancer internal, or admit ranges of /16 or narrower only."
  }

  validation {
    condition     = var.balancer != null || (length(var.allowed_cidrs) == 0 && var.login == null)
    error_message = "Without a balancer, allowed_cidrs and login let nobody in."
  }
}

variable "balancer" {
  description = <<-EOT
    The load balancer: the UI's host name, the ACM certificate for it, and whether it is reachable within the VPC only.
    Null: none, and `deploy/deploy ENV tunnel ui` leads to the UI.
  EOT
  type        = object({ host = string, certificate_arn = string, internal = optional(bool, false) })
  default     = null
}

variable "login" {
  description = <<-EOT
    OpenID Connect login in front of the UI; null: none. Its client secret is the value of the secret
    `totesys-etl-<environment>/login-client-secret`, and in the state, which is encrypted.
  EOT
  type = object({
    issuer                 = string
    authorization_endpoint = string
    token_endpoint         = string
    user_info_endpoint     = string
    client_id              = string
  })
  default = null
}

variable "together" {
  description = <<-EOT
    Whether the services are containers of one task, of the size of `daemon`, in which runs are processes, two at most at a
    time. Enough for some dozens of orders a day; a deployment interrupts runs, which then start again.
  EOT
  type        = bool
  default     = false
}

variable "few_runs" {
  description = "Whether three runs at most are tasks at the same time, instead of ten: for an account with a small quota."
  type        = bool
  default     = false
}

variable "monitoring" {
  description = <<-EOT
    container_insights: CloudWatch's metrics of tasks. Without them, alarms count samples of the CPU of services.
    dashboard: one page of CloudWatch, 3 USD per month.
  EOT
  type = object({
    container_insights = optional(bool, true)
    dashboard          = optional(bool, true)
  })
  default = {}
}

variable "storage" {
  description = "The RDS PostgreSQL instance of Dagster's storage; null: a database in that of the warehouse. See modules/database."
  type = object({
    class            = optional(string, "db.t4g.micro")
    storage          = optional(number, 20)
    storage_at_most  = optional(number, 100)
    standby          = optional(bool, false)
    many_connections = optional(number, 60)
    kept             = optional(bool, true)
    password_version = optional(number, 1)
  })
  default = {}

  validation {
    condition     = var.storage != null || (var.warehouse != null && var.together)
    error_message = "Without storage, Dagster's database is in the warehouse created here, and made there by the task of all services: set warehouse and together."
  }
}

variable "warehouse" {
  description = "The RDS PostgreSQL instance of the warehouse; null: the warehouse is elsewhere. See modules/database."
  type = object({
    class            = optional(string, "db.t4g.small")
    storage          = optional(number, 20)
    storage_at_most  = optional(number, 500)
    standby          = optional(bool, false)
    many_connections = optional(number, 120)
    kept             = optional(bool, true)
    password_version = optional(number, 1)
  })
  default = null
}

variable "sizes" {
  description = "CPU units and MB of memory of each part, in combinations that Fargate supports."
  type = object({
    code_server = optional(object({ cpu = number, memory = number }), { cpu = 512, memory = 1024 })
    daemon      = optional(object({ cpu = number, memory = number }), { cpu = 512, memory = 1024 })
    run         = optional(object({ cpu = number, memory = number }), { cpu = 1024, memory = 2048 })
    webserver   = optional(object({ cpu = number, memory = number }), { cpu = 512, memory = 1024 })
  })
  default = {}

  # Amazon ECS developer guide, “Task CPU and memory”
  validation {
    condition = alltrue([for size in values(var.sizes) : contains(
      lookup({
        256  = [512, 1024, 2048]
        512  = range(1024, 4097, 1024)
        1024 = range(2048, 8193, 1024)
        2048 = range(4096, 16385, 1024)
        4096 = range(8192, 30721, 1024)
      }, size.cpu, []),
      size.memory,
    )])
    error_message = "Fargate has no task of such a size."
  }
}

variable "settings" {
  description = "Settings of the platform, as in docs/configuration.md: AUTOMATION, PARTITIONS_START, ETL_CRON, …"
  type        = map(string)
  default     = {}

  validation {
    condition = length(setsubtract(keys(var.settings), [
      "AUTOMATION", "PARTITIONS_START", "ACTIVITY_MIN_PAUSE_SECONDS", "ETL_CRON", "FULL_CAPTURE_CRON",
      "REBUILD_OUTDATED", "FRESHNESS_WARN_MINUTES", "FRESHNESS_FAIL_MINUTES",
    ])) == 0
    error_message = "Settings are AUTOMATION, PARTITIONS_START, ACTIVITY_MIN_PAUSE_SECONDS, ETL_CRON, FULL_CAPTURE_CRON, REBUILD_OUTDATED and FRESHNESS_…_MINUTES."
  }

  validation {
    condition     = try(timecmp("${lookup(var.settings, "PARTITIONS_START", "2000-01-01")}T00:00:00Z", plantimestamp()) <= 0, false)
    error_message = "PARTITIONS_START must be a date that is not in the future, such as 2026-11-01."
  }
}

variable "log_retention_days" {
  description = "Days to keep logs: one of the values that CloudWatch supports."
  type        = number
  default     = 90
}
