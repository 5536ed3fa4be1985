variable "name" {
  description = "What the names of all resources begin with."
  type        = string
}

variable "image" {
  description = "The image of all parts."
  type        = string
}

variable "cpu_architecture" {
  description = "What the image is built for: X86_64 or ARM64."
  type        = string
}

variable "sizes" {
  description = "CPU units and MB of memory of each part, pairs that Fargate knows. A run may ask for another by tag."
  type = object({
    code_server = object({ cpu = number, memory = number })
    daemon      = object({ cpu = number, memory = number })
    run         = object({ cpu = number, memory = number })
    webserver   = object({ cpu = number, memory = number })
  })
}

variable "settings" {
  description = "The platform's own settings: environment variables by name."
  type        = map(string)
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "private_subnet_ids" {
  description = "Subnets of tasks."
  type        = list(string)
}

variable "public_subnet_ids" {
  description = "Subnets of a balancer that is not internal."
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
  description = "ARNs of the secrets with the URLs of totesys and warehouse."
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
  description = "The bucket of what runs print."
  type        = object({ id = string, arn = string })
}

variable "registry_arn" {
  description = "ARN of the container registry."
  type        = string
}

variable "boundary_arn" {
  description = "ARN of the policy that bounds the roles."
  type        = string
}

variable "alerts_topic_arn" {
  description = "ARN of the SNS topic for alerts."
  type        = string
}

variable "log_retention_days" {
  description = "How long logs are kept."
  type        = number
}

variable "balancer" {
  description = "The way in: the UI's host name, the certificate of that name in ACM, and whether it is within the VPC only."
  type        = object({ host = string, certificate_arn = string, internal = bool })
}

variable "login" {
  description = "OpenID Connect, before the UI; null: the addresses are all that is asked for."
  sensitive   = true
  type = object({
    issuer                 = string
    authorization_endpoint = string
    token_endpoint         = string
    user_info_endpoint     = string
    client_id              = string
    client_secret          = string
  })
}
