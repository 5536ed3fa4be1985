# What the workflows of a GitHub repository may do, without a stored key: plan one environment, deploy another.

variable "repository" {
  description = "The repository, as in the subjects of its tokens."
  type        = string
}

variable "environments" {
  description = "The environment that pull requests are planned for, and the one that is deployed."
  type        = object({ plan = string, deploy = string })
}

variable "state_bucket_arn" {
  description = "ARN of the bucket for the states."
  type        = string
}

data "aws_region" "this" {}
data "aws_partition" "this" {}
data "aws_caller_identity" "this" {}

locals {
  issuer  = "token.actions.githubusercontent.com"
  account = data.aws_caller_identity.this.account_id
  name    = "totesys-etl-${var.environments.deploy}"
  arn     = "arn:${data.aws_partition.this.partition}"
  here    = "${data.aws_region.this.name}:${local.account}"

  # of the jobs in terraform-plan.yml and deploy.yml
  subjects = {
    plan   = "pull_request"
    deploy = "environment:production"
  }
}

resource "aws_iam_openid_connect_provider" "this" {
  url            = "https://${local.issuer}"
  client_id_list = ["sts.amazonaws.com"]
}

data "aws_iam_policy_document" "trust" {
  for_each = local.subjects

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [aws_iam_openid_connect_provider.this.arn]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:aud"
      values   = ["sts.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:sub"
      values   = ["repo:${var.repository}:${each.value}"]
    }
  }
}

# Their names differ from those of deployed resources, so `deploy` can change neither role.
resource "aws_iam_role" "this" {
  for_each             = local.subjects
  name                 = "totesys-etl-github-${each.key}"
  description          = "What the workflows of ${var.repository} do: ${each.key}."
  assume_role_policy   = data.aws_iam_policy_document.trust[each.key].json
  max_session_duration = 7200 # a deployment waits for its services
}

resource "aws_iam_role_policy" "this" {
  for_each = aws_iam_role.this
  name     = each.key
  role     = each.value.id
  policy   = data.aws_iam_policy_document.this[each.key].json
}

data "aws_iam_policy_document" "this" {
  for_each = local.may

  dynamic "statement" {
    for_each = each.value

    content {
      sid       = statement.value.sid
      actions   = statement.value.actions
      resources = statement.value.resources

      dynamic "condition" {
        for_each = try(statement.value.condition, {})

        content {
          test     = "StringEquals"
          variable = condition.key
          values   = condition.value
        }
      }
    }
  }

  dynamic "statement" {
    for_each = local.may_not[each.key]

    content {
      sid       = statement.key
      effect    = "Deny"
      actions   = statement.value.actions
      resources = statement.value.resources
    }
  }
}

output "role_arns" {
  description = "ARNs of the roles `plan` and `deploy`."
  value       = { for does, role in aws_iam_role.this : does => role.arn }
}
