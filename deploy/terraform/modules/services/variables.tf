variable "name" {
  description = "Prefix of the names of all resources."
  type        = string
}

variable "image" {
  description = "The image of all parts."
  type        = string
}

variable "cpu_architecture" {
  description = "CPU architecture of the image: X86_64 or ARM64."
  type        = string
}

variable "together" {
  description = "Whether the services are containers of one task, that of the daemon, in which runs are processes."
  type        = bool
}

variable "few_runs" {
  description = "Whether three runs at most are tasks at the same time, instead of ten."
  type        = bool
}

variable "container_insights" {
  description = "Whether CloudWatch receives the metrics of Container Insights."
  type        = bool
}

variable "sizes" {
  description = "CPU units and MB of memory of each part, in combinations that Fargate supports. Tags of a run override its size."
  type = object({
    code_server = object({ cpu = number, memory = number })
    daemon      = object({ cpu = number, memory = number })
    run         = object({ cpu = number, memory = number })
    webserver   = object({ cpu = number, memory = number })
  })
}

variable "settings" {
  description = "Settings of the platform: environment variables by name."
  type        = map(string)
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "task_subnet_ids" {
  description = "Subnets of the tasks."
  type        = list(string)
}

variable "public_tasks" {
  description = "Whether tasks have public addresses."
  type        = bool
}

variable "private_subnet_ids" {
  description = "Subnets of an internal load balancer."
  type        = list(string)
}

variable "public_subnet_ids" {
  description = "Subnets of a load balancer that is not internal."
  type        = list(string)
}

variable "security_group_ids" {
  description = "Security groups, by part."
  type        = map(string)
}

variable "storage" {
  description = "Dagster's database."
  type = object({
    address             = string
    port                = number
    user                = string
    database            = string
    password_secret_arn = string
  })
}

variable "database_url_secret_arns" {
  description = "ARNs of the secrets with the URLs of totesys and the warehouse."
  type        = map(string)
}

variable "bucket_arns" {
  description = "ARNs of the buckets, by stage."
  type        = map(string)
}

variable "bucket_urls" {
  description = "URLs of the buckets, by stage."
  type        = map(string)
}

variable "compute_logs" {
  description = "The bucket for the output of runs."
  type        = object({ id = string, arn = string })
}

variable "registry_arn" {
  description = "ARN of the container registry."
  type        = string
}

variable "roles" {
  description = "Names and ARNs of the roles of the parts: of the `task` itself, and of its `execution` by ECS."
  type        = map(map(object({ name = string, arn = string })))
}

variable "alerts_topic_arn" {
  description = "ARN of the SNS topic for alerts."
  type        = string
}

variable "log_retention_days" {
  description = "Days to keep logs."
  type        = number
}

variable "url" {
  description = "URL of the UI."
  type        = string
}

variable "balancer" {
  description = "The load balancer: the UI's host name, the ACM certificate for it, and whether it is reachable within the VPC only. Null: none."
  type        = object({ host = string, certificate_arn = string, internal = bool })
}

variable "login" {
  description = "OpenID Connect login in front of the UI; null: access is restricted by address only."
  type = object({
    issuer                 = string
    authorization_endpoint = string
    token_endpoint         = string
    user_info_endpoint     = string
    client_id              = string
    client_secret          = string
  })
}
