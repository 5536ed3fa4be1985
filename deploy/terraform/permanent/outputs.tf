output "bucket_arns" {
  description = "ARNs of the buckets, by stage."
  value       = { for stage, bucket in aws_s3_bucket.this : stage => bucket.arn }
}

output "bucket_urls" {
  description = "Values of INGESTION_URL and TRANSFORMATION_URL, by stage."
  value       = { for stage, bucket in aws_s3_bucket.this : stage => "s3://${bucket.id}" }
}

output "registry_arn" {
  description = "ARN of the container registry."
  value       = aws_ecr_repository.this.arn
}

output "registry_url" {
  description = "Where images are pushed to."
  value       = aws_ecr_repository.this.repository_url
}

output "roles" {
  description = "Names and ARNs of the roles of the parts: of the `task` itself, and of its `execution` by ECS."
  value = {
    task      = { for part, role in aws_iam_role.task : part => { name = role.name, arn = role.arn } }
    execution = { for part, role in aws_iam_role.execution : part => { name = role.name, arn = role.arn } }
  }
}

output "alerts_topic_arn" {
  description = "ARN of the SNS topic for alerts."
  value       = aws_sns_topic.alerts.arn
}

output "alert_subscription_arns" {
  description = "ARNs of the e-mail subscriptions, by address."
  value       = { for address, subscription in aws_sns_topic_subscription.email : address => subscription.arn }
}

output "database_url_secret_arns" {
  description = "ARNs of the secrets with the URLs of the databases, by database."
  value       = { for database, secret in aws_secretsmanager_secret.database_url : database => secret.arn }
}

output "login_secret_arn" {
  description = "ARN of the secret with the client secret of the UI's login."
  value       = aws_secretsmanager_secret.login.arn
}
