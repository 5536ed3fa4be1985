# The parts: command, size and environment of each; and of runs, what each kind may reach.

locals {
  code_server = { name = "code-server", port = 4000 }
  webserver   = { name = "webserver", port = 3000 }

  workspace = "/opt/dagster/workspace.yaml"

  # A run of a stage's own job (jobs.py) is a task of `run-<stage>`, which reaches what the stage needs. All other runs are
  # tasks of `run`, which reaches everything: `etl`, `replay`, reports, backfills, your own jobs.
  runs = {
    run                = { databases = ["totesys", "warehouse"], reads = [], writes = ["ingestion", "transformation"] }
    run-ingestion      = { databases = ["totesys"], reads = [], writes = ["ingestion"] }
    run-transformation = { databases = [], reads = ["ingestion"], writes = ["transformation"] }
    run-warehouse      = { databases = ["warehouse"], reads = ["ingestion", "transformation"], writes = [] }
  }

  services_parts = {
    code-server = {
      size = var.sizes.code_server
      command = [
        "dagster", "api", "grpc", "--host", "0.0.0.0", "--port", tostring(local.code_server.port),
        "--module-name", "etl_assets.definitions", "--log-format", "json",
      ]
      healthy = ["dagster", "api", "grpc-health-check", "--port", tostring(local.code_server.port)]
      port    = local.code_server.port
      secrets = merge(local.dagster_secret, values(local.database_secrets)...)
    }
    daemon = {
      size = var.sizes.daemon
      # There is only one daemon, so it migrates Dagster's storage to the image's version and creates the pool of one slot.
      command = ["sh", "-c", join(" && ", [
        "dagster instance migrate",
        "dagster instance concurrency set etl 1",
        "exec dagster-daemon run --workspace ${local.workspace} --log-format json",
      ])]
      healthy = ["dagster-daemon", "liveness-check"]
      port    = null
      secrets = local.dagster_secret
    }
    webserver = {
      size = var.sizes.webserver
      command = [
        "dagster-webserver", "--host", "0.0.0.0", "--port", tostring(local.webserver.port),
        "--workspace", local.workspace, "--log-format", "json",
      ]
      healthy = [
        "python", "-c",
        "from urllib.request import urlopen; urlopen('http://127.0.0.1:${local.webserver.port}/server_info', timeout=5)",
      ]
      port    = local.webserver.port
      secrets = local.dagster_secret
    }
  }

  # What people start to get in, by ECS Exec (docs/deployment.md, “Ways in”). The shell has all that a run has.
  tools = {
    shell  = { size = var.sizes.run, databases = ["totesys", "warehouse"], secrets = local.dagster_secret }
    tunnel = { size = { cpu = 256, memory = 512 }, databases = [], secrets = {} }
  }

  parts = merge(
    local.services_parts,
    { for part, may in local.runs : part => {
      size    = var.sizes.run
      command = ["dagster", "--version"] # the launcher overrides it for each run
      healthy = null
      port    = null
      secrets = merge(local.dagster_secret, [for database in may.databases : local.database_secrets[database]]...)
    } },
    { for part, tool in local.tools : part => {
      size    = tool.size
      command = ["sleep", "14400"] # forgotten, it ends after four hours
      healthy = null
      port    = null
      secrets = merge(tool.secrets, [for database in tool.databases : local.database_secrets[database]]...)
    } },
  )

  services = keys(local.services_parts)
  family   = { for part in keys(local.parts) : part => "${var.name}-${part}" }
  # the launcher overrides the container `run`, whichever the task; all runs write to one log group, and tools to it too
  container = { for part in keys(local.parts) : part => contains(local.services, part) ? part : "run" }

  environment = merge(
    {
      DAGSTER_HOME          = "/opt/dagster/ecs"
      DAGSTER_POSTGRES_HOST = var.storage.address
      DAGSTER_POSTGRES_PORT = tostring(var.storage.port)
      DAGSTER_POSTGRES_USER = var.storage.user
      DAGSTER_POSTGRES_DB   = var.storage.database
      PGSSLMODE             = "verify-full"
      PGSSLROOTCERT         = "/opt/certificates/rds.pem"
      CODE_SERVER_HOST      = "${local.code_server.name}.${aws_service_discovery_private_dns_namespace.this.name}"
      CODE_SERVER_PORT      = tostring(local.code_server.port)
      COMPUTE_LOGS_BUCKET   = var.compute_logs.id
      RUN_TASK_DEFINITION   = local.family["run"]
      AWS_DEFAULT_REGION    = data.aws_region.this.name
      INGESTION_URL         = var.bucket_urls["ingestion"]
      TRANSFORMATION_URL    = var.bucket_urls["transformation"]
      ALERTS_TOPIC_ARN      = var.alerts_topic_arn
      METRICS_NAMESPACE     = var.name
      DAGSTER_URL           = "https://${var.balancer.host}"
      LOG_FORMAT            = "json"
    },
    var.settings,
  )

  dagster_secret = { DAGSTER_POSTGRES_PASSWORD = var.storage.password_secret_arn }
  database_secrets = {
    totesys   = { TOTESYS_DATABASE_URL = var.database_url_secret_arns["totesys"] }
    warehouse = { WAREHOUSE_DATABASE_URL = var.database_url_secret_arns["warehouse"] }
  }
}
