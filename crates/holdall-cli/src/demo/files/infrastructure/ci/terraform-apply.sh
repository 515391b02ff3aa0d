#!/bin/sh
# Makes the environment what the bag says: first the infrastructure, then the processes of the services.
set -eu
PATH="$DEMO/bin:$PATH"
world=$(cat "$DEMO/world/address")

# State and lock of the environment are at the demo's state server, for Terraform and for what stands in for it.
export TF_HTTP_ADDRESS="$world/state/$HOLDALL_ENVIRONMENT"
export TF_HTTP_LOCK_ADDRESS="$TF_HTTP_ADDRESS"
export TF_HTTP_UNLOCK_ADDRESS="$TF_HTTP_ADDRESS"
export TF_IN_AUTOMATION=1 CHECKPOINT_DISABLE=1

# What the configuration asks for: where this is, and the bag in the form that Terraform reads by itself.
export TF_VAR_environment="$HOLDALL_ENVIRONMENT" TF_VAR_deployment="$HOLDALL_DEPLOYMENT"
cp bag/bag.auto.tfvars.json infrastructure/terraform/

cd infrastructure/terraform
if [ -x "$DEMO/bin/terraform" ]; then
    terraform init -input=false -no-color
    terraform apply -input=false -no-color -auto-approve
elif [ -x "$DEMO/bin/tofu" ]; then
    tofu init -input=false -no-color
    tofu apply -input=false -no-color -auto-approve
else
    echo "No terraform and no tofu on the PATH: \"holdall demo-apply\" does the same, with the same state and lock."
    holdall demo-apply
fi
cd ../..

holdall demo-deploy --bag bag/bag.json
