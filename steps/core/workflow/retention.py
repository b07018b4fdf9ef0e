"""What a vacuum deletes: data files and logged models that nothing needs any more, and what it tells of that.

Reads tables, runs and the registry; deletes nothing but models.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import LoggedModel
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from steps.core.config import UNLABELLED
from steps.core.models import registry
from steps.core.storage import filesystem
from steps.core.tables import snapshot, version_files
from steps.core.tables.location import TableUri
from steps.core.tables.snapshot import Snapshot
from steps.core.tables.version_files import VersionFiles
from steps.core.tracking import runs
from steps.core.workflow import orphaned_runs, run_tags, vacuum_notices

# Tables that are vacuumed with <lake>/<name>, by the ends of their names; one after those that are made of it.
BESIDE = ("_predictions", "_requests", "_rejects", f"{UNLABELLED}_rejects", f"{UNLABELLED}_predictions", UNLABELLED)
BEING_WRITTEN = timedelta(days=1)  # a file of no version that is younger may be of another program that is at work


@dataclass(frozen=True, kw_only=True)
class TablePlan:
    """What is deleted of one table. Files have their names relative to the table."""

    path: str
    files: Mapping[str, int]  # all that are deleted, with their size in bytes
    lost: Mapping[int, Sequence[str]]  # versions that cannot be read afterwards, with the files that they lose
    kept: Mapping[int, str]  # versions beyond the limit that are needed, with the reason
    strays: Sequence[str] = ()  # those of `files` that belong to no version
    identities: Mapping[str, str] = field(default_factory=dict)  # of the lost versions, with their URIs

    def size_of(self, files: Sequence[str]) -> str:
        """How many files these are and how large, in words."""
        return f"{len(files)} file{'s' * (len(files) != 1)}, {sum(self.files[name] for name in files):,} bytes"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is deleted of the table `name` of a lake, of those BESIDE it, and of the models of an experiment."""

    lake_root: str
    name: str
    limit: datetime
    experiment_id: str
    tables: Sequence[TablePlan]
    models: Sequence[LoggedModel]

    def totals(self) -> dict[str, int]:
        """How many files, models and bytes would be removed."""
        files = [size_bytes for table in self.tables for size_bytes in table.files.values()]
        return {"files": len(files), "models": len(self.models), "bytes": sum(files)}

    def record(self) -> dict[str, Any]:
        """Versions that cannot be read afterwards, all files that go, and what is kept though old, and why."""
        return {
            "versions": [f"{table.path}@v{version}" for table in self.tables for version in table.lost],
            "files": {f"{table.path}/{name}": size for table in self.tables for name, size in table.files.items()},
            "models": [model.model_id for model in self.models],
            "kept": dict(self._kept()),
        }

    def report(self, *, dry_run: bool) -> Iterator[str]:
        """The lines to print: what goes, by version, and what stays though it is old, with the reason."""
        deleted, kept = list(self._deleted()), list(self._kept())
        width = max((len(name) for name, _ in [*deleted, *kept]), default=0)
        yield "would remove" if dry_run else "removed"
        yield from (f"  {name:<{width}}  {what}" for name, what in deleted)
        if not deleted:
            yield "  nothing"
        if kept:
            yield "kept beyond the limit"
            yield from (f"  {name:<{width}}  {reason}" for name, reason in kept)

    def _deleted(self) -> Iterator[tuple[str, str]]:
        for table in self.tables:
            for version, files in table.lost.items():
                yield f"{table.path}@v{version}", table.size_of(files)
            if table.strays:
                yield table.path, f"{table.size_of(table.strays)} of no version"
        for model in self.models:
            yield f"models:/{model.model_id}", f"not registered, of run {(model.source_run_id or '')[:8]}"

    def _kept(self) -> Iterator[tuple[str, str]]:
        for table in self.tables:
            for version, reason in table.kept.items():
                yield f"{table.path}@v{version}", reason


