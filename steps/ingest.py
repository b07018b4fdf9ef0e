"""Bring a source into a versioned Delta table.

Reads   the config's source: a scikit-learn table, or csv, json, parquet, delta by path
Writes  <lake>/<name>: the contract's columns; a new version only when rows or types changed
Hands on  output.table, the pinned URI
Fails   SourceUnreadable, ContractBroken (every broken rule at once); the table is then as it was
"""

import json
from collections.abc import Sequence

import mlflow
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame

from steps.core import config, contract, lake, source, spark, step
from steps.core.errors import ContractBroken
from steps.core.parameters import parameters


@parameters
class IngestParameters:
    config: str = "configs/iris.yaml"
    source: str = ""
    lake: str = ""


def write_if_changed(rows: DataFrame, table: lake.TableUri, *, fingerprint: str, run_id: str) -> lake.TableUri:
    """`rows` as the newest version of `table`, or that version itself when it holds the same rows already."""
    if lake.exists(table) and lake.last_commit(table).get("fingerprint") == fingerprint:
        return lake.pin(table)
    commit = json.dumps({"step": "ingest", "run_id": run_id, "fingerprint": fingerprint})
    writer = rows.write.format("delta").mode("overwrite").option("overwriteSchema", True)
    writer.option("userMetadata", commit).save(table.path)
    return lake.pin(table)


def main(argv: Sequence[str] | None = None) -> None:
    with step.start("ingest", IngestParameters, argv) as (parameters, run):
        settings = config.load(parameters.config, home=lake.home())
        given = source.resolve(settings.source, parameters.source)
        table = lake.TableUri(f"{lake.root(parameters.lake)}/{settings.name}")
        run.reads(source=given.uri)
        run.ran_with(source__uri=given.uri)

        with spark.session(data_bytes=source.size_bytes(given)) as session:
            raw = source.read(given, session)
            if absent := contract.missing(settings.columns, raw.columns):
                raise ContractBroken(given.uri, absent)
            try:
                found = contract.inspect(raw, settings.columns)
            except PySparkException as err:  # reading is lazy: a malformed file shows only here
                raise source.unreadable(given, err) from err
            if not found.rows:
                raise ContractBroken(given.uri, ["it has no rows"])
            if found.mistakes:
                raise ContractBroken(given.uri, found.mistakes)
            rows = contract.conform(raw, settings.columns)
            pinned = write_if_changed(rows, table, fingerprint=found.fingerprint, run_id=run.run_id)

        run.logs_table(pinned, context="ingest")
        mlflow.log_metric("rows", found.rows)
        mlflow.log_dict(found.profile, "profile.json")
        run.writes(table=pinned)


if __name__ == "__main__":
    main()
