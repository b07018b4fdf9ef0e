"""How a table's version or a model was made, and what was made of it. Reads runs, Delta's log and the registry.

Delta's log and the registry keep for good which run made something, and of what; the run says more while it is kept.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

from steps.core.models import registry
from steps.core.storage import filesystem
from steps.core.tables import location, snapshot
from steps.core.tables.log import Commit
from steps.core.tables.snapshot import Snapshot
from steps.core.tracking import mlflow_constants, runs
from steps.core.workflow import run_tags
from steps.core.workflow.step_spec import DRIVER, StepSpec, read_specs

MODEL = "models:/"
SOURCE = "source"  # the input of ingest, which is no pinned URI


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """How something was made: by which step and run, when, and of which inputs (name to URI).

    An identity tells a thing from another that had its URI at another time. `identity` is that of what was made,
    `input_identities` (by the same names as `inputs`) those of what was read; "" or no entry where it was not recorded.
    """

    step: str
    run_id: str
    git_commit: str
    when: datetime
    inputs: Mapping[str, str]
    identity: str = ""
    input_identities: Mapping[str, str] = field(default_factory=dict)
    fingerprint: str = ""
    remark: str = ""  # what is no longer there to see
    superseded: datetime | None = None  # when something else took its URI

    def identity_of(self, uri: str) -> str:
        """The identity of what was read at `uri`, "" where it was not recorded."""
        return next((self.input_identities.get(name, "") for name, read in self.inputs.items() if read == uri), "")

    def matches(self, *, used_at: datetime | None, identity: str) -> bool:
        """Whether this made what was used at that time and had that identity; None and "" are not known."""
        if identity and self.identity:
            return self.identity == identity
        return used_at is None or self.when <= used_at


class ProvenanceIndex:
    """Answers from what is there now: the store, the tables in `folders`, and those beside a table asked about."""

    def __init__(self, folders: Iterable[str]) -> None:
        self._folders = set(folders)
        self._commits: dict[str, dict[int, Commit]] = {}
        self._versions: dict[str, Snapshot | None] = {}  # by URI; None for one whose log entry is gone

    def provenance(self, uri: str, *, used_at: datetime | None = None, identity: str = "") -> Provenance | None:
        """How `uri` was made; None for a source, and for what nothing is known of.

        `identity` is that of what was used, `used_at` is when: where the first is not known, what was made later under
        the same name is not what was used.
        """
        if not is_pinned(uri):
            return None
        current = self._from_registry(uri) if _is_model(uri) else self._from_commit(location.parse_table(uri))
        if current and current.matches(used_at=used_at, identity=identity):
            return current
        remark = "another has its name now" if current else "it is no longer there"
        for output in self._output_names:
            for run in runs.tagged(f"{run_tags.OUTPUT}{output}", uri):
                earlier = self._from_run(run, output, remark=remark, superseded=current.when if current else None)
                read = run_tags.inputs(run).values()
                if read and uri not in read and earlier.matches(used_at=used_at, identity=identity):
                    return earlier
        return None

    def is_there(self, uri: str) -> bool:
        """Whether a pinned `uri` names something now."""
        return bool(registry.find_uri(uri) if _is_model(uri) else self._version(location.parse_table(uri)))

    def products(self, uri: str, provenance: Provenance | None) -> list[tuple[str, Provenance]]:
        """What was made of `uri`, itself made as `provenance` says: URIs and verdicts; models first, then by time."""
        if provenance and not is_pinned(uri):  # a verdict
            return []
        since = provenance.when if provenance else None
        products: dict[tuple[str, str], Provenance] = {}
        for name, product in (*self._in_tables(uri), *self._in_registry(uri), *self._in_runs(uri, since)):
            if _is_made_of(uri, provenance, product):
                products.setdefault((name, product.run_id), product)
        named = [(name, product) for (name, _), product in products.items()]
        return sorted(named, key=lambda pair: (not _is_model(pair[0]), pair[1].when))

    @cached_property
    def _specs(self) -> list[StepSpec[Any]]:
        return read_specs()

    @cached_property
    def _input_names(self) -> list[str]:
        """The names of inputs that something is made of; a champion, for example, is only compared with."""
        return list(dict.fromkeys([SOURCE, *(name for spec in self._specs for name in spec.works_on_uris)]))

    @cached_property
    def _output_names(self) -> list[str]:
        names = dict.fromkeys(name for spec in self._specs for name in spec.outputs)
        return [name for name in names if name != registry.VERDICT]

    def _in_tables(self, uri: str) -> Iterator[tuple[str, Provenance]]:
        for path in [path for folder in sorted(self._folders) for path in filesystem.tables(folder)]:
            for version, commit in self._commits_of(path).items():
                if uri in self._inputs(commit.metadata).values():
                    table = location.TableUri(path, version)
                    if provenance := self._from_commit(table):
                        yield str(table), provenance

    def _in_registry(self, uri: str) -> Iterator[tuple[str, Provenance]]:
        if _is_model(uri) or not is_pinned(uri):
            return
        for version in registry.all_versions(f"tags.table_uri {runs.equals(uri)}"):
            if version.tags["table_uri"] == uri:
                yield registry.uri_of(version), self._from_version(version)

    def _in_runs(self, uri: str, since: datetime | None) -> Iterator[tuple[str, Provenance]]:
        for run in (run for name in self._input_names for run in runs.tagged(f"{run_tags.INPUT}{name}", uri)):
            if runs.step_of(run) == DRIVER or (since and runs.ended(run) < since):
                continue
            outputs = run_tags.outputs(run)
            for output, result in outputs.items():
                if is_pinned(result) and result not in run_tags.inputs(run).values():
                    of_run = self._from_run(run, output)
                    yield result, self.provenance(result, used_at=of_run.when, identity=of_run.identity) or of_run
            if verdict := outputs.get(registry.VERDICT):
                yield f"verdict: {verdict}", self._from_run(run)

    def _from_registry(self, uri: str) -> Provenance | None:
        version = registry.find_uri(uri)
        return self._from_version(version) if version else None

    def _from_version(self, version: ModelVersion) -> Provenance:
        run_id = version.tags.get("run_id") or version.run_id or ""
        run = runs.find(run_id)
        table = version.tags.get("table_uri")
        return Provenance(
            step=runs.step_of(run) if run else "train",
            run_id=run_id,
            git_commit=version.tags.get("git_commit") or _git_commit(run),
            when=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC),
            inputs={"table": table} if table else self._inputs_of_run(run),
            identity=str(version.source),
            input_identities=self._input_identities({"table": version.tags.get(registry.TABLE_IDENTITY)}, run),
            remark=", ".join(_fate(run, run_id)),
        )

    def _from_commit(self, table: location.TableUri) -> Provenance | None:
        self._folders.add(os.path.dirname(table.path))
        commit = self._commits_of(table.path).get(table.version or 0)
        if commit is None:
            return None
        metadata = commit.metadata
        run_id = metadata.get("run_id", "")
        run = runs.find(run_id)
        inputs = self._inputs(metadata)
        recorded = {name: metadata.get(f"{name}.identity") for name in inputs}
        version = self._version(table)
        vacuumed = [] if version and version.is_readable else ["its files were vacuumed"]
        return Provenance(
            step=metadata.get("step") or f"{commit.operation} by {runs.step_of(run) if run else 'another program'}",
            run_id=run_id,
            git_commit=metadata.get("git_commit") or _git_commit(run),
            when=commit.when,
            inputs=inputs or self._inputs_of_run(run),
            identity=version.identity if version else "",
            input_identities=self._input_identities(recorded, run),
            fingerprint=metadata.get("fingerprint", ""),
            remark=", ".join([*vacuumed, *_fate(run, run_id)]),
        )

    def _from_run(
        self, run: Run, output: str = "", *, remark: str = "", superseded: datetime | None = None
    ) -> Provenance:
        return Provenance(
            step=runs.step_of(run),
            run_id=run.info.run_id,
            git_commit=_git_commit(run),
            when=runs.ended(run),
            inputs=self._inputs_of_run(run),
            identity=run.data.tags.get(f"{run_tags.OUTPUT_IDENTITY}{output}", ""),
            input_identities=self._input_identities({}, run),
            remark=", ".join(filter(None, [remark, *_fate(run, run.info.run_id)])),
            superseded=superseded,
        )

    def _inputs_of_run(self, run: Run | None) -> dict[str, str]:
        return self._inputs(run_tags.inputs(run)) if run else {}

    def _inputs(self, recorded: Mapping[str, Any]) -> dict[str, str]:
        """Those values of tags or of a commit's metadata that name what something is made of; models first."""
        inputs = {name: str(recorded[name]) for name in self._input_names if recorded.get(name)}
        return dict(sorted(inputs.items(), key=lambda item: (not _is_model(item[1]), item[0])))

    def _input_identities(self, recorded: Mapping[str, str | None], run: Run | None) -> dict[str, str]:
        """The identities of what was read: as `recorded` beside the result, else as the run's tags have them."""
        of_run = run_tags.with_prefix(run, run_tags.INPUT_IDENTITY) if run else {}
        identities = {name: recorded.get(name) or of_run.get(name, "") for name in self._input_names}
        return {name: identity for name, identity in identities.items() if identity}

    def _commits_of(self, path: str) -> dict[int, Commit]:
        if path not in self._commits:
            newest = snapshot.find(location.TableUri(path))
            self._commits[path] = newest.commits if newest else {}
        return self._commits[path]

    def _version(self, table: location.TableUri) -> Snapshot | None:
        if str(table) not in self._versions:
            self._versions[str(table)] = snapshot.find(table)
        return self._versions[str(table)]


def is_pinned(uri: str) -> bool:
    """Whether `uri` names a version of a table or of a model, rather than a source."""
    return bool(re.fullmatch(r"models:/.+/\d+|(/|s3://).*@v\d+", uri, re.DOTALL))


def _is_made_of(uri: str, provenance: Provenance | None, product: Provenance) -> bool:
    """Whether a product that names `uri` read this one: by its identity, or by time where that is not recorded."""
    read = product.identity_of(uri)
    if provenance is None:
        return True
    if provenance.identity and read:
        return read == provenance.identity
    return provenance.when <= product.when and (provenance.superseded is None or product.when <= provenance.superseded)


def _is_model(uri: str) -> bool:
    return uri.startswith(MODEL)


def _git_commit(run: Run | None) -> str:
    return str(run.data.tags.get(mlflow_constants.GIT_COMMIT, "")) if run else ""


def _fate(run: Run | None, run_id: str) -> list[str]:
    if run is None:
        return ["its run is gone"] if run_id else []
    return [] if run.info.lifecycle_stage == "active" else ["its run was deleted"]