def plan(lake_root: str, name: str, *, limit: datetime, experiment_id: str) -> Plan:
    """What nobody needs and is older than `limit`, as it is now. TableNotFound when there is no such table."""
    # Who is at work is asked first: what one of them commits and ends meanwhile is seen in what is read after it.
    at_work = {run.info.run_id for run in orphaned_runs.at_work()}
    needed = references(limit)
    newest = snapshot.open(TableUri(f"{lake_root}/{name}"))
    found = (snapshot.find(TableUri(f"{lake_root}/{name}{ending}")) for ending in BESIDE)
    tables_beside = [table for table in found if table]
    for path in set(filesystem.tables(lake_root)).difference(table.path for table in tables_beside):
        needed = {**sources(path), **needed}  # whatever stays protects what it was made of
    beside = []
    for table in tables_beside:
        planned = plan_table(table, limit=limit, needed=needed, at_work=at_work)
        needed = {**sources(planned.path, without=planned.lost), **needed}
        beside.append(planned)
    return Plan(
        lake_root=lake_root,
        name=name,
        limit=limit,
        experiment_id=experiment_id,
        tables=[plan_table(newest, limit=limit, needed=needed, at_work=at_work), *beside],
        models=unregistered_models(experiment_id, limit=limit),
    )


def announce(planned: Plan, *, run_id: str) -> Plan:
    """What can go of `planned` without taking it from a step that has chosen it since; deleted by the run of that id.

    Each version in it was announced (vacuum_notices) before it was asked, once more, who needs it.
    """
    announced: dict[str, str] = {}
    while unannounced := {
        identity: uri
        for table in planned.tables
        for identity, uri in table.identities.items()
        if identity not in announced
    }:
        vacuum_notices.post(run_id, unannounced)
        announced |= unannounced
        runs.forget_experiments()  # a step may be the first run of a new one
        planned = plan(planned.lake_root, planned.name, limit=planned.limit, experiment_id=planned.experiment_id)
    return planned


def references(limit: datetime) -> dict[str, str]:
    """What a registered model was trained on, or a receipt since `limit` or a run at work names: by whom, in words.

    By the identity of a table's version, which is the same wherever the lake lies and however its address is spelt; by
    URI where no identity was written down. Versions with the same files have the same identity, as after a commit that
    only adds a column: `<identity>@v<N>` is the one that is meant.
    """
    needed: dict[str, str] = {}
    ended = f"attributes.end_time >= {runs.milliseconds(limit)}"
    for run in [*orphaned_runs.at_work(), *runs.search(ended)]:  # in this order: one may end meanwhile
        unfinished = ", which has not ended," if run.info.status == orphaned_runs.RUNNING else ""
        for prefix, identities in run_tags.IDENTITIES.items():
            for name, uri in run_tags.with_prefix(run, prefix).items():
                identity = run_tags.with_prefix(run, identities).get(name, "")
                needed |= _named(uri, identity, by=f"run {run.info.run_id[:8]}{unfinished}", need="names")
    for version in registry.all_versions():
        uri, identity = (version.tags.get(name, "") for name in ("table_uri", registry.TABLE_IDENTITY))
        if uri or identity:
            needed |= _named(uri, identity, by=registry.uri_of(version), need="was trained on")
    return needed


def sources(path: str, *, without: Collection[int] = ()) -> dict[str, str]:
    """What a table's versions were made of, if they can be read and are not in `without`, as references() has it."""
    needed: dict[str, str] = {}
    newest = snapshot.find(TableUri(path))
    for version, commit in newest.commits.items() if newest else ():
        metadata = commit.metadata
        read = {key.removesuffix(".identity"): key for key in metadata if key.endswith(".identity")}
        read = read or {name: "" for name in metadata if name == "table"}
        if not read or version in without:
            continue
        made = snapshot.find(TableUri(path, version))
        if made is None or made.is_readable:  # one that cannot be opened now may be read later
            by = str(TableUri(path, version))
            for name, key in read.items():
                named = _named(metadata.get(name, ""), metadata.get(key, ""), by=by, need="was made of")
                needed = {**named, **needed}
    return needed


