variable "name" {
  description = "What the network and its parts are called."
  type        = string
}

variable "cidr" {
  description = "The network's addresses."
  type        = string
}

variable "zones" {
  description = "The availability zones that have subnets, by name."
  type        = list(string)

  validation {
    condition     = length(var.zones) >= 1 && length(var.zones) <= 3
    error_message = "zones is one to three names: each private subnet is a quarter of the network, and the last quarter is for the public ones."
  }
}

variable "nat_gateway_per_zone" {
  description = "Whether each zone has a NAT gateway, or the first one alone."
  type        = bool
}

variable "kms_key_arn" {
  description = "The key that the flow log is encrypted with."
  type        = string
}

variable "log_days" {
  description = "How long the flow log is kept."
  type        = number
}
