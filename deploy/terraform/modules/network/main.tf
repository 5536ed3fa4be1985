# A VPC, or an existing one; and which part may connect to which. Nothing connects from outside to a task, even if it has a
# public address.

locals {
  made     = var.existing == null
  vpc_id   = local.made ? aws_vpc.this[0].id : var.existing.vpc_id
  private  = local.made ? values(aws_subnet.private)[*].id : var.existing.private_subnet_ids
  public   = local.made ? values(aws_subnet.public)[*].id : var.existing.public_subnet_ids
  tasks    = var.public_tasks ? aws_route_table.public : aws_route_table.private
  zones    = local.made ? toset(slice(data.aws_availability_zones.this[0].names, 0, 2)) : toset([])
  numbered = { for number, zone in sort(local.zones) : zone => number }
}

data "aws_region" "this" {}

data "aws_availability_zones" "this" {
  count = local.made ? 1 : 0
  state = "available"

  # without Local Zones and Wavelength Zones, which have no RDS, NAT gateway or endpoints
  filter {
    name   = "zone-type"
    values = ["availability-zone"]
  }
}

# Its default security group lets its members talk to each other, and has none. AWS creates it without tags: whoever could
# empty it could change any group.
resource "aws_vpc" "this" {
  # checkov:skip=CKV2_AWS_12:see above
  count                = local.made ? 1 : 0
  cidr_block           = var.cidr
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = { Name = var.name }
}

resource "aws_subnet" "private" {
  for_each          = local.zones
  vpc_id            = local.vpc_id
  availability_zone = each.key
  cidr_block        = cidrsubnet(var.cidr, 4, local.numbered[each.key])
  tags              = { Name = "${var.name}-private-${each.key}" }
}

resource "aws_subnet" "public" {
  for_each          = local.zones
  vpc_id            = local.vpc_id
  availability_zone = each.key
  cidr_block        = cidrsubnet(var.cidr, 4, 8 + local.numbered[each.key])
  tags              = { Name = "${var.name}-public-${each.key}" }
}

resource "aws_internet_gateway" "this" {
  count  = local.made ? 1 : 0
  vpc_id = local.vpc_id
  tags   = { Name = var.name }
}

resource "aws_route_table" "public" {
  count  = local.made ? 1 : 0
  vpc_id = local.vpc_id
  tags   = { Name = "${var.name}-public" }
}

resource "aws_route" "to_the_internet" {
  count                  = local.made ? 1 : 0
  route_table_id         = aws_route_table.public[0].id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this[0].id
}

resource "aws_route_table_association" "public" {
  for_each       = aws_subnet.public
  subnet_id      = each.value.id
  route_table_id = aws_route_table.public[0].id
}

resource "aws_route_table" "private" {
  count  = local.made ? 1 : 0
  vpc_id = local.vpc_id
  tags   = { Name = "${var.name}-private" }
}

resource "aws_route_table_association" "private" {
  for_each       = aws_subnet.private
  subnet_id      = each.value.id
  route_table_id = aws_route_table.private[0].id
}

# Lets tasks reach a totesys outside this VPC, and AWS where there is no endpoint. There is one, in one zone: while that
# zone is down, captures wait, and nothing is lost.
resource "aws_eip" "nat" {
  count  = local.made && var.nat_gateway ? 1 : 0
  domain = "vpc"
  tags   = { Name = "${var.name}-nat" }
}

resource "aws_nat_gateway" "this" {
  count         = local.made && var.nat_gateway ? 1 : 0
  allocation_id = aws_eip.nat[0].id
  subnet_id     = local.public[0]
  tags          = { Name = var.name }
  depends_on    = [aws_route.to_the_internet]
}

resource "aws_route" "through_the_nat_gateway" {
  count                  = local.made && var.nat_gateway ? 1 : 0
  route_table_id         = aws_route_table.private[0].id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.this[0].id
}

# To a network that is connected by hand: a peering connection, a transit gateway or a VPN.
resource "aws_route" "to_another_network" {
  for_each                  = local.made ? var.routes : {}
  route_table_id            = local.tasks[0].id
  destination_cidr_block    = each.key
  vpc_peering_connection_id = startswith(each.value, "pcx-") ? each.value : null
  transit_gateway_id        = startswith(each.value, "tgw-") ? each.value : null
  gateway_id                = startswith(each.value, "vgw-") ? each.value : null
}

resource "aws_vpc_endpoint" "s3" {
  count             = local.made ? 1 : 0
  vpc_id            = local.vpc_id
  service_name      = "com.amazonaws.${data.aws_region.this.name}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = [local.tasks[0].id]
  tags              = { Name = "${var.name}-s3" }
}

resource "aws_vpc_endpoint" "interface" {
  for_each            = local.made ? var.interface_endpoints : []
  vpc_id              = local.vpc_id
  service_name        = "com.amazonaws.${data.aws_region.this.name}.${each.key}"
  vpc_endpoint_type   = "Interface"
  subnet_ids          = local.private
  security_group_ids  = [aws_security_group.this["endpoints"].id]
  private_dns_enabled = true
  tags                = { Name = "${var.name}-${each.key}" }
}
