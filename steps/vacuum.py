"""Remove the data files of table versions that nobody needs any more, and old models that were never registered.

Reads   the config's table and its predictions; runs, the registry
Writes  fewer files, and no version of a table; vacuum.json on its run. Never touched: the newest version, one younger
        than keep_days, one that a registered model was trained on, that kept predictions were made of, or that a
        receipt younger than keep_days names. With dry_run=true it only says what would go
Fails   TableNotFound; SparkUnavailable
"""

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import quote

import mlflow
import pyarrow as pa
from mlflow import MlflowClient
from mlflow.entities import LoggedModel
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from pydantic import Field
from pyspark.sql import SparkSession

from steps.core import config
from steps.core.parameters import parameters
from steps.core.spark.session import spark_session
from steps.core.storage import filesystem
from steps.core.tables import location, snapshot
from steps.core.workflow import entry_point, retention
from steps.core.workflow.retention import Plan
from steps.core.workflow.step_spec import StepSpec

# Delta's own check goes by age alone; who needs a version has been asked already. Its record of a vacuum would be two
# new versions of the table.
VACUUM_SETTINGS = {
    "spark.databricks.delta.retentionDurationCheck.enabled": "false",
    "spark.databricks.delta.vacuum.logging.enabled": "false",
}


@parameters
class VacuumParameters:
    config: str = "configs/iris.yaml"
    lake: str = ""
    keep_days: Annotated[int, Field(ge=0, le=36_500)] = 30
    dry_run: bool = False


SPEC = StepSpec(name="vacuum", parameters=VacuumParameters)


def plans(lake_uri: str, name: str, *, limit: datetime) -> list[Plan]:
    """What can go of the predictions of `name` and of its table. TableNotFound when there is no such table."""
    table, predictions = location.TableUri(f"{lake_uri}/{name}"), location.TableUri(f"{lake_uri}/{name}_predictions")
    snapshot.open_table(table)
    needed = retention.references(limit)
    made = []
    if snapshot.exists(predictions):
        made = [retention.plan(predictions, limit=limit, needed=needed)]
    for path in filesystem.tables(lake_uri):  # whatever stays and was made of the table protects what it was made of
        lost = made[0].lost if path == predictions.path else ()
        needed = {**retention.sources(path, without=lost), **needed}
    return [retention.plan(table, limit=limit, needed=needed), *made]


def remove(plans: Sequence[Plan], models: Sequence[LoggedModel]) -> None:
    if any(plan.files for plan in plans):
        with spark_session(*(plan.table.path for plan in plans), data_bytes=0) as session:
            for name, value in VACUUM_SETTINGS.items():
                session.conf.set(name, value)
            for plan in filter(lambda plan: plan.files, plans):
                delete_files(plan, session)
    for model in models:
        delete_model(model)


def delete_files(plan: Plan, session: SparkSession) -> None:
    """By Delta's own VACUUM, which takes of these files what the newest version does not need."""
    path = filesystem.for_spark(plan.table.path)
    root = path if filesystem.is_remote(plan.table.path) else f"file:{path}"
    inventory = {
        "path": [f"{root}/{quote(name)}" for name in plan.files],
        "length": list(plan.files.values()),
        "isDir": [False] * len(plan.files),
        "modificationTime": [0] * len(plan.files),  # whether a file is old enough has been asked already
    }
    session.createDataFrame(pa.table(inventory)).createOrReplaceTempView("unneeded")
    quoted = path.replace("`", "``")
    # Of any other number of hours Delta 4.4 takes the table's own retention in its place.
    session.sql(f"VACUUM delta.`{quoted}` USING INVENTORY (SELECT * FROM unneeded) RETAIN 0 HOURS").collect()
    if left := plan.files.keys() - filesystem.missing(plan.table.path, plan.files):
        raise RuntimeError(f"Delta's VACUUM left {', '.join(sorted(left))} of {plan.table.path}")
    for folder in {os.path.dirname(name) for name in plan.files} - {""}:
        filesystem.remove_if_empty(f"{plan.table.path}/{folder}")


def delete_model(model: LoggedModel) -> None:
    """The record first: `mlflow gc` takes what is left when this process dies in between."""
    MlflowClient().delete_logged_model(model.model_id)
    get_artifact_repository(model.artifact_location).delete_artifacts()


def report(plans: Sequence[Plan], models: Sequence[LoggedModel], *, dry_run: bool) -> Iterator[str]:
    """What goes, by version, and what stays though it is old, with the reason."""
    rows: list[tuple[str, str]] = []
    for plan in plans:
        for version, files in plan.lost.items():
            rows.append((f"{plan.table.path}@v{version}", _amount(plan, files)))
        if plan.strays:
            rows.append((plan.table.path, f"{_amount(plan, plan.strays)} of no version"))
    rows += [
        (f"models:/{each.model_id}", f"not registered, of run {(each.source_run_id or '')[:8]}") for each in models
    ]
    kept = [(f"{plan.table.path}@v{version}", reason) for plan in plans for version, reason in plan.kept.items()]
    width = max((len(row[0]) for row in [*rows, *kept]), default=0)
    yield "would remove" if dry_run else "removed"
    yield from (f"  {name:<{width}}  {what}" for name, what in rows)
    if not rows:
        yield "  nothing"
    if kept:
        yield "kept beyond the limit"
        yield from (f"  {name:<{width}}  {reason}" for name, reason in kept)


def record(plans: Sequence[Plan], models: Sequence[LoggedModel]) -> dict[str, Any]:
    """vacuum.json: versions that cannot be read afterwards, all files that go, and what is kept though old, and why."""
    return {
        "versions": [f"{plan.table.path}@v{version}" for plan in plans for version in plan.lost],
        "files": {f"{plan.table.path}/{file}": size for plan in plans for file, size in plan.files.items()},
        "models": [model.model_id for model in models],
        "kept": {f"{plan.table.path}@v{version}": why for plan in plans for version, why in plan.kept.items()},
    }


def _amount(plan: Plan, files: Sequence[str]) -> str:
    return f"{len(files)} file{'s' * (len(files) != 1)}, {sum(plan.files[file] for file in files):,} bytes"


def main(argv: Sequence[str] | None = None) -> None:
    with entry_point.start(SPEC, argv) as (parameters, run):
        settings = config.load(parameters.config, home=location.home())
        limit = datetime.now(UTC) - timedelta(days=parameters.keep_days)
        found = plans(location.root(parameters.lake), settings.name, limit=limit)
        models = retention.unregistered_models(run.experiment_id, limit=limit)
        run.ran_with(limit=limit.isoformat(timespec="seconds"))

        if not parameters.dry_run:
            remove(found, models)

        gone = {"files": sum(len(plan.files) for plan in found), "models": len(models)}
        gone["bytes"] = sum(sum(plan.files.values()) for plan in found)
        mlflow.log_metrics({f"{what}_removed": 0 if parameters.dry_run else count for what, count in gone.items()})
        mlflow.log_dict(record(found, models), "vacuum.json")
        print("\n".join(report(found, models, dry_run=parameters.dry_run)))


if __name__ == "__main__":
    main()
