"""How a table's version or a model was made, and what was made of it. Reads runs, Delta's log and the registry.

Delta's log and the registry know for good which run made something, and of what; the run says more while it is kept.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

from steps.core.errors import NothingKnown
from steps.core.models import registry
from steps.core.storage import filesystem
from steps.core.tables import location, snapshot
from steps.core.tables.log import Commit
from steps.core.tracking import mlflow_names, runs
from steps.core.workflow import reuse, step_run

OF = ("model", "table", "source")  # the names of inputs that something is made of; a champion is only compared with
MODEL = "models:/"
RESULTS = ("model", "table", "predictions")  # the names of outputs that are URIs


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """`of` is what was read, name to URI; `remark` says what is no longer there to see.

    `identity` tells what was made, and `identities` what was read, from what has the same URI at another time; "" and
    no entry where that was not written down.
    """

    step: str
    run_id: str
    git_commit: str
    when: datetime
    of: Mapping[str, str]
    identity: str = ""
    identities: Mapping[str, str] = field(default_factory=dict)
    fingerprint: str = ""
    remark: str = ""
    until: datetime | None = None  # when another took its name

    def identity_of(self, uri: str) -> str:
        """The identity of what was read at `uri`, "" where it was not written down."""
        return next((self.identities.get(name, "") for name, read in self.of.items() if read == uri), "")


class ProvenanceIndex:
    """Answers from what is there now: the store, the tables in `folders`, and those beside a table asked about."""

    def __init__(self, folders: Iterable[str]) -> None:
        self._folders = set(folders)
        self._logs: dict[str, dict[int, Commit]] = {}
        self._versions: dict[str, snapshot.Snapshot | None] = {}

    def provenance(self, uri: str, *, before: datetime | None = None, identity: str = "") -> Provenance | None:
        """How `uri` was made; None for a source, and for what nothing is known of.

        `identity` is that of what was used, `before` is when it was used: where the first is not known, what was made
        later under the same name is not what was used.
        """
        if not is_pinned(uri):
            return None
        written = self._of_version(uri) if _is_model(uri) else self._of_commit(location.parse_table(uri))
        if written and _fits(written, before=before, identity=identity):
            return written
        gone = "another has its name now" if written else "it is no longer there"
        for output, run in ((name, run) for name in RESULTS for run in runs.tagged(f"{step_run.OUTPUT}{name}", uri)):
            made = _of_run(run, output=output, remark=gone, until=written.when if written else None)
            if _reads(run) and uri not in _reads(run).values() and _fits(made, before=before, identity=identity):
                return made
        return None

    def products(self, uri: str, making: Provenance | None) -> list[tuple[str, Provenance]]:
        """What was made of `uri`, which was made so: by URI, or as a verdict; models first, then by time."""
        if making and not is_pinned(uri):  # a verdict
            return []
        since, until = (making.when, making.until) if making else (None, None)
        found: dict[tuple[str, str], Provenance] = {}
        for name, made in (*self._in_tables(uri), *self._in_registry(uri), *self._in_runs(uri, since)):
            read = made.identity_of(uri)
            if making and making.identity and read:
                is_of_this = read == making.identity
            else:
                is_of_this = (since is None or since <= made.when) and (until is None or made.when <= until)
            if is_of_this:
                found.setdefault((name, made.run_id), made)
        products = [(name, made) for (name, _), made in found.items()]
        return sorted(products, key=lambda product: (not _is_model(product[0]), product[1].when))

    def _in_tables(self, uri: str) -> Iterator[tuple[str, Provenance]]:
        for path in [path for folder in sorted(self._folders) for path in filesystem.tables(folder)]:
            for version, commit in self._log(path).items():
                if uri in _of(commit.metadata).values() and (made := self._of_commit(location.TableUri(path, version))):
                    yield f"{path}@v{version}", made

    def _in_registry(self, uri: str) -> Iterator[tuple[str, Provenance]]:
        if _is_model(uri) or not is_pinned(uri):
            return
        for version in registry.all_versions(f"tags.table_uri {runs.equals(uri)}"):
            if version.tags["table_uri"] == uri:
                yield registry.uri_of(version), _of_registered(version)

    def _in_runs(self, uri: str, since: datetime | None) -> Iterator[tuple[str, Provenance]]:
        name = ("model" if _is_model(uri) else "table") if is_pinned(uri) else "source"
        for run in runs.tagged(f"{step_run.INPUT}{name}", uri):
            if runs.step_of(run) == step_run.DRIVER or (since and runs.ended(run) < since):
                continue
            made = step_run.outputs(run)
            for output, result in made.items():
                if is_pinned(result) and result not in _reads(run).values():
                    of_run = _of_run(run, output=output)
                    yield result, self.provenance(result, before=of_run.when, identity=of_run.identity) or of_run
            if verdict := made.get(registry.VERDICT):
                yield f"verdict: {verdict}", _of_run(run)

    def _of_version(self, uri: str) -> Provenance | None:
        version = registry.find_uri(uri)
        return _of_registered(version) if version else None

    def _of_commit(self, table: location.TableUri) -> Provenance | None:
        self._folders.add(os.path.dirname(table.path))
        commit = self._log(table.path).get(table.version or 0)
        if commit is None:
            return None
        said = commit.metadata
        run = runs.find(said.get("run_id", ""))
        if str(table) not in self._versions:
            self._versions[str(table)] = snapshot.find(table)
        version = self._versions[str(table)]
        remarks = [] if version and version.is_readable else ["its files were vacuumed"]
        return Provenance(
            step=said.get("step", f"{commit.operation} by another hand"),
            run_id=said.get("run_id", ""),
            git_commit=said.get("git_commit") or _git_commit(run),
            when=commit.when,
            of=_of(said) or _of(_reads(run)),
            identity=version.identity if version else "",
            identities=_identities({name: said.get(f"{name}.identity") for name in OF} if _of(said) else {}, run),
            fingerprint=said.get("fingerprint", ""),
            remark=", ".join([*remarks, *_fate(run, said.get("run_id", ""))]),
        )

    def _log(self, path: str) -> dict[int, Commit]:
        if path not in self._logs:
            newest = snapshot.find(location.TableUri(path))
            self._logs[path] = newest.commits if newest else {}
        return self._logs[path]


def is_pinned(uri: str) -> bool:
    """Whether `uri` names a version of a table or of a model, rather than a source."""
    return bool(re.fullmatch(r"models:/.+/\d+|(/|s3://).*@v\d+", uri, re.DOTALL))


def resolve_uris(text: str) -> list[str]:
    """The URIs that `text` means: pinned, of a source, or those that a run handed on."""
    if run_id := re.fullmatch(r"(?:runs:/)?([0-9a-f]{32})", text):
        run = runs.find(run_id[1])
        if made := {uri for uri in step_run.outputs(run).values() if is_pinned(uri)} if run else None:
            return sorted(made)
        raise NothingKnown(text, "it handed nothing on" if run else "there is no such run")
    if text.startswith(MODEL):
        return [registry.uri_of(registry.resolve(text))]
    if source := _source(text):
        return [source]
    if location.scheme(text) not in ("", "file", "s3", "s3a"):
        raise NothingKnown(text, "no run has ingested it")
    table = location.parse_table(text)
    return [str(table if table.version is not None else snapshot.open(table))]


def _source(text: str) -> str:
    """`text` as ingest logged it as a source, "" if it never did."""
    here = [] if location.scheme(text) else [location.absolute(text), os.path.abspath(text)]
    return next((each for each in [text, *here] if runs.tagged(f"{step_run.INPUT}source", each)), "")


def _is_model(uri: str) -> bool:
    return uri.startswith(MODEL)


def _of_registered(version: ModelVersion) -> Provenance:
    run_id = version.tags.get("run_id") or version.run_id or ""
    run = runs.find(run_id)
    table = version.tags.get("table_uri")
    return Provenance(
        step=runs.step_of(run) if run else "train",
        run_id=run_id,
        git_commit=version.tags.get("git_commit") or _git_commit(run),
        when=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC),
        of={"table": table} if table else _of(_reads(run)),
        identity=str(version.source),
        identities=_identities({"table": version.tags.get(registry.TABLE_IDENTITY)}, run),
        remark=", ".join(_fate(run, run_id)),
    )


def _of_run(run: Run, *, output: str = "", remark: str = "", until: datetime | None = None) -> Provenance:
    return Provenance(
        step=runs.step_of(run),
        run_id=run.info.run_id,
        git_commit=_git_commit(run),
        when=runs.ended(run),
        of=_of(_reads(run)),
        identity=run.data.tags.get(f"{reuse.OUTPUT_IDENTITY}{output}", ""),
        identities=_identities({}, run),
        remark=", ".join(filter(None, [remark, *_fate(run, run.info.run_id)])),
        until=until,
    )


def _reads(run: Run | None) -> dict[str, str]:
    return step_run.inputs(run) if run else {}


def _of(named: Mapping[str, Any]) -> dict[str, str]:
    return {name: named[name] for name in OF if named.get(name)}


def _identities(written: Mapping[str, str | None], run: Run | None) -> dict[str, str]:
    """The identities of what was read: as `written` beside the result, else as the run's tags have them."""
    tags = run.data.tags if run else {}
    found = {name: written.get(name) or tags.get(f"{reuse.INPUT_IDENTITY}{name}", "") for name in OF}
    return {name: identity for name, identity in found.items() if identity}


def _fits(made: Provenance, *, before: datetime | None, identity: str) -> bool:
    """Whether `made` tells of what was used at `before` and had `identity`, "" where that is not known."""
    if identity and made.identity:
        return made.identity == identity
    return before is None or made.when <= before


def _git_commit(run: Run | None) -> str:
    return str(run.data.tags.get(mlflow_names.GIT_COMMIT, "")) if run else ""


def _fate(run: Run | None, run_id: str) -> list[str]:
    if run is None:
        return ["its run is gone"] if run_id else []
    return [] if run.info.lifecycle_stage == "active" else ["its run was deleted"]
