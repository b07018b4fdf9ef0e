# Kubernetes: EKS with nodes for services, and spot nodes for Spark's executors.

resource "aws_cloudwatch_log_group" "api" {
  #checkov:skip=CKV_AWS_338:log_days is a year unless an environment is for trying things
  name              = "/aws/eks/${var.name}/cluster" # EKS's own name for it; made here to be encrypted, and to end
  retention_in_days = var.log_days
  kms_key_id        = var.kms_key_arn
}

resource "aws_eks_cluster" "this" {
  #checkov:skip=CKV_AWS_38:administrator_cidrs is validated; checkov does not see its value
  #checkov:skip=CKV_AWS_39:administrators reach it from administrator_cidrs, which may not be all addresses
  name                          = var.name
  version                       = var.kubernetes_version
  role_arn                      = aws_iam_role.cluster.arn
  enabled_cluster_log_types     = ["api", "audit", "authenticator", "controllerManager", "scheduler"]
  bootstrap_self_managed_addons = false # those below are in their place

  access_config {
    authentication_mode                         = "API"
    bootstrap_cluster_creator_admin_permissions = true
  }

  vpc_config {
    subnet_ids              = var.subnet_ids
    endpoint_private_access = true
    endpoint_public_access  = true
    public_access_cidrs     = var.administrator_cidrs
  }

  encryption_config {
    resources = ["secrets"]

    provider {
      key_arn = var.kms_key_arn
    }
  }

  depends_on = [aws_cloudwatch_log_group.api, aws_iam_role_policy.encryption, aws_iam_role_policy_attachment.cluster]
}

resource "aws_iam_role" "cluster" {
  name               = "${var.name}-cluster"
  assume_role_policy = data.aws_iam_policy_document.trust["eks.amazonaws.com"].json
}

resource "aws_iam_role_policy_attachment" "cluster" {
  role       = aws_iam_role.cluster.name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/AmazonEKSClusterPolicy"
}

# Kubernetes' secrets are encrypted by the cluster itself.
resource "aws_iam_role_policy" "encryption" {
  name   = "use-key"
  role   = aws_iam_role.cluster.name
  policy = data.aws_iam_policy_document.encryption.json
}

data "aws_iam_policy_document" "encryption" {
  statement {
    actions   = ["kms:Encrypt", "kms:Decrypt", "kms:ListGrants", "kms:DescribeKey"]
    resources = [var.kms_key_arn]
  }
}

data "aws_partition" "current" {}

data "aws_iam_policy_document" "trust" {
  for_each = toset(["eks.amazonaws.com", "ec2.amazonaws.com"])

  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = [each.key]
    }
  }
}

# By it the cluster's service accounts take roles.
resource "aws_iam_openid_connect_provider" "cluster" {
  url            = aws_eks_cluster.this.identity[0].oidc[0].issuer
  client_id_list = ["sts.amazonaws.com"]
}

# What a node needs to become ready.
resource "aws_eks_addon" "before_nodes" {
  for_each = {
    kube-proxy = null
    vpc-cni    = jsonencode({ enableNetworkPolicy = "true" }) # without it nobody keeps to a NetworkPolicy
  }

  cluster_name                = aws_eks_cluster.this.name
  addon_name                  = each.key
  configuration_values        = each.value
  resolve_conflicts_on_update = "OVERWRITE"
}

# What needs a node to run on; metrics-server is what the model servers' autoscaler measures by.
resource "aws_eks_addon" "after_nodes" {
  for_each = toset(["coredns", "metrics-server"])

  cluster_name                = aws_eks_cluster.this.name
  addon_name                  = each.key
  resolve_conflicts_on_update = "OVERWRITE"

  depends_on = [aws_eks_node_group.each]
}

resource "aws_iam_role" "node" {
  name               = "${var.name}-node"
  assume_role_policy = data.aws_iam_policy_document.trust["ec2.amazonaws.com"].json
}

resource "aws_iam_role_policy_attachment" "node" {
  for_each = toset(["AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly", "AmazonEKS_CNI_Policy"])

  role       = aws_iam_role.node.name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/${each.key}"
}

resource "aws_launch_template" "node" {
  name_prefix = "${var.name}-node-"

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1 # pods do not get the node's role
  }

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      volume_type           = "gp3"
      volume_size           = 80 # GiB: images, and what Spark's executors spill
      encrypted             = true
      delete_on_termination = true
    }
  }

  tag_specifications {
    resource_type = "instance"
    tags          = { Name = "${var.name}-node" }
  }
}

locals {
  node_groups = {
    services = {
      capacity_type  = "ON_DEMAND"
      instance_types = var.service_nodes.instance_types
      minimum        = var.service_nodes.minimum
      maximum        = var.service_nodes.maximum
      taints         = []
    }
    spark = {
      capacity_type  = "SPOT" # an executor that is lost is started again, and its tasks with it
      instance_types = var.spark_nodes.instance_types
      minimum        = 0
      maximum        = var.spark_nodes.maximum
      taints         = ["spark"] # nothing but executors, so that the nodes go when these have ended
    }
  }
}

resource "aws_eks_node_group" "each" {
  for_each = local.node_groups

  cluster_name    = aws_eks_cluster.this.name
  node_group_name = each.key
  node_role_arn   = aws_iam_role.node.arn
  subnet_ids      = var.subnet_ids
  ami_type        = "AL2023_x86_64_STANDARD"
  capacity_type   = each.value.capacity_type
  instance_types  = each.value.instance_types
  labels          = { dedicated = each.key }

  scaling_config {
    min_size     = each.value.minimum
    max_size     = each.value.maximum
    desired_size = each.value.minimum
  }

  update_config {
    max_unavailable = 1
  }

  launch_template {
    id      = aws_launch_template.node.id
    version = aws_launch_template.node.latest_version
  }

  dynamic "taint" {
    for_each = each.value.taints

    content {
      key    = "dedicated"
      value  = taint.value
      effect = "NO_SCHEDULE"
    }
  }

  lifecycle {
    ignore_changes = [scaling_config[0].desired_size] # the cluster autoscaler's
  }

  depends_on = [aws_iam_role_policy_attachment.node, aws_eks_addon.before_nodes]
}
