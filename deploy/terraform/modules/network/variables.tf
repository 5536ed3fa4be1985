variable "name" {
  description = "Prefix of the names of all resources."
  type        = string
}

variable "cidr" {
  description = "Address range of the VPC, a /16 to /20."
  type        = string
}

variable "existing" {
  description = "An existing VPC to use: private subnets that reach AWS and totesys, public ones for the load balancer. Null: create one."
  type        = object({ vpc_id = string, private_subnet_ids = list(string), public_subnet_ids = list(string) })
}

variable "nat_gateway" {
  description = "Whether tasks can reach the internet. Needed if totesys is there, or if an endpoint is missing."
  type        = bool
}

variable "public_tasks" {
  description = "Whether tasks have public addresses, and reach the internet by them."
  type        = bool
}

variable "interface_endpoints" {
  description = "AWS services reached without leaving the VPC."
  type        = set(string)
}

variable "totesys" {
  description = "Addresses and port of totesys, and of a warehouse that is not created here, that tasks may connect to."
  type        = object({ cidrs = set(string), port = number })
}

variable "allowed_cidrs" {
  description = "Addresses that may reach the UI."
  type        = set(string)
}

variable "routes" {
  description = "Ways to other networks: by address range, the ID of a peering connection, transit gateway or virtual private gateway."
  type        = map(string)
}

variable "together" {
  description = "Whether the services are one task, that of the daemon."
  type        = bool
}

variable "balancer" {
  description = "Whether the UI is behind a load balancer. Otherwise, the tunnel leads to it."
  type        = bool
}

variable "storage" {
  description = "Whether Dagster's database has an instance of its own, besides the warehouse."
  type        = bool
}

variable "warehouse" {
  description = "Whether the warehouse is in this network."
  type        = bool
}

variable "readers" {
  description = "Security groups and addresses, in this network or connected to it, that may connect to the warehouse."
  type        = object({ security_group_ids = set(string), cidrs = set(string) })
}
