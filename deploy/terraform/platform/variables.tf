variable "region" {
  description = "Region of everything."
  type        = string
}

variable "environment" {
  description = "Name of the environment, as in `permanent`."
  type        = string
}

variable "state_bucket" {
  description = "The bucket of the states, made by `state`."
  type        = string
}

variable "image_tag" {
  description = "Tag of the image in the registry."
  type        = string
}

variable "cpu_architecture" {
  description = "What the image is built for: X86_64 or ARM64."
  type        = string
  default     = "X86_64"
}

variable "network" {
  description = <<-EOT
    cidr: the addresses of the VPC.
    nat_gateway: whether tasks reach the internet: needed if totesys is there, or an endpoint is missing.
    interface_endpoints: AWS services reached without leaving the VPC, each for some 8 USD a month and zone.
    existing: a VPC to use instead; its private subnets must reach AWS.
  EOT
  type = object({
    cidr                = optional(string, "10.20.0.0/16")
    nat_gateway         = optional(bool, true)
    interface_endpoints = optional(set(string), [])
    existing = optional(object({
      vpc_id             = string
      private_subnet_ids = list(string)
      public_subnet_ids  = list(string)
    }))
  })
  default = {}

  validation {
    condition     = var.network.existing != null || var.network.nat_gateway || length(var.network.interface_endpoints) > 0
    error_message = "Without a NAT gateway tasks reach AWS through interface_endpoints alone: name them."
  }
}

variable "totesys" {
  description = "Where totesys, and a warehouse that is not made here, are: the addresses tasks may connect to, and the port."
  type        = object({ cidrs = set(string), port = optional(number, 5432) })
}

variable "allowed_cidrs" {
  description = "From where the UI may be reached; nobody, if empty. From everywhere only with a login."
  type        = set(string)
  default     = []

  validation {
    condition     = var.login != null || alltrue([for cidr in var.allowed_cidrs : tonumber(split("/", cidr)[1]) >= 8])
    error_message = "Dagster's UI has no login of its own: name the addresses that may reach it, or set login."
  }
}

variable "balancer" {
  description = "The way in: the UI's host name, the certificate of that name in ACM, and whether it is within the VPC only."
  type        = object({ host = string, certificate_arn = string, internal = optional(bool, false) })
}

variable "login" {
  description = "OpenID Connect, before the UI. Its client secret is in the state, which is encrypted."
  type = object({
    issuer                 = string
    authorization_endpoint = string
    token_endpoint         = string
    user_info_endpoint     = string
    client_id              = string
    client_secret          = string
  })
  sensitive = true
  default   = null
}

variable "storage" {
  description = "The RDS PostgreSQL of Dagster's storage; see modules/database."
  type = object({
    class            = optional(string, "db.t4g.micro")
    storage          = optional(number, 20)
    storage_at_most  = optional(number, 100)
    standby          = optional(bool, false)
    kept             = optional(bool, true)
    password_version = optional(number, 1)
  })
  default = {}
}

variable "warehouse" {
  description = "The RDS PostgreSQL of the warehouse; null: it is elsewhere. See modules/database."
  type = object({
    class            = optional(string, "db.t4g.small")
    storage          = optional(number, 20)
    storage_at_most  = optional(number, 500)
    standby          = optional(bool, false)
    kept             = optional(bool, true)
    password_version = optional(number, 1)
  })
  default = null
}

variable "sizes" {
  description = "CPU units and MB of memory of each part, pairs that Fargate knows."
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
  description = "The platform's own settings, as README.md lists them: AUTOMATION, PARTITIONS_START, ETL_CRON, …"
  type        = map(string)
  default     = {}

  validation {
    condition = length(setsubtract(keys(var.settings), [
      "AUTOMATION", "PARTITIONS_START", "ETL_CRON", "FULL_CAPTURE_CRON", "FRESHNESS_WARN_MINUTES", "FRESHNESS_FAIL_MINUTES",
    ])) == 0
    error_message = "Settings are AUTOMATION, PARTITIONS_START, ETL_CRON, FULL_CAPTURE_CRON and FRESHNESS_…_MINUTES."
  }
}

variable "log_retention_days" {
  description = "How long logs are kept; one of the numbers CloudWatch knows."
  type        = number
  default     = 90
}
