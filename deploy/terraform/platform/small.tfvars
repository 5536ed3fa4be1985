# Everything as one task with one database: for some dozens of orders a day. docs/deployment.md says what it costs, and how
# it grows.
region      = "eu-west-2"
environment = "small"

totesys = { cidrs = ["203.0.113.30/32"] }
network = { nat_gateway = false, public_tasks = true }

together         = true
cpu_architecture = "ARM64"
sizes            = { daemon = { cpu = 512, memory = 2048 } }

storage   = null
warehouse = { class = "db.t4g.micro", many_connections = 60 }

monitoring = { container_insights = false, dashboard = false }

settings           = { AUTOMATION = "on", PARTITIONS_START = "2026-11-01" }
log_retention_days = 30
