"""The DAGs of one config; those of another one are two more calls.

Airflow reads a file as one of DAGs where its text has the words "airflow" and "dag", as this one has.
Read from the environment of Airflow's processes: WORKFLOW_CONFIG, WORKFLOW_INGEST_SCHEDULE and WORKFLOW_SCHEDULE (cron,
UTC), WORKFLOW_DEADLINE_MINUTES, WORKFLOW_RETRY_MINUTES.
"""

import os

from workflow_dags import dags

config = os.environ.get("WORKFLOW_CONFIG") or "configs/iris.yaml"
retry_minutes = float(os.environ.get("WORKFLOW_RETRY_MINUTES") or 5)

ingest = dags.ingest_dag(
    config, schedule=os.environ.get("WORKFLOW_INGEST_SCHEDULE") or "5 * * * *", retry_minutes=retry_minutes
)
workflow = dags.workflow_dag(
    config,
    schedule=os.environ.get("WORKFLOW_SCHEDULE") or "17 3 * * *",
    deadline_minutes=float(os.environ.get("WORKFLOW_DEADLINE_MINUTES") or 360),
    retry_minutes=retry_minutes,
)
