# What outlives every deployment: the captures, the star files, the images, the secrets, and the recipients of alerts.
# Terraform cannot destroy anything here; `platform` can be destroyed and created again.

terraform {
  required_version = ">= 1.11, < 2"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
  }

  backend "s3" {
    encrypt      = true
    use_lockfile = true
  }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = { application = "totesys-etl", environment = var.environment, lifetime = "permanent" }
  }
}

data "aws_caller_identity" "this" {}

locals {
  name = "totesys-etl-${var.environment}"
}
