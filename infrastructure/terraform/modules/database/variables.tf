variable "name" {
  description = "What the database's server is called."
  type        = string
}

variable "vpc_id" {
  description = "The network that it is in."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets in at least two zones."
  type        = list(string)
}

variable "client_security_group_id" {
  description = "The security group of those who may come to it."
  type        = string
}

variable "settings" {
  description = "Its size, zones and backups."
  type = object({
    instance_class = string
    storage_gib    = number
    maximum_gib    = number
    multi_zone     = bool
    backup_days    = number
  })
}

variable "disposable" {
  description = "Whether it may be destroyed with its data."
  type        = bool
}

variable "password" {
  description = "The password of the user mlflow: in neither the state nor a plan."
  type        = string
  sensitive   = true
  ephemeral   = true
}

variable "password_version" {
  description = "A higher number sets the password anew."
  type        = number
}

variable "kms_key_arn" {
  description = "The key for storage, backups and logs."
  type        = string
}

variable "log_days" {
  description = "How long its log is kept."
  type        = number
}
