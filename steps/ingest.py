"""Bring a source into a versioned Delta table.

Reads   the config's source: a scikit-learn table, or csv, json, parquet, delta by path
Writes  <lake>/<name>: the contract's columns; a new version only when rows or types changed
Hands on  output.table, the pinned URI
Fails   SourceUnreadable, ContractBroken (every broken rule at once), SourceUnlabelled; the table is then as it was
"""

from collections.abc import Callable, Mapping, Sequence

import mlflow
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame

from steps.core import config
from steps.core.errors import ContractBroken, SourceChanged, SourceUnlabelled
from steps.core.parameters import parameters
from steps.core.sources import contract, headers, reader, source
from steps.core.spark import server
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


def check_columns(present: list[str], settings: config.Config, *, uri: str, table: location.TableUri) -> None:
    """ContractBroken for columns that the source lacks; SourceUnlabelled when that is the target's alone."""
    absent = contract.missing(settings.columns, present)
    if absent and absent == contract.missing({settings.target: settings.columns[settings.target]}, present):
        raise SourceUnlabelled(uri, absent[0], table=str(table))
    if absent:
        raise ContractBroken(uri, absent)


def check_rows(found: contract.Finding, settings: config.Config, *, uri: str, table: location.TableUri) -> None:
    """ContractBroken with all broken rules, or for want of rows; SourceUnlabelled when no row has a label."""
    if not found.rows:
        raise ContractBroken(uri, ["it has no rows"])
    if found.is_only_empty(settings.target):
        reason = f"its target, column {settings.target!r}, is empty in all {found.rows} rows"
        raise SourceUnlabelled(uri, reason, table=str(table))
    if found.mistakes:
        raise ContractBroken(uri, found.mistakes)


def write_if_changed(
    rows: DataFrame,
    table: location.TableUri,
    *,
    fingerprint: str,
    made_by: Mapping[str, str],
    check: Callable[[], None],
) -> location.TableUri:
    """`rows` as the newest version of `table`, or that version itself when it holds the same rows already.

    `check` is called when they are written and not yet committed; what it raises leaves the table as it was.
    """

    def write(folder: str) -> None:
        commit.save(rows, folder)
        check()

    made_of = {"step": "ingest", "fingerprint": fingerprint}
    return commit.once(table, made_of=made_of, made_by=made_by, write=write).table


def main(argv: Sequence[str] | None = None) -> None:
    with entry_point.start(SPEC, argv) as (parameters, run):
        settings = config.load(parameters.config, home=location.home())
        given = source.resolve(settings.source, parameters.source)
        lake_root = location.root(parameters.lake)
        table = location.TableUri(f"{lake_root}/{settings.name}")
        run.reads(source=given.uri)
        run.ran_with(source__uri=given.uri)
        before = source.change_token(given)
        layout = headers.layout(given)
        run.remark(reader.remarks(given, layout))
        run.depends_on(settings.with_source(given), lake=lake_root, content=source.fingerprint(given))

        size_bytes = source.size_bytes(given)
        with spark_session(lake_root, given.uri, data_bytes=size_bytes) as session:
            raw = reader.read(given, session, layout, wanted=settings.source_columns)
            is_read_once = size_bytes < server.SMALL_BYTES  # so that what is written is what was checked
            if is_read_once and size_bytes:
                raw = raw.localCheckpoint(eager=False)
            check_columns(raw.columns, settings, uri=given.uri, table=table)
            try:
                found = contract.inspect(raw, settings.columns)
            except PySparkException as err:  # reading is lazy: a malformed file shows only here
                raise reader.unreadable(given, err) from err
            check_rows(found, settings, uri=given.uri, table=table)
            rows = contract.conform(raw, settings.columns)
            made_by = {"run_id": run.run_id, "git_commit": run.git_commit, "source": given.uri}

            def check_source() -> None:
                if not is_read_once and source.change_token(given) != before:
                    raise SourceChanged(given.uri)

            pinned = write_if_changed(rows, table, fingerprint=found.fingerprint, made_by=made_by, check=check_source)

        if source.change_token(given) != before:
            run.is_not_reusable(f"{given.uri} was written to meanwhile")
        run.logs_table(pinned, context="ingest")
        mlflow.log_metric("rows", found.rows)
        mlflow.log_dict(found.profile, "profile.json")
        run.writes(table=pinned)


if __name__ == "__main__":
    main()
