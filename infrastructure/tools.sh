#!/usr/bin/env bash
# Put what checks infrastructure/ into a cache of its own, at the versions below and of requirements.txt, and print the
# folder of its commands. What is there stays; from nothing it takes some minutes, since OpenTofu, tflint and kustomize
# are built from their Go modules.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
tools="${XDG_CACHE_HOME:-$HOME/.cache}/tabular-workflow/infrastructure"
bin="$tools/bin"
mkdir -p "$bin"

uv="$(PATH="$PATH:$here/../.uv/bin" command -v uv)" || { echo "tools.sh needs uv: make setup installs it" >&2; exit 1; }
python="$tools/python-$(sha256sum "$here/requirements.txt" | cut -c1-16)"
if [ ! -x "$python/done" ]; then
  rm -rf "$tools"/python-* # of other versions: half a gigabyte each
  "$uv" venv --quiet --clear --python "$here/../.venv/bin/python" "$python" >&2
  # --no-deps: requirements.txt is the whole list, but for what would run the provider's classes, which are only read
  "$uv" pip install --quiet --python "$python/bin/python" --no-deps --requirement "$here/requirements.txt" >&2
  install /dev/null "$python/done"
fi
ln -sf "$python/bin/checkov" "$bin/checkov"
printf '#!/bin/sh\nexec "%s" "$@"\n' "$python/bin/python" >"$bin/infrastructure-python" # a link would leave its packages
chmod +x "$bin/infrastructure-python"

go_build() { "$here/../.ci/go-build" "$bin" "$@"; }
go_build kustomize sigs.k8s.io/kustomize/kustomize/v5@v5.8.1
go_build tflint github.com/terraform-linters/tflint@v0.64.0
go_build tofu github.com/opentofu/opentofu@v1.12.6 ./cmd/tofu
echo "$bin"
