region      = "eu-west-2"
environment = "prod"

totesys       = { cidrs = ["203.0.113.20/32"] }
allowed_cidrs = ["203.0.113.0/24"]
balancer      = { host = "dagster.example.com", certificate_arn = "arn:aws:acm:eu-west-2:123456789012:certificate/00000000-0000-0000-0000-000000000000" }

storage   = { class = "db.t4g.small" }
warehouse = { class = "db.t4g.medium", storage = 50, standby = true }

settings           = { AUTOMATION = "on", PARTITIONS_START = "2026-11-01" }
log_retention_days = 365
