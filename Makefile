# Thin names over the real commands; the first one also makes the environment.
.PHONY: run run-stack test soak check bench setup ui up down
SHELL := bash
export PATH := $(CURDIR)/.venv/bin:$(PATH)

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

# Acts at random on one workflow, each compared with a run from nothing: `make soak ACTS=200 SEED=7`.
soak: ACTS ?= 60
soak: SEED ?= $(shell echo $$RANDOM)
soak: setup
	SOAK_ACTS=$(ACTS) SOAK_SEED=$(SEED) python -m pytest tests/test_soak.py

check: setup
	ruff format --check .
	ruff check .
	mypy
	lint-imports

bench: setup
	python -m benchmarks.workflow

ui: setup
	mlflow ui

up:
	docker compose -f compose/compose.yaml up -d --build --wait $(ARGS) || \
	  { docker compose -f compose/compose.yaml logs --no-log-prefix settings >&2; exit 1; }

down:
	docker compose -f compose/compose.yaml --profile '*' down $(ARGS)

setup: .venv/installed

# Java is looked for first: it takes a moment, and the packages take minutes. uv is used when it is there.
.venv/installed: conda.yaml
	@python3 -m steps.core.spark.java
	@command -v uv >/dev/null || test -x .uv/bin/uv || { python3 -m venv .uv && .uv/bin/pip install --quiet uv; } || \
	  { rm -rf .uv; echo "make needs uv, or python3 with venv: sudo apt-get install python3-venv" >&2; exit 1; }
	@PATH="$$PATH:$(CURDIR)/.uv/bin"; set -e -o pipefail; \
	  uv venv --quiet --clear --seed .venv; \
	  echo "installing the packages of conda.yaml ..."; \
	  sed -n '/- pip:$$/,$$ s/^ *- \([^ ]*==.*\)/\1/p' conda.yaml | \
	    uv pip install --quiet --compile-bytecode --python .venv/bin/python --requirements -
	@echo "preparing Spark: its jars, and an archive of its classes for faster starts ..."
	@python -m steps.core.spark.prepare
	@touch $@
