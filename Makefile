# Thin names over the real commands; the first one also makes the environment.
.PHONY: run run-stack test test-share soak check check-infrastructure sbom audit train-and-report
.PHONY: rollout kubeconfig airflow notebook bench image-size docs docs-generated docs-console setup packages ui up down
SHELL := bash
export PATH := $(CURDIR)/.venv/bin:$(PATH)
PINS = sed -n '/- pip:$$/,$$ s/^ *- \([^ ]*==.*\)/\1/p' conda.yaml
TOOL = PATH="$$PATH:$(CURDIR)/.uv/bin" uv tool run --quiet --from
# A user id without a name in /etc/passwd, as in containers, gets one, for which MLflow asks.
export LOGNAME := $(or $(LOGNAME),$(USER),$(shell id -un 2>/dev/null || echo uid$$(id -u)))

run: setup
	@python -m steps.core.tracking.store
	mlflow run . -e main --env-manager local $(ARGS)

# On the stack of compose/, with its local keys where the environment has no others.
run-stack: export MLFLOW_TRACKING_URI ?= http://localhost:5000
run-stack: export LAKE_URI ?= s3://delta
run-stack: export MLFLOW_S3_ENDPOINT_URL ?= http://localhost:9000
run-stack: export AWS_ACCESS_KEY_ID ?= minioadmin
run-stack: export AWS_SECRET_ACCESS_KEY ?= minioadmin
run-stack: setup
	@python -m steps.core.tracking.store
	@python -m steps.core.spark.prepare
	mlflow run . -e main --env-manager local $(ARGS)

test: setup
	python -m pytest $(ARGS)

# One of SHARES parts of the tests, for machines that run one each: `make test-share SHARE=2 SHARES=5`.
test-share: setup
	files=$$(python -m automation.shares "$$SHARE" "$$SHARES") && python -m pytest $$files $(ARGS)

# Acts at random on one workflow, each compared with a run from nothing: `make soak ACTS=200 SEED=7`.
soak: ACTS ?= 60
soak: SEED ?= $(shell echo $$RANDOM)
soak: setup
	SOAK_ACTS=$(ACTS) SOAK_SEED=$(SEED) python -m pytest tests/test_soak.py

check: packages
	ruff format --check .
	ruff check .
	mypy
	lint-imports
	.ci/check-automation

# The site of docs/ into site/, by a generator in an environment of its own; warnings and lost links are errors.
docs: packages
	python -m automation.docs.build

# What docs/ has from the code: the reference, and the pictures, for which Graphviz is needed.
docs-generated: setup
	python -m automation.docs.reference
	python -m automation.docs.pictures

# What the commands in console blocks print, written anew; some minutes for all pages.
docs-console: PAGES ?= README.md $(wildcard docs/how-to/*.md)
docs-console: setup
	python -m automation.docs.console write $(PAGES)

# The first time it builds the tools, which takes some minutes.
check-infrastructure: packages
	infrastructure/check.sh

# The packages of the environment, as a CycloneDX bill of materials.
sbom: SBOM ?= sbom.json
sbom: setup
	$(TOOL) cyclonedx-bom==7.5.0 cyclonedx-py environment --output-reproducible --output-file $(SBOM) .venv/bin/python

# Known vulnerabilities of the pins, as PyPI tells them today.
audit: setup
	$(TOOL) pip-audit==2.10.1 pip-audit --disable-pip --no-deps --requirement <($(PINS)) --requirement notebooks/requirements.txt

# What the workflows in .github run, with their settings from the environment (docs/how-to/ci.md).
train-and-report: setup
	@python -m steps.core.tracking.store
	python -m automation.train

kubeconfig:
	aws eks update-kubeconfig --name "$$EKS_CLUSTER"

rollout: setup
	python -m automation.rollout --config="$$CONFIG" --version="$$VERSION" --alias="$$ALIAS" --force="$$FORCE" \
	  --reason="$$REASON" --image="$$IMAGE" --overlay="$$OVERLAY" --url="$$SERVE_URL"

# For a look on this machine; a team has compose's profile airflow.
airflow: setup
	infrastructure/airflow/local.sh airflow standalone

# In an environment over that of conda.yaml, as the tests execute it.
notebook: setup
	PATH="$$PATH:$(CURDIR)/.uv/bin" PYTHONPATH="$(CURDIR)" uv run --no-project --with-requirements \
	  notebooks/requirements.txt --with jupyterlab==4.6.6 jupyter lab notebooks/explore.ipynb

bench: setup
	python -m benchmarks.workflow
	python -m benchmarks.ingest
	python -m benchmarks.train_and_infer --exponents
	.ci/go-build "$${XDG_CACHE_HOME:-$$HOME/.cache}/tabular-workflow/bin" vegeta github.com/tsenart/vegeta/v12@v12.13.0
	python -m benchmarks.serving

# How large the packages are that the image of compose's profile serve gets.
image-size: setup
	@folder=$$(mktemp -d); trap "rm -r $$folder" EXIT; python compose/serve/size.py $$folder/packages

ui: setup
	mlflow ui

up:
	docker compose -f compose/compose.yaml up -d --build --wait $(ARGS) || \
	  { docker compose -f compose/compose.yaml logs --no-log-prefix settings >&2; exit 1; }

down:
	docker compose -f compose/compose.yaml --profile '*' down $(ARGS)

setup: .venv/installed

packages: .venv/packages

.venv/installed: .venv/packages
	@echo "preparing Spark: its jars, and an archive of its classes for faster starts ..."
	@python -m steps.core.spark.prepare
	@touch $@

# Java is looked for first: it takes a moment, and the packages take minutes. uv is used when it is there, and its cache
# alone where that has all: else it asks for each package whether it changed, and builds PySpark anew, which has no wheel.
.venv/packages: conda.yaml
	@python3 -m steps.core.spark.java
	@command -v uv >/dev/null || test -x .uv/bin/uv || { python3 -m venv .uv && .uv/bin/pip install --quiet uv; } || \
	  { rm -rf .uv; echo "make needs uv, or python3 with venv: sudo apt-get install python3-venv" >&2; exit 1; }
	@PATH="$$PATH:$(CURDIR)/.uv/bin"; set -e -o pipefail; \
	  uv venv --quiet --clear --seed .venv; \
	  echo "installing the packages of conda.yaml ..."; \
	  install() { $(PINS) | uv pip install --quiet --compile-bytecode --python .venv/bin/python --requirements - "$$@"; }; \
	  install --offline 2>/dev/null || install
	@touch $@
