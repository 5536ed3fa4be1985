region       = "eu-west-2"
environment  = "prod"
alert_emails = ["data-engineering@example.com"]
