# The bucket for the states of the other two roots, `permanent` and `platform`, and who may use it from GitHub: once per
# account, for all environments. Its own state is a local file, which may be lost: `terraform import
# aws_s3_bucket.state <name>` recovers the bucket. Delete the GitHub provider and roles first; they hold no data.

terraform {
  required_version = ">= 1.11, < 2"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
  }
}

variable "region" {
  description = "Region of all resources."
  type        = string
}

variable "bucket" {
  description = "Name of the bucket, globally unique."
  type        = string
}

variable "github_repository" {
  description = <<-EOT
    The repository whose workflows may plan and deploy, as in the subjects of its tokens: OWNER/NAME, or
    OWNER@ID/NAME@ID if it was created since July 2026. Empty: none may.
  EOT
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^([A-Za-z0-9_.@-]+/[A-Za-z0-9_.@-]+)?$", var.github_repository))
    error_message = "The repository must be OWNER/NAME: a single one, not a pattern."
  }
}

variable "github_environments" {
  description = "The environment that pull requests are planned for, and the one that is deployed."
  type        = object({ plan = optional(string, "dev"), deploy = optional(string, "prod") })
  default     = {}
}

provider "aws" {
  region = var.region

  default_tags {
    tags = { application = "totesys-etl", part = "state" }
  }
}

resource "aws_s3_bucket" "state" {
  bucket = var.bucket

  lifecycle {
    prevent_destroy = true
  }
}

module "private_bucket" {
  source = "../modules/private_bucket"
  bucket = aws_s3_bucket.state.id
}

module "github" {
  source           = "../modules/github"
  count            = var.github_repository == "" ? 0 : 1
  repository       = var.github_repository
  environments     = var.github_environments
  state_bucket_arn = aws_s3_bucket.state.arn
}

output "github_role_arns" {
  description = "ARNs of the roles of the GitHub workflows, `plan` and `deploy`."
  value       = one(module.github[*].role_arns)
}
