# The URLs of the two databases. Their values are set by hand, or by `platform` if it creates the warehouse. They are in
# no Terraform state.
resource "aws_secretsmanager_secret" "database_url" {
  for_each                = toset(["totesys", "warehouse"])
  name                    = "${local.name}/${each.key}-database-url"
  description             = "postgresql://user:password@host:5432/${each.key}?sslmode=verify-full&sslrootcert=…"
  recovery_window_in_days = 30

  lifecycle {
    prevent_destroy = true
  }
}

# Its value is set by hand, if `login` is set in `platform`.
resource "aws_secretsmanager_secret" "login" {
  name                    = "${local.name}/login-client-secret"
  description             = "Client secret of the OpenID Connect login in front of the UI."
  recovery_window_in_days = 30

  lifecycle {
    prevent_destroy = true
  }
}
