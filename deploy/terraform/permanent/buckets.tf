resource "aws_s3_bucket" "this" {
  for_each = toset(["ingestion", "transformation"])
  bucket   = "${local.name}-${each.key}-${data.aws_caller_identity.this.account_id}"

  lifecycle {
    prevent_destroy = true
  }
}

module "private_bucket" {
  source            = "../modules/private_bucket"
  for_each          = aws_s3_bucket.this
  bucket            = each.value.id
  write_once        = true
  overwritable      = each.key == "transformation" ? "pickles" : null # of Dagster's own IO manager, for your own assets
  cooler_after_days = var.cooler_after_days
}
