"""What an ingest has found, for people and for the run: rejects, whether there are too many, the profile."""

import datetime
from collections.abc import Iterator, Mapping, Sequence

import mlflow

from steps.core import config
from steps.core.columns import Column
from steps.core.errors import ContractBroken, SourceUnlabelled, SourceUnreadable
from steps.core.sources import contract, data_warnings, listing, profile_page
from steps.core.sources.job import Result
from steps.core.sources.source import Source
from steps.core.tables import collation, commit
from steps.core.tables.location import TableUri
from steps.core.tables.snapshot import Snapshot

SHOWN_RULES = 20  # on the screen; the rejects have all


def check_labels(result: Result, *, source: Source, target: str, table: TableUri) -> None:
    """SourceUnlabelled when no row has a value in the target."""
    rows = result.source_rows - result.malformed
    if target and rows and result.unlabelled == rows:
        reason = f"its target, column {target!r}, is empty in all {rows:,} rows"
        raise SourceUnlabelled(source.uri, reason, table=table.path)


def commit_rejects(result: Result, table: TableUri, folder: str, *, made_by: Mapping[str, str]) -> Snapshot | None:
    """The rejects as the newest version of their table; None when there are none, and never were."""
    if not result.rejected and not collation.open_newest(table):
        return None

    def write(folder: str) -> list[str] | None:
        if result.rejected:
            return result.reject_files
        commit.save(contract.REJECTS_SCHEMA.empty_table(), folder)
        return None

    made_of = {"step": "ingest", "fingerprint": f"{result.rejected}|{result.rejects_fingerprint}"}
    return commit.once(table, made_of=made_of, made_by=made_by, write=write).table


def new_files(source: Source, table: TableUri, *, mode: str) -> dict[str, str]:
    """The digests of the source's files that are to be read: by `append`, those of which the table has no rows yet.

    SourceUnreadable for `append` from a source that has no files.
    """
    if mode == "append" and not source.has_files:
        reason = "`mode: append` reads new files only, and it has none"
        raise SourceUnreadable(source.uri, reason, next="set mode to upsert, with a key, or to replace in the config")
    digests = source.digests()
    newest = collation.open_newest(table) if mode == "append" else None
    if not newest:
        return digests
    known = commit.ingested_files(newest)
    return {file: digest for file, digest in digests.items() if digest not in known}


def without_new_rows(source: Source, files: Mapping[str, str], table: TableUri) -> str:
    """A line that says why nothing is added to the table, by the files of which it has no rows yet."""
    if files:
        return f"{source.uri}: its new files have no rows: {listing.shown(files, below=source.uri)}"
    return f"{source.uri}: all of its files are in {table.path} already"


def replaced_source(source: Source, table: TableUri) -> list[str]:
    """A line where the table has the rows of another source, after which it was named too."""
    newest = collation.open_newest(table)
    other = newest.commit.metadata.get("source", source.uri) if newest else source.uri
    if other == source.uri:
        return []
    return [f"{table.path} had the rows of {other}; to keep both, name this one with -P name=NAME"]


def added_columns(before: Snapshot | None, columns: Mapping[str, Column]) -> list[str]:
    """A line on the columns that a table to which rows are added does not have yet, and its rows no value in."""
    if not before or not before.row_count:
        return []
    new = [name for name in columns if name not in before.schema.names]
    rows = f"the {before.row_count:,} rows that are in {before}"
    return [f"new columns, missing in {rows}: {', '.join(new)}; `mode: replace` reads all of the source"] if new else []


def with_columns(
    table: Snapshot, settings: config.Config, columns: Mapping[str, Column], *, made_by: Mapping[str, str]
) -> Snapshot:
    """A table without new rows, with all columns of the contract."""
    return commit.with_columns(table, contract.schema_of(columns), made_by=made_by, required=_required(settings))


def commit_rows(
    result: Result,
    settings: config.Config,
    table: TableUri,
    *,
    digests: Mapping[str, str],
    made_of: Mapping[str, str],
    made_by: Mapping[str, str],
    beside: Snapshot | None = None,
) -> Snapshot:
    """The good rows in a version of the table: in place of its rows, beside them, or by their key.

    `beside` is the version with whose keys theirs were compared, None where there was no table yet.
    """

    def write(folder: str) -> list[str]:
        return result.files

    files = sorted(digests.values())
    required = _required(settings)
    if settings.mode == "upsert":
        from steps.core.tables import upsert  # DataFusion's merge, which other modes do not load

        return upsert.upsert(
            table, key=settings.key, made_of=made_of, made_by=made_by, write=write, files=files, required=required
        ).table
    if settings.mode == "append":
        checked = (beside.identity if beside else "") if settings.key else None
        return commit.append(
            table, made_of=made_of, made_by=made_by, write=write, files=files, required=required, keys_checked=checked
        ).table
    return commit.once(table, made_of=made_of, made_by=made_by, write=write, files=files).table


def _required(settings: config.Config) -> list[str]:
    """The columns that may not be null."""
    return [name for name, column in settings.columns.items() if column.nullable is False or name in settings.key]


