# terraform_data is built into Terraform: nothing is downloaded.
terraform {
  backend "http" {}
}

variable "environment" {
  type = string
}

variable "deployment" {
  type = string
}

# The bag, as Holdall writes it to bag.auto.tfvars.json.
variable "bag" {
  type = number
}

variable "bag_digest" {
  type = string
}

variable "commits" {
  type        = map(string)
  description = "The commit of each service of the bag"
}

variable "images" {
  type = map(string)
}

variable "versions" {
  type = map(map(string))
}

# Switches to try things with, in settings.auto.tfvars.json.

variable "settle_seconds" {
  type        = number
  default     = 0
  description = "How long the infrastructure takes to settle; raise it to have time to abort an apply"
}

variable "refuse_in" {
  type        = string
  default     = ""
  description = "The environment that refuses the change; set it to see a deploy fail"
}

resource "terraform_data" "network" {
  input = var.environment

  lifecycle {
    precondition {
      condition     = var.refuse_in != var.environment
      error_message = "The network of ${var.environment} refuses this change: refuse_in in settings.auto.tfvars.json says so."
    }
  }
}

resource "terraform_data" "service" {
  for_each   = var.commits
  depends_on = [terraform_data.network]
  input      = { service = each.key, commit = each.value }
}

resource "terraform_data" "settled" {
  depends_on       = [terraform_data.service]
  triggers_replace = [var.deployment]

  provisioner "local-exec" {
    command = "sleep ${var.settle_seconds}"
  }
}
