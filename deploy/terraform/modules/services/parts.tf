# The parts: what each runs, how large it is, what it is told.

locals {
  code_server = { name = "code-server", port = 4000 }
  webserver   = { name = "webserver", port = 3000 }

  workspace = "/opt/dagster/workspace.yaml"

  parts = {
    code-server = {
      size = var.sizes.code_server
      command = [
        "dagster", "api", "grpc", "--host", "0.0.0.0", "--port", tostring(local.code_server.port),
        "--module-name", "etl_assets.definitions", "--log-format", "json",
      ]
      healthy = ["dagster", "api", "grpc-health-check", "--port", tostring(local.code_server.port)]
      port    = local.code_server.port
      secrets = local.all_secrets
    }
    daemon = {
      size = var.sizes.daemon
      # There is one daemon, so it is who brings Dagster's storage up to the image, and makes the pool of one slot.
      command = ["sh", "-c", join(" && ", [
        "dagster instance migrate",
        "dagster instance concurrency set etl 1",
        "exec dagster-daemon run --workspace ${local.workspace} --log-format json",
      ])]
      healthy = ["dagster-daemon", "liveness-check"]
      port    = null
      secrets = local.dagster_secrets
    }
    run = {
      size    = var.sizes.run
      command = ["dagster", "--version"] # the launcher says what each run's is
      healthy = null
      port    = null
      secrets = local.all_secrets
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
      secrets = local.dagster_secrets
    }
  }

  services = toset(["code-server", "daemon", "webserver"])
  family   = { for part in keys(local.parts) : part => "${var.name}-${part}" }

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

  dagster_secrets = { DAGSTER_POSTGRES_PASSWORD = var.storage.password_secret_arn }
  all_secrets = merge(local.dagster_secrets, {
    TOTESYS_DATABASE_URL   = var.database_url_secret_arns["totesys"]
    WAREHOUSE_DATABASE_URL = var.database_url_secret_arns["warehouse"]
  })
}
