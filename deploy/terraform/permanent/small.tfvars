region       = "eu-west-2"
environment  = "small"
alert_emails = ["data-engineering@example.com"]
