variable "name" {
  description = "The role's name."
  type        = string

  validation {
    condition     = length(var.name) <= 64
    error_message = "The name of a role is at most 64 characters."
  }
}

variable "oidc_provider_arn" {
  description = "The identity provider of the cluster that the service accounts are of."
  type        = string
}

variable "namespace" {
  description = "The namespace of the service accounts."
  type        = string
}

variable "service_accounts" {
  description = "Whose pods may take the role."
  type        = list(string)

  validation {
    condition     = length(var.service_accounts) > 0 && alltrue([for account in var.service_accounts : can(regex("^[a-z0-9-]+$", account))])
    error_message = "service_accounts names at least one, without wildcards."
  }
}

variable "policy" {
  description = "What the role may do, as JSON."
  type        = string
}
