variable "name" {
  description = "What every resource is called, or begins with: the platform and its environment."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,30}$", var.name))
    error_message = "name is 3 to 31 small letters, digits and hyphens, and begins with a letter: bucket names allow no more."
  }
}

variable "namespace" {
  description = "The Kubernetes namespace that infrastructure/kubernetes makes; the roles are for its service accounts alone."
  type        = string
  default     = "tabular-workflow"
}

variable "vpc_cidr" {
  description = "Addresses of the network. Each zone gets a sixteenth for what is public and a quarter for nodes and pods."
  type        = string
  default     = "10.0.0.0/16"

  validation {
    condition     = can(cidrnetmask(var.vpc_cidr)) && try(tonumber(split("/", var.vpc_cidr)[1]) >= 16 && tonumber(split("/", var.vpc_cidr)[1]) <= 20, false)
    error_message = "vpc_cidr is an IPv4 network of /16 to /20, such as 10.0.0.0/16: every pod has an address of it."
  }
}

variable "zones" {
  description = "The availability zones of nodes and database, by name: were they looked up, a zone that AWS adds could move subnets."
  type        = list(string)

  validation {
    condition     = contains([2, 3], length(distinct(var.zones))) && length(distinct(var.zones)) == length(var.zones)
    error_message = "zones is two or three different names, such as [\"eu-central-1a\", \"eu-central-1b\"]: EKS and RDS ask for two."
  }
}

variable "nat_gateway_per_zone" {
  description = "Whether each zone has a way out of its own, which outlives another zone, and costs as much again."
  type        = bool
  default     = false
}

variable "kubernetes_version" {
  description = "EKS's version; `aws eks describe-cluster-versions` tells which have standard support."
  type        = string

  validation {
    condition     = can(regex("^1\\.[0-9]{2}$", var.kubernetes_version))
    error_message = "kubernetes_version is a minor version such as 1.35, in quotes."
  }
}

variable "administrator_cidrs" {
  description = "Networks from which the Kubernetes API may be reached, beside the VPC itself."
  type        = list(string)

  validation {
    condition = length(var.administrator_cidrs) > 0 && alltrue([
      for cidr in var.administrator_cidrs : can(cidrnetmask(cidr)) && try(tonumber(split("/", cidr)[1]) >= 8, false)
    ])
    error_message = "administrator_cidrs is at least one IPv4 network of /8 or smaller, such as 203.0.113.0/24: never all addresses."
  }
}

variable "service_nodes" {
  description = "Nodes of MLflow's server, the model servers and the Connect server: on demand, always there."
  type = object({
    instance_types = list(string)
    minimum        = number
    maximum        = number
  })

  validation {
    condition     = var.service_nodes.minimum >= 1 && var.service_nodes.minimum <= var.service_nodes.maximum
    error_message = "service_nodes: minimum is at least 1 and at most maximum."
  }
}

variable "spark_nodes" {
  description = "Nodes of Spark's executors: spot, tainted, none while there is no work. Several types of one size, so that spot finds some."
  type = object({
    instance_types = list(string)
    maximum        = number
  })

  validation {
    condition     = var.spark_nodes.maximum >= 1 && length(var.spark_nodes.instance_types) >= 2
    error_message = "spark_nodes: maximum is at least 1, and there are at least two instance_types."
  }
}

variable "database" {
  description = "MLflow's PostgreSQL. Storage grows by itself up to maximum_gib; backups are kept that many days."
  type = object({
    instance_class = string
    storage_gib    = number
    maximum_gib    = number
    multi_zone     = bool
    backup_days    = number
  })

  validation {
    condition     = var.database.backup_days >= 1 && var.database.backup_days <= 35
    error_message = "database: backup_days is 1 to 35, which is what RDS keeps."
  }

  validation {
    condition     = var.database.storage_gib >= 20 && var.database.maximum_gib > var.database.storage_gib
    error_message = "database: storage_gib is at least 20, and maximum_gib is more than that."
  }
}

variable "noncurrent_days" {
  description = "How long the buckets keep what was overwritten or deleted: the time in which a mistake can be undone."
  type        = number
  default     = 30

  validation {
    condition     = var.noncurrent_days >= 1
    error_message = "noncurrent_days is at least 1."
  }
}

variable "log_days" {
  description = "How long CloudWatch keeps the logs of the Kubernetes API, the database and the network."
  type        = number
  default     = 365

  validation {
    condition     = contains([7, 14, 30, 60, 90, 180, 365, 400, 731], var.log_days)
    error_message = "log_days is one of those that CloudWatch takes: 7, 14, 30, 60, 90, 180, 365, 400 or 731."
  }
}

variable "disposable" {
  description = "Whether all of it, data included, may be destroyed by one command: never where somebody needs the data."
  type        = bool
  default     = false
}

variable "password_version" {
  description = "A higher number makes new passwords, of the database and of MLflow's users, at the next apply."
  type        = number
  default     = 1

  validation {
    condition     = var.password_version >= 1 && floor(var.password_version) == var.password_version
    error_message = "password_version is a whole number from 1."
  }
}

variable "budget" {
  description = "What a month may cost, in US dollars, and who gets the mail at 80% spent and when the forecast is above it."
  type = object({
    monthly_usd = number
    email       = string
  })

  validation {
    condition     = var.budget.monthly_usd > 0 && can(regex("^[^@ ]+@[^@ ]+[.][^@ ]+$", var.budget.email))
    error_message = "budget: monthly_usd is more than 0, and email is an address such as ml-platform@example.com."
  }
}

variable "github_repository" {
  description = "The repository, as owner/name, whose GitHub environments may deploy and train; empty for none."
  type        = string
  default     = ""

  validation {
    condition     = var.github_repository == "" || can(regex("^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$", var.github_repository))
    error_message = "github_repository is owner/name, such as example/tabular-workflow, or empty."
  }
}

variable "github_environments" {
  description = "The GitHub environment that github_repository deploys from, with its approval, and the one that it trains in."
  type = object({
    deploy = string
    train  = string
  })
  default = { deploy = "production", train = "training" }
}

variable "github_provider_exists" {
  description = "Whether the account has GitHub's identity provider already, of which it can have one: then none is made."
  type        = bool
  default     = false
}
