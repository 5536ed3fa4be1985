# The URLs of the two databases. Their values are set by hand, or by `platform` for a warehouse of its own, and are in
# no state.
resource "aws_secretsmanager_secret" "database_url" {
  for_each                = toset(["totesys", "warehouse"])
  name                    = "${local.name}/${each.key}-database-url"
  description             = "postgresql://user:password@host:5432/${each.key}?sslmode=verify-full&sslrootcert=…"
  recovery_window_in_days = 30

  lifecycle {
    prevent_destroy = true
  }
}
