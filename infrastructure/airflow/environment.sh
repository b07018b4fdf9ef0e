#!/usr/bin/env bash
# Put Airflow, as requirements.txt has it, into an environment of its own in a cache, and print the folder of its
# commands. Airflow and the project cannot share one: they need other versions of the same packages.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/tabular-workflow/airflow"
uv="$(PATH="$PATH:$here/../../.uv/bin" command -v uv)" || { echo "environment.sh needs uv: make setup installs it" >&2; exit 1; }

environment="$cache/$(sha256sum "$here/requirements.txt" | cut -c1-16)"
if [ ! -e "$environment/done" ]; then
  rm -rf "$cache" # of other versions: a third of a gigabyte each
  "$uv" venv --quiet --python "$here/../../.venv/bin/python" "$environment" >&2
  "$uv" pip install --quiet --compile-bytecode --python "$environment/bin/python" --no-deps --requirement "$here/requirements.txt" >&2
  touch "$environment/done"
fi
echo "$environment/bin"
