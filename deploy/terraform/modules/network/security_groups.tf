locals {
  # Runs share the daemon's group: EcsRunLauncher starts them in the network of the daemon's own task.
  parts = toset(var.together ? ["daemon"] : ["code-server", "daemon", "webserver"])

  # those that capture and load; who may connect to the warehouse, if it is here: readers are outside, or come by the tunnel
  movers    = setintersection(local.parts, ["code-server", "daemon"])
  warehouse = var.warehouse ? setunion(local.movers, ["tunnel"]) : []

  storage = var.storage ? "database" : "warehouse"
  to_ui   = var.balancer ? "balancer" : "tunnel"

  # from → to, and the port
  connections = merge(
    { for part in local.parts : "${part} to ${local.storage}" => { from = part, to = local.storage, port = 5432 } },
    local.made ? { for part in local.https : "${part} to endpoints" => { from = part, to = "endpoints", port = 443 } if part != "balancer" } : {},
    { for part in local.warehouse : "${part} to warehouse" => { from = part, to = "warehouse", port = 5432 } },
    { for part in ["daemon", "webserver"] : "${part} to code-server" => { from = part, to = "code-server", port = 4000 } if !var.together },
    { "${local.to_ui} to webserver" = { from = local.to_ui, to = var.together ? "daemon" : "webserver", port = 3000 } },
  )
  # to AWS, through the S3 gateway endpoint and the NAT gateway; for the load balancer, to the identity provider
  https = setunion(local.parts, [local.to_ui], var.warehouse ? ["tunnel"] : [])
  # from a part to totesys
  captures = setproduct(local.movers, var.totesys.cidrs)
}

resource "aws_security_group" "this" {
  for_each    = setunion(local.https, [local.storage], local.made ? ["endpoints"] : [], var.warehouse ? ["warehouse"] : [])
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

# port 80 only redirects to 443
resource "aws_vpc_security_group_ingress_rule" "people" {
  for_each          = { for pair in setproduct(var.allowed_cidrs, [80, 443]) : "${pair[0]} to ${pair[1]}" => { cidr = pair[0], port = pair[1] } }
  description       = "people to the UI"
  security_group_id = aws_security_group.this["balancer"].id
  cidr_ipv4         = each.value.cidr
  ip_protocol       = "tcp"
  from_port         = each.value.port
  to_port           = each.value.port
}

resource "aws_vpc_security_group_ingress_rule" "reader_cidr" {
  for_each          = var.warehouse ? var.readers.cidrs : []
  description       = "readers to the warehouse"
  security_group_id = aws_security_group.this["warehouse"].id
  cidr_ipv4         = each.key
  ip_protocol       = "tcp"
  from_port         = 5432
  to_port           = 5432
}

resource "aws_vpc_security_group_ingress_rule" "reader_group" {
  for_each                     = var.warehouse ? var.readers.security_group_ids : []
  description                  = "readers to the warehouse"
  security_group_id            = aws_security_group.this["warehouse"].id
  referenced_security_group_id = each.key
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
}
