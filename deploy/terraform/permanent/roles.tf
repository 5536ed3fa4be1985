# The roles of the parts, and whom they trust. `platform` gives them permissions, within the boundary. They are here because
# whoever can create a role, or change whom it trusts, can let anybody use it: a deployment cannot.

locals {
  parts = toset([
    "code-server", "daemon", "webserver", "run", "run-ingestion", "run-transformation", "run-warehouse", "shell", "tunnel",
  ])
}

# As in the Amazon ECS developer guide, “Amazon ECS task IAM role” and “task execution IAM role”.
data "aws_iam_policy_document" "trust" {
  for_each = toset(["task", "execution"])

  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }

    dynamic "condition" {
      for_each = each.key == "task" ? {
        StringEquals = { variable = "aws:SourceAccount", value = local.account }
        ArnLike      = { variable = "aws:SourceArn", value = "${local.arn}:ecs:${var.region}:${local.account}:*" }
      } : {}

      content {
        test     = condition.key
        variable = condition.value.variable
        values   = [condition.value.value]
      }
    }
  }
}

resource "aws_iam_role" "task" {
  for_each             = local.parts
  name                 = "${local.name}-${each.key}"
  description          = "What the ${each.key} does."
  assume_role_policy   = data.aws_iam_policy_document.trust["task"].json
  permissions_boundary = aws_iam_policy.boundary.arn
}

resource "aws_iam_role" "execution" {
  for_each             = local.parts
  name                 = "${local.name}-${each.key}-start"
  description          = "What ECS does to start the ${each.key}."
  assume_role_policy   = data.aws_iam_policy_document.trust["execution"].json
  permissions_boundary = aws_iam_policy.boundary.arn
}
