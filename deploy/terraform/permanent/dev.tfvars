region       = "eu-west-2"
environment  = "dev"
alert_emails = ["data-engineering-dev@example.com"]
