#!/usr/bin/env bash
# All that can be known of infrastructure/ without an account: what `make check-infrastructure` runs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
tools="$(./tools.sh)"
PATH="$tools:$PATH"
export TF_CLI_CONFIG_FILE=/dev/null # whatever this machine's user has set
scratch="$(mktemp -d)"
trap 'rm -r "$scratch"' EXIT
rendered="$scratch/rendered"
mkdir "$rendered"

tofu fmt -check -diff -recursive terraform
tflint --chdir=terraform --recursive --config="$PWD/tflint.hcl"
infrastructure-python checks/with_provider.py terraform bash -euo pipefail -c '
  for root in . state examples/dev examples/production; do
    export TF_DATA_DIR="$0/data/$root" # nothing is written beside the files
    tofu -chdir="terraform/$root" init -backend=false >"$0/init" || { cat "$0/init" >&2; exit 1; }
    tofu -chdir="terraform/$root" validate -no-color
  done
  TF_DATA_DIR="$0/data/." tofu -chdir=terraform test -no-color
' "$scratch"

version="$(sed -n 's/.*kubernetes_version *= "\(.*\)"/\1/p' terraform/examples/production/main.tf)"
for overlay in dev production; do
  kustomize build "kubernetes/overlays/$overlay" >"$rendered/$overlay.yaml"
done
# of an executor's pod Spark adds image and sizes, so that one is for the API's schema alone
infrastructure-python checks/kubernetes.py "$version" "$rendered"/*.yaml kubernetes/base/spark/executor.yaml

checkov --config-file checkov.yaml --directory terraform --directory "$rendered"
