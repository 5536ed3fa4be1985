region      = "eu-west-2"
environment = "dev"

totesys       = { cidrs = ["203.0.113.10/32"] }
allowed_cidrs = ["203.0.113.0/24"]
balancer      = { host = "dagster.dev.example.com", certificate_arn = "arn:aws:acm:eu-west-2:123456789012:certificate/00000000-0000-0000-0000-000000000000" }

# Everything in dev can be created again, so nothing is protected from deletion.
storage   = { kept = false }
warehouse = { kept = false }

few_runs = true # the quota of a new account
settings = { AUTOMATION = "off" }
