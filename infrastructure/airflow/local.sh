#!/usr/bin/env bash
# Run a command of Airflow's on this machine with the project's DAGs, on SQLite: for a look, not for a team.
#   infrastructure/airflow/local.sh airflow standalone
#   infrastructure/airflow/local.sh airflow dags test iris_workflow
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
bin="$("$here/environment.sh")"
export PATH="$bin:$PATH" AIRFLOW_HOME="${AIRFLOW_HOME:-$HOME/airflow}"
export AIRFLOW__CORE__DAGS_FOLDER="$here/dags" AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__API__HOST=127.0.0.1
# Airflow 3.3.2 ends `dags test` of a DAG that has a deadline with an error, after all tasks (apache/airflow#73428)
[ "${2:-}" != dags ] || export WORKFLOW_DEADLINE_MINUTES=0

if [ ! -e "$AIRFLOW_HOME/airflow.db" ]; then
  airflow db migrate
  airflow pools set workflow_writer 1 "one step of the workflow at a time"
fi
exec "$@"
