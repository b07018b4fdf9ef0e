variable "name" {
  description = "The bucket's name, unique in all of AWS."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.name))
    error_message = "A bucket's name is 3 to 63 small letters, digits and hyphens; a dot in it would break TLS."
  }
}

variable "noncurrent_days" {
  description = "How long what was overwritten or deleted is kept."
  type        = number
}

variable "disposable" {
  description = "Whether the bucket may be destroyed with what is in it."
  type        = bool
}

variable "kms_key_arn" {
  description = "The key that its objects are encrypted with."
  type        = string
}
