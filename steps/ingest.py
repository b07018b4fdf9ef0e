"""Bring a source into a versioned Delta table.

Reads   the config's source, or one without a config (`source` and `target`), of which a config is inferred and logged,
         of a kind that steps/core/sources/kinds.py lists
Writes  <lake>/<name>: the contract's columns; a new version only when rows or types changed;
        <lake>/<name>_rejects: the rows that break the contract, with the rules that they break;
        with labelled=false <lake>/<name>_unlabelled in place of <name>: rows to predict, without the target;
        the table's profile and warnings, as profile.json and profile.html
Hands on  output.table, the pinned URI
Fails   SourceUnreadable; SourceChanged, by what is written to files while they are read; SourceUnlabelled;
        ContractBroken for too many rejects, too few rows or stale ones; the table is then as it was
"""

from collections.abc import Sequence

from steps.core.errors import SourceChanged
from steps.core.parameters import parameters
from steps.core.sources import ingestion, kinds, outcome
from steps.core.sources.job import Job
from steps.core.tables import commit, location, snapshot
from steps.core.workflow import entry_point, own_data
from steps.core.workflow.step_spec import StepSpec


@parameters
class IngestParameters:
    config: str = "configs/iris.yaml"
    source: str = ""
    target: str = ""  # with a source and no config: one is inferred
    name: str = ""  # of the inferred config; by default the source's
    lake: str = ""
    labelled: bool = True
    """false: rows to predict, without the target, into `<lake>/<name>_unlabelled`."""


SPEC = StepSpec(
    name="ingest",
    parameters=IngestParameters,
    config_keys=(
        "name",
        "source",
        "columns",
        "target",
        "task",
        "weight",
        "key",
        "mode",
        "rows_at_least",
        "rejects_at_most",
        "freshness",
    ),
    works_on=("lake", "content"),
    outputs=("table",),
    spark="large sources",
)


def main(argv: Sequence[str] | None = None) -> None:
    with entry_point.start(SPEC, argv) as (parameters, run):
        loaded = own_data.load(parameters, run, entry_point=SPEC.name)
        source = kinds.resolve(loaded.settings.source, loaded.source)
        settings = loaded.settings.with_source(source.settings)
        lake_root = location.lake_root(parameters.lake)
        table = location.TableUri(f"{lake_root}/{settings.table_name(labelled=parameters.labelled)}")
        rejects = location.TableUri(f"{table.path}_rejects")
        run.reads(source=source.uri)
        run.ran_with(source__uri=source.uri)

        is_inferred = loaded.path.startswith("runs:/")  # and so is the table's name
        run.remark([*source.remarks(), *(outcome.replaced_source(source, table) if is_inferred else [])])
        content = source.fingerprint()
        if parameters.labelled:
            run.depends_on(settings, lake=lake_root, content=content or "")

        with commit.staging(table, run.run_id) as folder, commit.staging(rejects, run.run_id) as rejects_folder:
            job = Job(
                columns=source.with_missing(settings.contract(labelled=parameters.labelled)),
                key=settings.key,
                target=settings.target if parameters.labelled else "",
                folder=folder,
                rejects_folder=rejects_folder,
                table=table.path,
            )
            digests = outcome.new_files(source, table, mode=settings.mode)
            before = snapshot.find(table) if settings.mode != "replace" else None
            added = outcome.added_columns(before, job.columns) if settings.mode == "append" else []
            is_append = settings.mode == "append"
            beside = before if is_append else None
            result = ingestion.run(source, job, files=digests if is_append else None, beside=beside)
            if source.has_changed(digests if is_append else None):
                raise SourceChanged(source.uri)  # its digests may be those of other rows
            if beside and not result.source_rows:
                run.remark([outcome.without_new_rows(source, digests, table), *added])
                made_by = {**run.made_by(), "source": source.uri}
                run.writes(table=outcome.with_columns(beside, settings, job.columns, made_by=made_by))
                return
            warnings = outcome.warnings(result, settings, labelled=parameters.labelled, beside=before)
            made_by = {**run.made_by(), "source": source.uri, "warnings": "\n".join(warnings)}
            made_by |= outcome.counts(result)
            outcome.check_labels(result, source=source, target=job.target, table=table)
            rejected = outcome.commit_rejects(result, rejects, rejects_folder, made_by=made_by)
            told = outcome.lines(result, source=source, target=job.target, rejects=rejected)
            run.remark([*told, *added, *warnings])
            outcome.check(result, settings, source=source, rejects=rejected)
            made_of = {"step": "ingest", "fingerprint": result.fingerprint_of(job.columns)}
            pinned = outcome.commit_rows(
                result, settings, table, digests=digests, made_of=made_of, made_by=made_by, beside=beside
            )

        for reason in outcome.reasons_against_reuse(source, settings, content=content):
            run.is_not_reusable(reason)
        run.logs_table(pinned, context="ingest")
        outcome.log(result, settings, table=pinned, warnings=warnings)
        run.writes(table=pinned)


if __name__ == "__main__":
    main()
