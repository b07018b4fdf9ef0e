# The rules that tflint brings itself; those for AWS are a plugin that it would download.
plugin "terraform" {
  enabled = true
  preset  = "all"
}

config {
  call_module_type = "local"
}

rule "terraform_standard_module_structure" {
  enabled = false # files are named for what is in them, as roles.tf and secrets.tf
}
