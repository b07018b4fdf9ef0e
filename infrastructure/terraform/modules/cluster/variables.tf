variable "name" {
  description = "The cluster's name."
  type        = string
}

variable "kubernetes_version" {
  description = "EKS's version."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets in at least two zones."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) >= 2
    error_message = "EKS asks for subnets in two zones."
  }
}

variable "administrator_cidrs" {
  description = "Networks from which the Kubernetes API may be reached."
  type        = list(string)
}

variable "service_nodes" {
  description = "Types and numbers of the nodes that are always there."
  type = object({
    instance_types = list(string)
    minimum        = number
    maximum        = number
  })
}

variable "spark_nodes" {
  description = "Types and number of the spot nodes for executors."
  type = object({
    instance_types = list(string)
    maximum        = number
  })
}

variable "kms_key_arn" {
  description = "The key for Kubernetes' secrets and logs."
  type        = string
}

variable "log_days" {
  description = "How long the logs of the Kubernetes API are kept."
  type        = number
}
