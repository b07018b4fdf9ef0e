variable "region" {
  description = "The region of everything."
  type        = string
}

variable "administrator_cidrs" {
  description = "Networks from which the Kubernetes API may be reached, such as [\"203.0.113.0/24\"]."
  type        = list(string)
}

variable "budget_email" {
  description = "Who is told when a month costs too much."
  type        = string
}

variable "github_repository" {
  description = "owner/name of the repository that deploys and trains, or empty."
  type        = string
  default     = ""
}