def plan_table(
    newest: Snapshot, *, limit: datetime, needed: Mapping[str, str], at_work: Collection[str] = ()
) -> TablePlan:
    """What can go of a table: neither its newest version, nor one since `limit`, nor one that `needed` names.

    `needed` has identities and URIs, as references() has them; `at_work` the ids of runs that may be writing files
    into folders of their own. Nothing can go while a version that the log has cannot be opened, as its files, and who
    needs it, are not known.
    """
    uris = {version: TableUri(newest.path, version) for version in range(newest.version + 1)}
    versions = version_files.of_all_versions(newest)  # None: its log entry is not kept
    if unknown := [version for version in newest.logged_versions if versions[version] is None]:
        kept = dict.fromkeys(unknown, "it cannot be opened now, so that no file of the table is removed")
        return TablePlan(path=newest.path, files={}, lost={}, kept=kept)
    files_of = {version: files.names if files else () for version, files in versions.items()}
    stored = _parquet_files(newest.path)
    recent = {version for version, commit in newest.commits.items() if commit.when >= limit} | {newest.version}
    kept = {
        version: reason
        for version, files in versions.items()
        if version not in recent and (reason := _reason_to_keep(uris[version], files, needed))
    }
    needed_files = {name for version in {*recent, *kept} for name in files_of[version]}
    unneeded = {name for names in files_of.values() for name in names if name in stored} - needed_files
    strays: set[str] = set()
    if None not in versions.values():  # else a file that no known version has may be of one that is not known
        oldest = min(limit, datetime.now(UTC) - BEING_WRITTEN).timestamp()
        strays = {
            name
            for name in set(stored).difference(*files_of.values())
            if stored[name].modified < oldest and name.partition("/")[0] not in at_work
        }
    lost = {
        version: sorted(unneeded_names)
        for version, names in files_of.items()
        if (unneeded_names := unneeded.intersection(names))
    }
    return TablePlan(
        path=newest.path,
        files={name: stored[name].size_bytes for name in sorted(unneeded | strays)},
        lost=lost,
        kept={
            version: reason
            for version, reason in kept.items()
            if versions[version] and stored.keys() >= set(files_of[version])
        },
        strays=sorted(strays),
        identities={files.identity: str(uris[version]) for version in lost if (files := versions[version])},
    )


def unregistered_models(experiment_id: str, *, limit: datetime) -> list[LoggedModel]:
    """Models older than `limit` that a train run logged and no registered version is.

    Asked in an order in which nothing is missed: a run that logs a model registers it before it ends.
    """
    models = _logged_models(experiment_id)
    at_work = {run.info.run_id for run in orphaned_runs.at_work()}
    return [
        model
        for model in _registered_nowhere(models)
        if model.creation_timestamp < runs.milliseconds(limit)
        and model.source_run_id not in at_work
        and (run := runs.find(model.source_run_id or ""))
        and runs.step_of(run) == "train"
        and f"{run_tags.INPUT}table" in run.data.tags
    ]


def delete_models(models: Sequence[LoggedModel]) -> list[LoggedModel]:
    """Delete those of `models` that nobody has registered meanwhile, and return them.

    The record first: MLflow registers no model without one, and `mlflow gc` takes what is left when this process dies.
    """
    without_record = _registered_nowhere(models)
    for model in without_record:
        MlflowClient().delete_logged_model(model.model_id)
    deleted = _registered_nowhere(without_record)
    for model in deleted:
        get_artifact_repository(model.artifact_location).delete_artifacts()
    return deleted


def _reason_to_keep(uri: TableUri, files: VersionFiles | None, needed: Mapping[str, str]) -> str:
    names = [f"{files.identity}@v{uri.version}", files.identity, str(uri)] if files else [str(uri)]
    return next((needed[name] for name in names if name in needed), "")


def _named(uri: str, identity: str, *, by: str, need: str) -> dict[str, str]:
    """Who needs a version for what, in words, under the names by which _reason_to_keep() finds it. "" is not known."""
    if not identity:  # the table at this URI may be another one now
        return dict.fromkeys([uri, *uri.split(", ")], f"{by} names it")
    _, _, number = uri.rpartition("@v")
    if not number.isdecimal():
        return {identity: f"{by} {need} it"}
    same_files = f"{by} {need} v{number}, which has the same files"
    return {f"{identity}@v{number}": f"{by} {need} it", identity: same_files}


def _registered_nowhere(models: Iterable[LoggedModel]) -> list[LoggedModel]:
    versions = registry.all_versions()
    registered_from = {version.run_id for version in versions}
    sources = " ".join(version.source or "" for version in versions)  # models:/m-... or a folder called so
    return [model for model in models if model.model_id not in sources and model.source_run_id not in registered_from]


def _parquet_files(path: str) -> dict[str, filesystem.Stored]:
    """The Parquet files of a table; what starts with _ or . is Delta's own, or Hadoop's."""
    return {
        name: file
        for name, file in filesystem.files(path).items()
        if name.endswith(".parquet") and not any(part[0] in "_." for part in name.split("/"))
    }


def _logged_models(experiment_id: str) -> list[LoggedModel]:
    return runs.all_pages(lambda token: MlflowClient().search_logged_models([experiment_id], page_token=token))
