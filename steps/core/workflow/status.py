"""What is there for a config, in lines to read: tables, predictions, model versions, aliases and their moves."""

from collections.abc import Iterator

from steps.core.config import Config
from steps.core.errors import TableNotFound, TableVersionGone
from steps.core.models import aliases, registry
from steps.core.tables import location, snapshot

NEWEST = 5  # versions and moves that are told


def print_status(settings: Config, *, lake_root: str) -> None:
    """Print it. Nothing is started and nothing changed."""
    sections = {
        "table": _table(location.TableUri(f"{lake_root}/{settings.name}")),
        "predictions": _predictions(location.TableUri(f"{lake_root}/{settings.name}_predictions")),
        "model": _model(settings.model.name),
        "aliases": _aliases(settings.model.name),
    }
    for title, lines in sections.items():
        print("\n".join([title, *(f"  {line}" for line in lines)]), flush=True)


def _table(table: location.TableUri) -> Iterator[str]:
    try:
        commits = snapshot.commits(table)
    except TableNotFound:
        yield f"{table} is not there yet"
        return
    for commit in commits[:NEWEST]:
        pinned = location.TableUri(table.path, commit.version)
        run = f"run {commit.metadata['run_id'][:8]}" if "run_id" in commit.metadata else commit.operation
        yield f"{pinned}  {_rows(pinned)}  {commit.when:%Y-%m-%d %H:%M} UTC  {run}"
    if len(commits) > NEWEST:
        yield f"... from version {commits[-1].version} on"


def _predictions(table: location.TableUri) -> Iterator[str]:
    yield from _table(table)
    if snapshot.exists(table):
        made_of = snapshot.commits(table)[0].metadata
        source = _source(made_of.get("table", "unknown"), made_of.get("table.identity", ""))
        yield f"the newest were made with {made_of.get('model', 'unknown')} from {source}"


def _rows(table: location.TableUri) -> str:
    try:
        return f"{snapshot.count(table)} rows"
    except TableVersionGone:
        return "no longer readable"


def _model(name: str) -> Iterator[str]:
    versions = registry.newest(name, count=NEWEST)
    if not versions:
        yield f"{name} has no version yet"
    for version in versions:
        verdict = version.tags.get(registry.VERDICT, "not judged yet")
        source = _source(version.tags.get("table_uri", "unknown"), version.tags.get(registry.TABLE_IDENTITY, ""))
        yield f"{registry.uri_of(version)}  {verdict}  trained on {source}"


def _source(uri: str, identity: str) -> str:
    """The table that was read at `uri`, with a remark when another version has that URI now."""
    is_another = identity and snapshot.identity_if_kept(location.table_uri(uri)) != identity
    return f"{uri}, which is another one now" if is_another else uri


def _aliases(name: str) -> Iterator[str]:
    named = registry.aliases_of(name)
    if not named:
        yield "none"
    for alias, number in sorted(named.items()):
        yield f"{alias} = version {number}"
        for move in reversed(aliases.history(name, alias)[-NEWEST:]):
            when, moved = move.when[:16].replace("T", " "), f"{move.from_version or 'none'} -> {move.to_version}"
            yield f"  {when} UTC  {moved}  by {move.who} ({move.how})"
