variable "name" {
  description = "What the names of all resources begin with."
  type        = string
}

variable "cidr" {
  description = "Addresses of the VPC, a /16 to /20."
  type        = string
}

variable "existing" {
  description = "A VPC to use rather than to make one: private subnets that reach AWS and totesys, public ones for the balancer."
  type        = object({ vpc_id = string, private_subnet_ids = list(string), public_subnet_ids = list(string) })
}

variable "nat_gateway" {
  description = "Whether tasks reach the internet: needed if totesys is there, or if an endpoint is missing."
  type        = bool
}

variable "interface_endpoints" {
  description = "AWS services that are reached without leaving the VPC."
  type        = set(string)
}

variable "totesys" {
  description = "Where totesys, and a warehouse that is not made here, are: the addresses tasks may connect to, and the port."
  type        = object({ cidrs = set(string), port = number })
}

variable "allowed_cidrs" {
  description = "From where the UI may be reached."
  type        = set(string)
}
