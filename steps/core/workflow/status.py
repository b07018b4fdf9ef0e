"""What is there for a config, in lines to read: tables, predictions, model versions, aliases and their moves."""

from collections.abc import Iterator

from steps.core.config import Config
from steps.core.errors import UserError
from steps.core.models import aliases, registry
from steps.core.tables import location, log, snapshot
from steps.core.tables.location import TableUri
from steps.core.tables.snapshot import Snapshot

NEWEST = 5  # how many versions of a table or a model, and how many moves of an alias, are shown


def print_status(settings: Config, *, lake_root: str) -> None:
    """Print it. Nothing is started and nothing changed."""
    table, predictions = (TableUri(f"{lake_root}/{settings.name}{suffix}") for suffix in ("", "_predictions"))
    newest_predictions = snapshot.find(predictions)
    sections = {
        "table": _table(table, snapshot.find(table)),
        "predictions": [*_table(predictions, newest_predictions), *_provenance(newest_predictions)],
        "model": _model(settings.model.name),
        "aliases": _aliases(settings.model.name),
    }
    for title, lines in sections.items():
        print("\n".join([title, *(f"  {line}" for line in lines)]), flush=True)


def _table(table: TableUri, newest: Snapshot | None) -> Iterator[str]:
    if newest is None:
        yield f"{table} is not there yet"
        return
    for version in newest.logged_versions[:NEWEST]:
        yield _version(newest, version)
    if len(newest.logged_versions) > NEWEST:
        yield f"... from version {newest.logged_versions[-1]} on"


def _version(newest: Snapshot, version: int) -> str:
    table, commit = TableUri(newest.path, version), log.commit(newest.path, version)
    opened = newest if version == newest.version else snapshot.find(table)
    rows = _rows(opened) if opened and opened.is_readable else "no longer readable"
    run = f"run {commit.metadata['run_id'][:8]}" if "run_id" in commit.metadata else commit.operation
    return f"{table}  {rows}  {commit.when:%Y-%m-%d %H:%M} UTC  {run}"


def _rows(table: Snapshot) -> str:
    """How many there are; of predictions, how many beside them are of rows that the table had before."""
    present = table.missing_values("deleted_at")
    marked = table.row_count - sum(present.values()) if present.keys() == table.data_files.keys() else 0
    return f"{table.row_count - marked} rows" + (f", {marked} marked as deleted" if marked else "")


def _provenance(predictions: Snapshot | None) -> Iterator[str]:
    if predictions:
        metadata = predictions.commit.metadata
        source = _source(metadata.get("table", "unknown"), metadata.get("table.identity", ""))
        yield f"the newest were made with {metadata.get('model', 'unknown')} from {source}"


def _model(name: str) -> Iterator[str]:
    versions = registry.newest(name, count=NEWEST)
    if not versions:
        yield f"{name} has no version yet"
    for version in versions:
        verdict = version.tags.get(registry.VERDICT, "not judged yet")
        source = _source(version.tags.get("table_uri", "unknown"), version.tags.get(registry.TABLE_IDENTITY, ""))
        yield f"{registry.uri_of(version)}  {verdict}  trained on {source}"


def _source(uri: str, identity: str) -> str:
    """The table that was read at `uri`, with a remark when nothing or another version has that URI now."""
    if not identity:
        return uri
    try:
        now = snapshot.find(location.parse_table(uri))
    except UserError:  # another lake, perhaps, whose store is away
        return f"{uri}, which cannot be looked at now"
    if not now:
        return f"{uri}, which is gone"
    return uri if now.identity == identity else f"{uri}, which is another one now"


def _aliases(name: str) -> Iterator[str]:
    named = registry.aliases_of(name)
    if not named:
        yield "none"
    for alias, number in sorted(named.items()):
        yield f"{alias} = version {number}"
        for move in reversed(aliases.history(name, alias)[-NEWEST:]):
            when, moved = move.when[:16].replace("T", " "), f"{move.from_version or 'none'} -> {move.to_version}"
            yield f"  {when} UTC  {moved}  by {move.who} ({move.how})"
