# Makes a bucket private and its objects durable. The bucket itself is declared by the caller, because `prevent_destroy`
# takes no variable.

terraform {
  required_providers {
    aws = { source = "hashicorp/aws" } # given by a caller with more than one region
  }
}

variable "bucket" {
  description = "Name of the bucket."
  type        = string
}

variable "write_once" {
  description = "Whether objects can be created but not overwritten."
  type        = bool
  default     = false
}

variable "overwritable" {
  description = "Folder whose objects can be overwritten nevertheless; null: none. Versions keep what they were."
  type        = string
  default     = null
}

variable "cooler_after_days" {
  description = "Days after which objects move to STANDARD_IA, and three times that to GLACIER_IR; null: never."
  type        = number
  default     = null
}

variable "expires_after_days" {
  description = "Days after which objects are deleted; null: never."
  type        = number
  default     = null
}

data "aws_partition" "this" {}

locals {
  arn = "arn:${data.aws_partition.this.partition}:s3:::${var.bucket}"
}

resource "aws_s3_bucket_public_access_block" "this" {
  bucket                  = var.bucket
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  bucket = var.bucket

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_versioning" "this" {
  bucket = var.bucket

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  bucket = var.bucket

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  bucket     = var.bucket
  depends_on = [aws_s3_bucket_versioning.this]

  rule {
    id     = "unfinished-uploads"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }

  dynamic "rule" {
    for_each = var.cooler_after_days[*]

    content {
      id     = "cooler"
      status = "Enabled"

      filter {}

      transition {
        days          = rule.value
        storage_class = "STANDARD_IA"
      }

      transition {
        days          = 3 * rule.value
        storage_class = "GLACIER_IR"
      }
    }
  }

  dynamic "rule" {
    for_each = var.expires_after_days[*]

    content {
      id     = "expires"
      status = "Enabled"

      filter {}

      expiration {
        days = rule.value
      }

      noncurrent_version_expiration {
        noncurrent_days = 1
      }
    }
  }
}

data "aws_iam_policy_document" "this" {
  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [local.arn, "${local.arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }

  # Amazon S3 user guide, “Enforce conditional writes”: the parts of an upload carry no condition; its completion does.
  dynamic "statement" {
    for_each = var.write_once ? [true] : []

    content {
      sid           = "WriteOnce"
      effect        = "Deny"
      actions       = ["s3:PutObject"]
      resources     = var.overwritable == null ? ["${local.arn}/*"] : null
      not_resources = var.overwritable == null ? null : ["${local.arn}/${var.overwritable}/*"]

      principals {
        type        = "*"
        identifiers = ["*"]
      }

      condition {
        test     = "Null"
        variable = "s3:if-none-match"
        values   = ["true"]
      }

      condition {
        test     = "Bool"
        variable = "s3:ObjectCreationOperation"
        values   = ["true"]
      }
    }
  }
}

resource "aws_s3_bucket_policy" "this" {
  bucket     = var.bucket
  policy     = data.aws_iam_policy_document.this.json
  depends_on = [aws_s3_bucket_public_access_block.this]
}
