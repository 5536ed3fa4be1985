# A second copy of both buckets, in another region: for the loss of a region, or of this bucket. Off unless `copy_region` is
# set. What was written before is not copied by itself: docs/deployment.md.

provider "aws" {
  alias  = "copies"
  region = coalesce(var.copy_region, var.region)

  default_tags {
    tags = { application = "totesys-etl", environment = var.environment, lifetime = "permanent" }
  }
}

locals {
  copied = var.copy_region == null ? {} : aws_s3_bucket.this
}

resource "aws_s3_bucket" "copy" {
  for_each = local.copied
  provider = aws.copies
  bucket   = "${local.name}-copy-${each.key}-${local.account}"

  lifecycle {
    prevent_destroy = true
  }
}

module "private_copy" {
  source            = "../modules/private_bucket"
  for_each          = aws_s3_bucket.copy
  providers         = { aws = aws.copies }
  bucket            = each.value.id
  write_once        = true
  cooler_after_days = var.cooler_after_days
}

data "aws_iam_policy_document" "copier_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["s3.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
}

resource "aws_iam_role" "copier" {
  count              = var.copy_region == null ? 0 : 1
  name               = "${local.name}-copier"
  description        = "What S3 does to copy the buckets."
  assume_role_policy = data.aws_iam_policy_document.copier_trust.json
}

# Amazon S3 user guide, “Setting up permissions for live replication”
data "aws_iam_policy_document" "copier" {
  count = var.copy_region == null ? 0 : 1

  statement {
    sid       = "FindObjects"
    actions   = ["s3:GetReplicationConfiguration", "s3:ListBucket"]
    resources = values(local.copied)[*].arn
  }

  statement {
    sid       = "ReadObjects"
    actions   = ["s3:GetObjectVersionAcl", "s3:GetObjectVersionForReplication", "s3:GetObjectVersionTagging"]
    resources = [for bucket in local.copied : "${bucket.arn}/*"]
  }

  statement {
    sid       = "WriteCopies"
    actions   = ["s3:ReplicateObject", "s3:ReplicateTags"]
    resources = [for bucket in aws_s3_bucket.copy : "${bucket.arn}/*"]
  }
}

resource "aws_iam_role_policy" "copier" {
  count  = var.copy_region == null ? 0 : 1
  name   = "copy"
  role   = aws_iam_role.copier[0].id
  policy = data.aws_iam_policy_document.copier[0].json
}

resource "aws_s3_bucket_replication_configuration" "this" {
  for_each   = local.copied
  bucket     = each.value.id
  role       = aws_iam_role.copier[0].arn
  depends_on = [module.private_bucket, module.private_copy, aws_iam_role_policy.copier] # both are versioned first

  rule {
    id     = "everything"
    status = "Enabled"

    filter {}

    # a delete marker here hides nothing there
    delete_marker_replication {
      status = "Disabled"
    }

    destination {
      bucket = aws_s3_bucket.copy[each.key].arn
    }
  }
}
