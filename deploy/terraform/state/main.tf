# The bucket that holds the state of the other two, `permanent` and `platform`. Its own state is a local file, which can
# be lost: `terraform import aws_s3_bucket.state <name>` finds the bucket again.

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
  description = "Region of everything."
  type        = string
}

variable "bucket" {
  description = "Name of the bucket, unique in the world."
  type        = string
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
