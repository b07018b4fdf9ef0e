"""Two DAGs for one config: one ingests, and one makes predictions, by its own time or when there is a new table."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import (
    DAG,
    Asset,
    AssetOrTimeSchedule,
    CronTriggerTimetable,
    DeadlineAlert,
    DeadlineReference,
    SyncCallback,
    get_current_context,
    task,
)

from workflow_dags import alerts, parameters, settings
from workflow_dags.step import Step, StepFailed

DEFAULT_POOL = "default_pool"  # of what starts no step
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)  # before which no backfill goes


def table_of(config: str) -> Asset:
    """The table of a config: each new version is an event, whose `extra` has its pinned URI."""
    return Asset(f"{settings.config(config)['name']}_table")


def ingest_dag(config: str, *, schedule: str, retry_minutes: float) -> DAG:
    """Look for new rows; a new version of the table is an event of its asset."""
    with DAG(
        f"{settings.config(config)['name']}_ingest",
        description="Ingest the source; a new version of the table starts the workflow",
        schedule=CronTriggerTimetable(schedule, timezone="UTC"),
        params={"config": config},
        **_common(retry_minutes),
    ) as dag:
        Step(step="ingest", announces=table_of(config), execution_timeout=timedelta(hours=3))
    return dag


def workflow_dag(config: str, *, schedule: str, deadline_minutes: float, retry_minutes: float) -> DAG:
    """From the source to predictions, as main.py does it, each step a task. A deadline of 0 is none."""
    deadline = DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(minutes=deadline_minutes),
        callback=SyncCallback(alerts.run_late),
    )
    with DAG(
        f"{settings.config(config)['name']}_workflow",
        description="ingest, train, evaluate, infer, monitor; predictions by the version that the gate lets through",
        schedule=AssetOrTimeSchedule(
            timetable=CronTriggerTimetable(schedule, timezone="UTC"), assets=[table_of(config)]
        ),
        params=parameters.of_main(config=config),
        deadline=deadline if deadline_minutes else None,
        **_common(retry_minutes),
    ) as dag:
        ingest = Step(step="ingest", given_by=table_of(config), execution_timeout=timedelta(hours=3))
        table = ingest.output["table"]
        train = Step(step="train", inputs={"table": table}, execution_timeout=timedelta(hours=12))
        model = train.output["model"]
        evaluate = Step(step="evaluate", inputs={"table": table, "model": model}, execution_timeout=timedelta(hours=3))
        infer = Step(
            step="infer",
            inputs={"table": table, "model": evaluate.output["champion"]},
            execution_timeout=timedelta(hours=6),
        )
        monitor = Step(step="monitor", execution_timeout=timedelta(hours=3))
        whole = Step(step="main", execution_timeout=timedelta(hours=24))
        who_decides() >> [whole, ingest]
        ingest >> train >> evaluate >> gate(evaluate.output) >> [infer, no_champion(model, evaluate.output)]
        infer >> monitor
    return dag


@task.branch(pool=DEFAULT_POOL)
def who_decides() -> str:
    """`main`, where its own parameters say which steps run, or a config has to be inferred first; else this DAG."""
    params = get_current_context()["params"]
    return "main" if params["when"] == "alert" or params["dry_run"] or params["target"] else "ingest"


@task.branch(pool=DEFAULT_POOL)
def gate(judged: Mapping[str, Any]) -> str:
    """Predictions by the champion that the gate leaves, as main.py has it: an earlier one, where this one failed."""
    return "infer" if judged["champion"] else "no_champion"


@task(pool=DEFAULT_POOL, retries=0)
def no_champion(model: str, judged: Mapping[str, Any]) -> None:
    """Fail the run: there is nothing to predict with."""
    raise StepFailed(
        f"NothingToInferWith: the gate's verdict on {model} is {judged['verdict']} and there is no champion: "
        f"{'; '.join(judged.get('because', []))}\n"
        "  next      change the data, the hyperparameters or the gate in the config, and run it again"
    )


def _common(retry_minutes: float) -> dict[str, Any]:
    return {
        "start_date": BEGINNING,
        "catchup": False,
        "max_active_runs": 1,
        "tags": ["tabular-workflow"],
        "default_args": {
            "pool": settings.POOL,
            "retries": 2,  # safe: what a try has finished is found by the next one, and nothing half-written is seen
            "retry_delay": timedelta(minutes=retry_minutes),
            "on_failure_callback": alerts.task_failed,
        },
    }
