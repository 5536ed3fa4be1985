# What can be destroyed and created again without losing data: network, Dagster, its database, alarms.

terraform {
  required_version = ">= 1.11, < 2"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
  }

  backend "s3" {
    encrypt      = true
    use_lockfile = true
  }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = { application = "totesys-etl", environment = var.environment, lifetime = "platform" }
  }
}

data "terraform_remote_state" "permanent" {
  backend = "s3"

  config = {
    region = var.region
    bucket = var.state_bucket
    key    = "${var.environment}/permanent.tfstate"
  }
}

data "aws_caller_identity" "this" {}

locals {
  name      = "totesys-etl-${var.environment}"
  permanent = data.terraform_remote_state.permanent.outputs
  url       = var.balancer == null ? "http://127.0.0.1:3000" : "https://${var.balancer.host}"

  # without an instance of its own, a database in that of the warehouse
  storage = var.storage == null ? merge(module.warehouse[0], { database = "dagster" }) : module.storage[0]
}

# before 0.2.0, always one
moved {
  from = module.storage
  to   = module.storage[0]
}

module "network" {
  source              = "../modules/network"
  name                = local.name
  cidr                = var.network.cidr
  existing            = var.network.existing
  nat_gateway         = var.network.nat_gateway
  public_tasks        = var.network.public_tasks
  interface_endpoints = var.network.interface_endpoints
  routes              = var.network.routes
  totesys             = var.totesys
  allowed_cidrs       = var.allowed_cidrs
  together            = var.together
  balancer            = var.balancer != null
  storage             = var.storage != null
  warehouse           = var.warehouse != null
  readers             = var.readers
}

module "storage" {
  source             = "../modules/database"
  count              = var.storage == null ? 0 : 1
  name               = "${local.name}-dagster"
  database           = "dagster"
  instance           = var.storage
  subnet_ids         = module.network.private_subnet_ids
  security_group_id  = module.network.security_group_ids["database"]
  log_retention_days = var.log_retention_days
}

module "warehouse" {
  source             = "../modules/database"
  count              = var.warehouse == null ? 0 : 1
  name               = "${local.name}-warehouse"
  database           = "warehouse"
  instance           = var.warehouse
  subnet_ids         = module.network.private_subnet_ids
  security_group_id  = module.network.security_group_ids["warehouse"]
  log_retention_days = var.log_retention_days
  url_secret_arn     = local.permanent.database_url_secret_arns["warehouse"]
}

resource "aws_s3_bucket" "compute_logs" {
  bucket        = "${local.name}-compute-logs-${data.aws_caller_identity.this.account_id}"
  force_destroy = true
}

module "compute_logs" {
  source             = "../modules/private_bucket"
  bucket             = aws_s3_bucket.compute_logs.id
  expires_after_days = var.log_retention_days
}

data "aws_secretsmanager_secret_version" "login" {
  count     = var.login == null ? 0 : 1
  secret_id = local.permanent.login_secret_arn
}

module "services" {
  source                   = "../modules/services"
  name                     = local.name
  image                    = "${local.permanent.registry_url}:${var.image_tag}"
  cpu_architecture         = var.cpu_architecture
  together                 = var.together
  few_runs                 = var.few_runs
  container_insights       = var.monitoring.container_insights
  sizes                    = var.sizes
  settings                 = var.settings
  vpc_id                   = module.network.vpc_id
  task_subnet_ids          = module.network.task_subnet_ids
  public_tasks             = var.network.public_tasks
  private_subnet_ids       = module.network.private_subnet_ids
  public_subnet_ids        = module.network.public_subnet_ids
  security_group_ids       = module.network.security_group_ids
  storage                  = local.storage
  database_url_secret_arns = merge(local.permanent.database_url_secret_arns, [for made in module.warehouse : { warehouse = made.url_secret_arn }]...)
  bucket_arns              = local.permanent.bucket_arns
  bucket_urls              = local.permanent.bucket_urls
  compute_logs             = aws_s3_bucket.compute_logs
  registry_arn             = local.permanent.registry_arn
  roles                    = local.permanent.roles
  alerts_topic_arn         = local.permanent.alerts_topic_arn
  log_retention_days       = var.log_retention_days
  url                      = local.url
  balancer                 = var.balancer
  login                    = one([for secret in data.aws_secretsmanager_secret_version.login : merge(var.login, { client_secret = secret.secret_string })])
}

module "alerting" {
  source             = "../modules/alerting"
  name               = local.name
  topic_arn          = local.permanent.alerts_topic_arn
  log_groups         = module.services.log_groups
  cluster            = module.services.cluster
  services           = module.services.services
  part_of_runs       = module.services.part_of_runs
  monitoring         = var.monitoring
  balancer           = module.services.balancer
  databases          = { for database in concat(module.storage, module.warehouse) : database.identifier => database.limits }
  automated          = lookup(var.settings, "AUTOMATION", "off") == "on"
  late_after_minutes = 60
}
