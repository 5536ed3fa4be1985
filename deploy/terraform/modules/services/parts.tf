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

  # The services, with the containers of each.
  services = var.together ? tomap({ daemon = keys(local.services_containers) }) : { for name in ["code-server", "daemon", "webserver"] : name => [name] }

  # Once, before there is a daemon: Dagster's storage gets the version of the image, and the pool its one slot.
  migrate = ["dagster instance migrate", "dagster instance concurrency set etl 1"]
  daemon  = "dagster-daemon run --workspace ${local.workspace} --log-format json"

  # after: what must have happened to other containers of the task before it starts. ends: whether it is done some time.
  services_containers = {
    migrate = {
      command = ["sh", "-c", join(" && ", concat(["python -m etl_assets.automation.storage create"], local.migrate, ["python -m etl_assets.automation.storage end-runs"]))]
      secrets = merge(local.dagster_secret, local.database_secrets["warehouse"])
      ends    = true
    }
    code-server = {
      command = [
        "dagster", "api", "grpc", "--host", "0.0.0.0", "--port", tostring(local.code_server.port),
        "--module-name", "etl_assets.definitions", "--log-format", "json",
      ]
      healthy = ["dagster", "api", "grpc-health-check", "--port", tostring(local.code_server.port)]
      port    = local.code_server.port
      secrets = merge(local.dagster_secret, values(local.database_secrets)...)
      after   = { migrate = "SUCCESS" }
    }
    daemon = {
      # There is only one daemon, so by itself it may migrate.
      command = var.together ? split(" ", local.daemon) : ["sh", "-c", join(" && ", concat(local.migrate, ["exec ${local.daemon}"]))]
      healthy = ["dagster-daemon", "liveness-check"]
      secrets = local.dagster_secret
      after   = { code-server = "HEALTHY" }
    }
    webserver = {
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
      after   = { code-server = "HEALTHY" }
    }
  }

  # What people start to get in, by ECS Exec (docs/deployment.md, “Ways in”). The shell has all that a run has.
  tools = {
    shell  = { size = var.sizes.run, databases = ["totesys", "warehouse"], secrets = local.dagster_secret }
    tunnel = { size = { cpu = 256, memory = 512 }, databases = [], secrets = {} }
  }

  # The tasks: size and containers of each. The launcher overrides the container `run`, whichever the task.
  tasks = merge(
    { for service, names in local.services : service => {
      size       = var.sizes[replace(service, "-", "_")]
      containers = { for name in names : name => local.services_containers[name] }
    } },
    { for part, may in local.runs : part => {
      size = var.sizes.run
      containers = { run = {
        command = ["dagster", "--version"] # the launcher overrides it for each run
        secrets = merge(local.dagster_secret, [for database in may.databases : local.database_secrets[database]]...)
      } }
    } if !var.together },
    { for part, tool in local.tools : part => {
      size = tool.size
      containers = { run = {
        command = ["sleep", "14400"] # forgotten, it ends after four hours
        secrets = merge(tool.secrets, [for database in tool.databases : local.database_secrets[database]]...)
      } }
    } },
  )
  parts = { for part, task in local.tasks : part => {
    size = task.size
    containers = { for name, container in task.containers : name => merge({ healthy = null, port = null, ends = false }, container, {
      after = { for other, condition in try(container.after, {}) : other => condition if contains(keys(task.containers), other) }
    }) }
  } }

  family  = { for part in setunion(keys(local.parts), keys(local.runs)) : part => "${var.name}-${part}" }
  secrets = { for part, is in local.parts : part => merge(values(is.containers)[*].secrets...) }
  # by container; all runs write to one log group, and tools to it too
  log_group = merge([for is in values(local.parts) : { for name in keys(is.containers) : name => name == "migrate" ? "daemon" : name }]...)

  # how runs are started, and how many: see the Dockerfile
  home = var.together ? "together" : var.few_runs ? "ecs-few" : "ecs"

  environment = merge(
    {
      DAGSTER_HOME          = "/opt/dagster/${local.home}"
      DAGSTER_POSTGRES_HOST = var.storage.address
      DAGSTER_POSTGRES_PORT = tostring(var.storage.port)
      DAGSTER_POSTGRES_USER = var.storage.user
      DAGSTER_POSTGRES_DB   = var.storage.database
      PGSSLMODE             = "verify-full"
      PGSSLROOTCERT         = "/opt/certificates/rds.pem"
      CODE_SERVER_PORT      = tostring(local.code_server.port)
      COMPUTE_LOGS_BUCKET   = var.compute_logs.id
      AWS_DEFAULT_REGION    = data.aws_region.this.name
      INGESTION_URL         = var.bucket_urls["ingestion"]
      TRANSFORMATION_URL    = var.bucket_urls["transformation"]
      ALERTS_TOPIC_ARN      = var.alerts_topic_arn
      METRICS_NAMESPACE     = var.name
      DAGSTER_URL           = var.url
      LOG_FORMAT            = "json"
    },
    var.together ? { CODE_SERVER_HOST = "127.0.0.1" } : {
      CODE_SERVER_HOST                = "${local.code_server.name}.${aws_service_discovery_private_dns_namespace.this[0].name}"
      RUN_TASK_DEFINITION             = local.family["run"]
    },
    var.settings,
  )

  dagster_secret = { DAGSTER_POSTGRES_PASSWORD = var.storage.password_secret_arn }
  database_secrets = {
    totesys   = { TOTESYS_DATABASE_URL = var.database_url_secret_arns["totesys"] }
    warehouse = { WAREHOUSE_DATABASE_URL = var.database_url_secret_arns["warehouse"] }
  }
}