def lines(result: Result, *, source: Source, target: str, rejects: Snapshot | None) -> list[str]:
    """What the user is shown: the counts, and the rules that rows break. `target` is "" where rows have none."""
    shown = []
    if result.rejected:
        share = result.rejected / result.source_rows
        shown.append(
            f"{source.uri}: {result.rows:,} of {result.source_rows:,} rows keep the contract; "
            f"{result.rejected:,} ({share:.2%}) do not and are in {rejects}:"
        )
        shown += [f"  {line}" for line in violations(result)]
    if result.blank:
        shown.append(f"{source.uri}: {result.blank:,} rows are blank but for separators, and passed over")
    if target and result.unlabelled:
        shown.append(
            f"{source.uri}: {result.unlabelled:,} of {result.source_rows:,} rows have no {target}: train and evaluate "
            "leave them out, infer predicts them"
        )
    shown += [
        f"column {name!r}: {count:,} whole numbers are rounded by the model, whose float32 holds them up to 2^24; "
        "the table has them exactly"
        for name, count in result.rounded.items()
    ]
    return shown


def violations(result: Result) -> list[str]:
    """A line for each rule that rows break, the most frequent first."""
    lines = contract.violations(result.broken, result.examples, result.source_rows)
    more = len(lines) - SHOWN_RULES
    return [*lines[:SHOWN_RULES], *([f"and {more} more rules"] if more > 0 else [])]


def check(result: Result, settings: config.Config, *, source: Source, rejects: Snapshot | None) -> None:
    """ContractBroken when the rows as a whole break it: too many rejects, too few rows, or none that is fresh."""
    where = f"the rejects are in {rejects}" if rejects and result.rejected else ""
    if not result.source_rows:
        raise ContractBroken(source.uri, ["it has no rows"])
    if result.rejected > settings.rejects_at_most * result.source_rows:
        raise ContractBroken(source.uri, violations(result), rejects=where, at_most=settings.rejects_at_most)
    if result.rows < settings.rows_at_least:
        mistake = f"{result.rows:,} of its rows keep the contract, and rows_at_least is {settings.rows_at_least:,}"
        raise ContractBroken(source.uri, [mistake], rejects=where)
    if settings.freshness and (mistake := _staleness(result, settings.freshness)):
        raise ContractBroken(source.uri, [mistake], rejects=where)


def _staleness(result: Result, freshness: config.Freshness) -> str:
    newest = result.profile.maximum(freshness.column)
    if newest is None:
        return f"column {freshness.column!r}, which tells how fresh the rows are, is missing in all of them"
    moment = newest if isinstance(newest, datetime.datetime) else datetime.datetime.combine(newest, datetime.time.max)
    age = datetime.datetime.now(datetime.UTC) - moment.replace(tzinfo=datetime.UTC)
    hours = age.total_seconds() / 3600
    if hours <= freshness.at_most_hours:
        return ""
    age_in_words = f"{hours:,.1f} hours ago; at most {freshness.at_most_hours:g} are allowed"
    return f"its newest row is of {newest} ({freshness.column}), {age_in_words}"


def _features(settings: config.Config) -> list[str]:
    """What a model may see; a group column among it, since how rows are split is not what ingest depends on."""
    return [name for name, column in settings.columns.items() if column.feature and name not in settings.key]


def warnings(result: Result, settings: config.Config, *, labelled: bool, beside: Snapshot | None = None) -> list[str]:
    """What is plainly wrong with the rows for learning, a line each; of rows that are put `beside` others, what is so
    of them alone."""
    are_all = not (beside and beside.row_count)
    target = settings.target if labelled else ""
    found = data_warnings.warnings(
        result.profile.sample(),
        result.profile.as_dict(),
        target=target,
        task=settings.task,
        labels=result.profile.counts(target) if target else None,
        features=[name for name in _features(settings) if name not in (settings.target, settings.weight)],
        key=settings.key,
        are_all=are_all,
    )
    return found if are_all else [f"of the rows that are new: {line}" for line in found]


def reasons_against_reuse(source: Source, settings: config.Config, *, content: str | None) -> Iterator[str]:
    """Why the next ingest may have other rows though nothing that was asked for differs; `content` is the source's
    fingerprint."""
    if content is None:
        yield f"only the rows of {source.uri} tell whether it has changed"
    if settings.freshness:
        yield "how fresh the rows are depends on the time"


def counts(result: Result) -> dict[str, str]:
    """For the commit of a table: how many rows of the source this ingest has read, and how many it has rejected."""
    return {commit.ROWS_READ: str(result.source_rows), commit.ROWS_REJECTED: str(result.rejected)}


def log(result: Result, settings: config.Config, *, table: Snapshot, warnings: Sequence[str]) -> None:
    """Log the counts, the rows of each file, and the profile with its page."""
    profile = result.profile.as_dict({name: column.unit for name, column in settings.columns.items()})
    mlflow.log_metrics({"rows": result.rows, "rows_rejected": result.rejected, "rows_read": result.source_rows})
    mlflow.log_dict(dict(result.rows_read), "rows_by_file.json")
    mlflow.log_dict({**profile, "warnings": list(warnings)}, "profile.json")
    facts = {"table": str(table), "rows": f"{result.rows:,}", "rejected": f"{result.rejected:,}"}
    mlflow.log_text(profile_page.render(profile, title=table.uri.name, facts=facts), "profile.html")
