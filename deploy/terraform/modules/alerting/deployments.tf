# ECS rolls back a deployment that does not become healthy, and tells nobody else.
# Amazon ECS developer guide, “Amazon ECS service deployment state change events”
data "aws_region" "this" {}
data "aws_partition" "this" {}
data "aws_caller_identity" "this" {}

resource "aws_cloudwatch_event_rule" "failed_deployment" {
  name        = "${var.name}-failed-deployment"
  description = "The deployment of a service failed, and is rolled back."
  event_pattern = jsonencode({
    source      = ["aws.ecs"]
    detail-type = ["ECS Deployment State Change"]
    resources = [{
      prefix = "arn:${data.aws_partition.this.partition}:ecs:${data.aws_region.this.name}:${data.aws_caller_identity.this.account_id}:service/${var.cluster}/"
    }]
    detail = { eventName = ["SERVICE_DEPLOYMENT_FAILED"] }
  })
}

resource "aws_cloudwatch_event_target" "failed_deployment" {
  rule = aws_cloudwatch_event_rule.failed_deployment.name
  arn  = var.topic_arn

  input_transformer {
    input_paths    = { service = "$.resources[0]", reason = "$.detail.reason", time = "$.time" }
    input_template = "\"${var.name}: a deployment failed at <time>: <service>: <reason> docs/operations.md says what to do.\""
  }
}
