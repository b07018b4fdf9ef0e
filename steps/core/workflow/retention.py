"""What is still needed, and by whom: versions of tables, and logged models. Reads tables, runs and the registry."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from deltalake import DeltaTable
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, Run

from steps.core.errors import TableVersionGone
from steps.core.models import registry
from steps.core.storage import filesystem
from steps.core.tables import location, snapshot
from steps.core.tracking import runs
from steps.core.workflow import tags

AT_WORK = timedelta(days=1)  # a run that runs, and a file of no version, this young may be a step's that is at work


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a vacuum does to one table.

    `kept` are versions beyond the limit with the reason, `lost` those that cannot be read afterwards with the files
    that they lose, `files` all that go with their bytes, `strays` those of them that no version names. Files have
    their names relative to the table.
    """

    table: location.TableUri
    kept: Mapping[int, str]
    lost: Mapping[int, Sequence[str]]
    files: Mapping[str, int]
    strays: Sequence[str]


def references(limit: datetime) -> dict[str, str]:
    """What a registered model was trained on, or a receipt since `limit` or a run at work names: by whom.

    By the identity of a table's version, which is the same wherever the lake lies and however its address is spelt; by
    URI where no identity was written down.
    """
    found: dict[str, str] = {}
    for run in [*runs.search(f"attributes.end_time >= {_milliseconds(limit)}"), *_at_work()]:
        needed = f"run {run.info.run_id[:8]} names it"
        for prefix, identities in ((tags.INPUT, tags.INPUT_IDENTITY), (tags.OUTPUT, tags.OUTPUT_IDENTITY)):
            for name, value in tags.with_prefix(run, prefix).items():
                identity = tags.with_prefix(run, identities).get(name)
                found |= dict.fromkeys([identity] if identity else [value, *value.split(", ")], needed)
    for version in registry.all_versions():
        if table := version.tags.get(registry.TABLE_IDENTITY) or version.tags.get("table_uri"):
            found[table] = f"{registry.uri_of(version)} was trained on it"
    return found


def sources(path: str, *, without: Collection[int] = ()) -> dict[str, str]:
    """What a table's versions were made of, if they can be read and are not in `without`, as references() has it."""
    found: dict[str, str] = {}
    for version, commit in snapshot.commits_by_version(path).items():
        made = location.TableUri(path, version)
        if "table" in commit.metadata and version not in without and snapshot.is_readable(made):
            source = commit.metadata.get("table.identity") or commit.metadata["table"]
            found.setdefault(source, f"{made} was made of it")
    return found


def plan(table: location.TableUri, *, limit: datetime, needed: Mapping[str, str]) -> Plan:
    """What can go of a table: neither its newest version, nor one since `limit`, nor one that `needed` names.

    `needed` has identities and URIs, as references() has them.
    """
    commits = snapshot.commits_by_version(table.path)
    newest = max(commits)
    opened = {version: _opened(table, version) for version in range(newest + 1)}
    files = {version: frozenset(snapshot.data_files(log)) if log else None for version, log in opened.items()}
    there = _data_files(table.path)
    young = {version for version, commit in commits.items() if version == newest or commit.when >= limit}
    names = {
        version: (snapshot.identity_of(log) if log else "", str(location.TableUri(table.path, version)))
        for version, log in opened.items()
        if version not in young
    }
    kept = {version: needed[name] for version, either in names.items() for name in either if name in needed}
    of_kept = {file for version in {*young, *kept} for file in files[version] or ()}
    unneeded = {file for known in files.values() for file in known or () if file in there} - of_kept
    strays: set[str] = set()
    if None not in files.values():  # else a file of no version may be of one that cannot be told
        oldest = min(limit, datetime.now(UTC) - AT_WORK).timestamp()
        nameless = set(there).difference(*(known or () for known in files.values()))
        strays = {file for file in nameless if there[file].modified < oldest}
    return Plan(
        table=table,
        kept={version: why for version, why in kept.items() if (files[version] or {None}) <= set(there)},
        lost={
            version: lost for version, known in files.items() if (lost := sorted(unneeded.intersection(known or ())))
        },
        files={file: there[file].size_bytes for file in sorted(unneeded | strays)},
        strays=sorted(strays),
    )


def unregistered_models(experiment_id: str, *, limit: datetime) -> list[LoggedModel]:
    """Models older than `limit` that a train run logged and no registered version is."""
    versions = registry.all_versions()
    registered_from = {version.run_id for version in versions}
    sources = " ".join(version.source or "" for version in versions)  # models:/m-... or a folder called so
    at_work = {run.info.run_id for run in _at_work()}
    return [
        model
        for model in _logged_models(experiment_id)
        if model.creation_timestamp < _milliseconds(limit)
        and model.model_id not in sources
        and model.source_run_id not in registered_from | at_work
        and (run := runs.find(model.source_run_id or ""))
        and runs.step_of(run) == "train"
        and f"{tags.INPUT}table" in run.data.tags
    ]


def _at_work() -> list[Run]:
    since = _milliseconds(datetime.now(UTC) - AT_WORK)
    return runs.search(f"attributes.status = 'RUNNING' and attributes.start_time >= {since}")


def _opened(table: location.TableUri, version: int) -> DeltaTable | None:
    """A version of a table, None when its log entry is not kept."""
    try:
        return snapshot.open_table(location.TableUri(table.path, version))
    except TableVersionGone:
        return None


def _data_files(path: str) -> dict[str, filesystem.Stored]:
    """The Parquet files of a table; what starts with _ or . is Delta's own, or Hadoop's."""
    found = filesystem.files(path)
    return {
        name: file
        for name, file in found.items()
        if name.endswith(".parquet") and not any(part[0] in "_." for part in name.split("/"))
    }


def _logged_models(experiment_id: str) -> list[LoggedModel]:
    return runs.all_pages(lambda token: MlflowClient().search_logged_models([experiment_id], page_token=token))


def _milliseconds(when: datetime) -> int:
    return int(when.timestamp() * 1000)
