# A PostgreSQL of RDS, over TLS only. Its password is made here, is in a secret, and in no state.

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
    Its size: class, storage in GB at first and at most, whether there is a standby in another zone.
    kept: it cannot be destroyed, and leaves a snapshot when it is after all.
    password_version: raise it to change the password.
  EOT
  type = object({
    class            = string
    storage          = number
    storage_at_most  = number
    standby          = bool
    kept             = bool
    password_version = number
  })
}

variable "subnet_ids" {
  description = "Subnets, in two zones at least."
  type        = list(string)
}

variable "security_group_id" {
  description = "Its security group."
  type        = string
}

variable "url_secret_arn" {
  description = "A secret that is to hold its URL; null: none."
  type        = string
  default     = null
}

locals {
  user = "etl"
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

# Read back: had an earlier apply ended half-way, the secret would hold another password than the one made now. Not by a
# plan, which knows no `timestamp()`: who plans need not be allowed to read it.
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

resource "aws_db_instance" "this" {
  identifier                      = var.name
  engine                          = "postgres"
  engine_version                  = "17"
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
  enabled_cloudwatch_logs_exports = ["postgresql", "upgrade"]
  deletion_protection             = var.instance.kept
  skip_final_snapshot             = !var.instance.kept
  final_snapshot_identifier       = var.instance.kept ? "${var.name}-last" : null
  apply_immediately               = true
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
  description = "Who owns the database."
  value       = local.user
}

output "database" {
  description = "Name of the database."
  value       = var.database
}

output "password_secret_arn" {
  description = "ARN of the secret with the password."
  value       = aws_secretsmanager_secret.password.arn
}
