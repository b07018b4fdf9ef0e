variable "prefix" {
  description = "What the repositories' names begin with."
  type        = string
}

variable "names" {
  description = "One repository for each image."
  type        = list(string)
}

variable "disposable" {
  description = "Whether a repository may be destroyed with its images."
  type        = bool
}

variable "kms_key_arn" {
  description = "The key that images are encrypted with."
  type        = string
}
