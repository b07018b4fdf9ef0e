"""Bring a source into a versioned Delta table.

Reads   the config's source, of a kind that steps/core/sources/kinds.py lists
Writes  <lake>/<name>: the contract's columns; a new version only when rows or types changed
Hands on  output.table, the pinned URI
Fails   SourceUnreadable, ContractBroken (every broken rule at once), SourceUnlabelled; the table is then as it was
"""

from collections.abc import Sequence

import mlflow

from steps.core import config
from steps.core.parameters import parameters
from steps.core.sources import contract, kinds, reader
from steps.core.spark.session import spark_session
from steps.core.tables import commit, location
from steps.core.workflow import entry_point
from steps.core.workflow.step_spec import StepSpec


@parameters
class IngestParameters:
    config: str = "configs/iris.yaml"
    source: str = ""
    lake: str = ""


SPEC = StepSpec(
    name="ingest",
    parameters=IngestParameters,
    config_keys=("name", "source", "columns", "target"),
    works_on=("lake", "content"),
    outputs=("table",),
    spark="always",
)


def main(argv: Sequence[str] | None = None) -> None:
    with entry_point.start(SPEC, argv) as (parameters, run):
        settings = config.load(parameters.config, home=location.home())
        source = kinds.resolve(settings.source, parameters.source)
        lake_root = location.lake_root(parameters.lake)
        table = location.TableUri(f"{lake_root}/{settings.name}")
        run.reads(source=source.uri)
        run.ran_with(source__uri=source.uri)

        source_reader = reader.SourceReader(source)
        run.remark(source.remarks())
        run.depends_on(settings.with_source(source.settings), lake=lake_root, content=source.fingerprint())

        with spark_session(lake_root, source.uri, data_bytes=source_reader.size_bytes) as spark:
            raw_rows = source_reader.read(spark, columns=settings.source_columns)
            result = contract.check(raw_rows, settings, source=source, table=str(table))
            rows = contract.conform(raw_rows, settings.columns)

            def write(folder: str) -> None:
                commit.save(rows, folder)
                source_reader.check_unchanged()  # nothing is committed that was not checked

            made_of = {"step": "ingest", "fingerprint": result.fingerprint}
            made_by = {**run.made_by(), "source": source.uri}
            pinned = commit.once(table, made_of=made_of, made_by=made_by, write=write).table

        if source_reader.source_has_changed():
            run.is_not_reusable(f"{source.uri} was written to meanwhile")
        run.logs_table(pinned, context="ingest")
        mlflow.log_metric("rows", result.row_count)
        mlflow.log_dict(result.profile, "profile.json")
        run.writes(table=pinned)


if __name__ == "__main__":
    main()
