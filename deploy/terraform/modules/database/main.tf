# An RDS PostgreSQL instance, reachable over TLS only. Its password is generated here and stored in a secret, but in no
# Terraform state.

variable "name" {
  description = "Name of the instance."
  type        = string
}

variable "database" {
  description = "Name of the database in it."
  type        = string
}

variable "instance" {
  description = <<-EOT
    Size: class, initial and maximum storage in GB, and whether there is a standby in another zone.
    many_connections: the number of connections at which an alarm is raised.
    kept: deletion protection, and a final snapshot if it is deleted after all.
    password_version: raise it to change the password.
  EOT
  type = object({
    class            = string
    storage          = number
    storage_at_most  = number
    standby          = bool
    many_connections = number
    kept             = bool
    password_version = number
  })
}

variable "subnet_ids" {
  description = "Subnets in at least two zones."
  type        = list(string)
}

variable "security_group_id" {
  description = "Its security group."
  type        = string
}

variable "log_retention_days" {
  description = "Days to keep its logs."
  type        = number
}

variable "url_secret_arn" {
  description = "The secret to store its URL in; null: none."
  type        = string
  default     = null
}

locals {
  user = "etl"
  logs = ["postgresql", "upgrade"]
}

ephemeral "aws_secretsmanager_random_password" "this" {
  password_length     = 32
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret" "password" {
  name                    = "${var.name}-password"
  description             = "Password of ${local.user}."
  recovery_window_in_days = 0
}

resource "aws_secretsmanager_secret_version" "password" {
  secret_id                = aws_secretsmanager_secret.password.id
  secret_string_wo         = ephemeral.aws_secretsmanager_random_password.this.random_password
  secret_string_wo_version = var.instance.password_version
}

# Read back, because after an apply that stopped half-way the secret holds another password than the one generated now.
# `timestamp()` is unknown during a plan, so a plan does not read it and needs no permission to.
ephemeral "aws_secretsmanager_secret_version" "password" {
  secret_id  = aws_secretsmanager_secret_version.password.secret_id
  version_id = timestamp() == "" ? null : aws_secretsmanager_secret_version.password.version_id
}

resource "aws_secretsmanager_secret_version" "url" {
  count     = var.url_secret_arn == null ? 0 : 1
  secret_id = var.url_secret_arn
  secret_string_wo = format(
    "postgresql://%s:%s@%s:%d/%s?sslmode=verify-full&sslrootcert=/opt/certificates/rds.pem",
    local.user,
    ephemeral.aws_secretsmanager_secret_version.password.secret_string,
    aws_db_instance.this.address,
    aws_db_instance.this.port,
    var.database,
  )
  secret_string_wo_version = var.instance.password_version
}

resource "aws_db_subnet_group" "this" {
  name       = var.name
  subnet_ids = var.subnet_ids
}

resource "aws_db_parameter_group" "this" {
  name_prefix = "${var.name}-"
  family      = "postgres17"

  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }

  lifecycle {
    create_before_destroy = true
  }
}

# Otherwise RDS creates them itself, and keeps them for ever.
resource "aws_cloudwatch_log_group" "this" {
  for_each          = toset(local.logs)
  name              = "/aws/rds/instance/${var.name}/${each.key}"
  retention_in_days = var.log_retention_days
}

resource "aws_db_instance" "this" {
  identifier                      = var.name
  engine                          = "postgres"
  engine_version                  = "17"
  engine_lifecycle_support        = "open-source-rds-extended-support-disabled" # after its end, RDS upgrades it, at no extra charge
  instance_class                  = var.instance.class
  db_name                         = var.database
  username                        = local.user
  password_wo                     = ephemeral.aws_secretsmanager_secret_version.password.secret_string
  password_wo_version             = var.instance.password_version
  storage_type                    = "gp3"
  storage_encrypted               = true
  allocated_storage               = var.instance.storage
  max_allocated_storage           = var.instance.storage_at_most
  multi_az                        = var.instance.standby
  db_subnet_group_name            = aws_db_subnet_group.this.name
  vpc_security_group_ids          = [var.security_group_id]
  parameter_group_name            = aws_db_parameter_group.this.name
  publicly_accessible             = false
  backup_retention_period         = 7
  copy_tags_to_snapshot           = true
  auto_minor_version_upgrade      = true
  enabled_cloudwatch_logs_exports = local.logs
  deletion_protection             = var.instance.kept
  skip_final_snapshot             = !var.instance.kept
  final_snapshot_identifier       = var.instance.kept ? "${var.name}-last" : null
  apply_immediately               = true
  depends_on                      = [aws_cloudwatch_log_group.this]

  lifecycle {
    ignore_changes = [engine_lifecycle_support] # only a new instance can be given it: otherwise, an older one is replaced
  }
}

output "identifier" {
  description = "Name of the instance."
  value       = aws_db_instance.this.identifier
}

output "address" {
  description = "Its host name."
  value       = aws_db_instance.this.address
}

output "port" {
  description = "Its port."
  value       = aws_db_instance.this.port
}

output "user" {
  description = "Owner of the database."
  value       = local.user
}

output "database" {
  description = "Name of the database."
  value       = var.database
}

output "limits" {
  description = "What alarms on the instance compare with: connections, and whether its CPU is paid for in credits."
  value       = { connections = var.instance.many_connections, burstable = startswith(var.instance.class, "db.t") }
}

output "url_secret_arn" {
  description = "ARN of the secret with its URL, known only when the URL is in it: a task that needs it waits. Null if there is none."
  value       = one(aws_secretsmanager_secret_version.url[*].secret_id)
}

output "password_secret_arn" {
  description = "ARN of the secret with the password."
  value       = aws_secretsmanager_secret.password.arn
}
