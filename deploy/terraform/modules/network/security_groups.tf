locals {
  # A run is where the daemon is: EcsRunLauncher starts it with the network of the daemon's own task.
  parts = toset(["code-server", "daemon", "webserver"])

  # who → whom, at which port
  connections = merge(
    { for part in local.parts : "${part} to database" => { from = part, to = "database", port = 5432 } },
    local.made ? { for part in local.parts : "${part} to endpoints" => { from = part, to = "endpoints", port = 443 } } : {},
    {
      "daemon to code-server"    = { from = "daemon", to = "code-server", port = 4000 }
      "webserver to code-server" = { from = "webserver", to = "code-server", port = 4000 }
      "balancer to webserver"    = { from = "balancer", to = "webserver", port = 3000 }
    },
  )
  # to AWS through the gateway of S3 and the NAT gateway; of the balancer, to who knows the users
  https = setunion(local.parts, ["balancer"])
  # to totesys
  captures = setproduct(["code-server", "daemon"], var.totesys.cidrs)
}

resource "aws_security_group" "this" {
  for_each    = setunion(local.parts, ["balancer", "database"], local.made ? ["endpoints"] : [])
  name        = "${var.name}-${each.key}"
  description = "totesys ETL: ${each.key}"
  vpc_id      = local.vpc_id
  tags        = { Name = "${var.name}-${each.key}" }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_egress_rule" "connection" {
  for_each                     = local.connections
  description                  = each.key
  security_group_id            = aws_security_group.this[each.value.from].id
  referenced_security_group_id = aws_security_group.this[each.value.to].id
  ip_protocol                  = "tcp"
  from_port                    = each.value.port
  to_port                      = each.value.port
}

resource "aws_vpc_security_group_ingress_rule" "connection" {
  for_each                     = local.connections
  description                  = each.key
  security_group_id            = aws_security_group.this[each.value.to].id
  referenced_security_group_id = aws_security_group.this[each.value.from].id
  ip_protocol                  = "tcp"
  from_port                    = each.value.port
  to_port                      = each.value.port
}

resource "aws_vpc_security_group_egress_rule" "https" {
  for_each          = local.https
  description       = "${each.key} to AWS"
  security_group_id = aws_security_group.this[each.key].id
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_vpc_security_group_egress_rule" "totesys" {
  for_each          = { for pair in local.captures : "${pair[0]} to ${pair[1]}" => { part = pair[0], cidr = pair[1] } }
  description       = "${each.value.part} to totesys"
  security_group_id = aws_security_group.this[each.value.part].id
  cidr_ipv4         = each.value.cidr
  ip_protocol       = "tcp"
  from_port         = var.totesys.port
  to_port           = var.totesys.port
}

resource "aws_vpc_security_group_ingress_rule" "people" {
  for_each          = var.allowed_cidrs
  description       = "people to the UI"
  security_group_id = aws_security_group.this["balancer"].id
  cidr_ipv4         = each.key
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}
