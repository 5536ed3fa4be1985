# The permissions boundary of the roles of the parts. `platform` grants permissions within it; whoever applies it cannot
# grant more.
data "aws_partition" "this" {}

locals {
  arn     = "arn:${data.aws_partition.this.partition}"
  account = data.aws_caller_identity.this.account_id
}

data "aws_iam_policy_document" "boundary" {
  statement {
    sid = "OnWhatIsOfThisEnvironment"
    actions = [
      "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer",
      "ecs:DescribeTasks", "ecs:RunTask", "ecs:StopTask", "ecs:TagResource",
      "iam:PassRole",
      "logs:CreateLogStream", "logs:GetLogEvents", "logs:PutLogEvents",
      "s3:AbortMultipartUpload", "s3:GetObject", "s3:ListBucket", "s3:PutObject",
      "secretsmanager:GetSecretValue",
      "sns:Publish",
    ]
    resources = [
      aws_ecr_repository.this.arn,
      "${local.arn}:ecs:${var.region}:${local.account}:task/${local.name}/*",
      "${local.arn}:ecs:${var.region}:${local.account}:task-definition/${local.name}-*",
      "${local.arn}:iam::${local.account}:role/${local.name}-*",
      "${local.arn}:logs:${var.region}:${local.account}:log-group:/${local.name}/*",
      "${local.arn}:s3:::${local.name}-*-${local.account}",
      "${local.arn}:s3:::${local.name}-*-${local.account}/*",
      "${local.arn}:secretsmanager:${var.region}:${local.account}:secret:${local.name}-*",
      "${local.arn}:secretsmanager:${var.region}:${local.account}:secret:${local.name}/*",
      aws_sns_topic.alerts.arn,
    ]
  }

  statement {
    sid = "AwsKnowsNoResource"
    actions = [
      "cloudwatch:PutMetricData", "ec2:DescribeNetworkInterfaces", "ecr:GetAuthorizationToken", "ecs:DescribeTaskDefinition",
      "ssmmessages:CreateControlChannel", "ssmmessages:CreateDataChannel", "ssmmessages:OpenControlChannel",
      "ssmmessages:OpenDataChannel",
    ]
    resources = ["*"]
  }
}

resource "aws_iam_policy" "boundary" {
  name        = "${local.name}-boundary"
  description = "The most that a role of a part may be allowed."
  policy      = data.aws_iam_policy_document.boundary.json
}
