"""Whether an earlier run has made a step's results already: same inputs, same code, and results that still stand."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import mlflow
from mlflow.entities import Run, ViewType

from steps.core.models import aliases, registry
from steps.core.tables import location, snapshot
from steps.core.tables.snapshot import Snapshot
from steps.core.tracking import artifacts, runs
from steps.core.workflow import differences, run_tags
from steps.core.workflow.differences import code_of
from steps.core.workflow.step_inputs import code, code_now, identity, key_of

RECEIPT = "receipt.json"
EARLIER_RUNS = 20  # how many are looked at, for one to reuse and for the one that differs least
DELETED = ViewType.DELETED_ONLY


@dataclass(frozen=True, kw_only=True)
class Decision:
    """`run` is one whose results can be taken again; where there is none, `reason` says why.

    `earlier` has the inputs of the runs that `reason` compares with; it is empty where another reason is known.
    """

    run: Run | None = None
    reason: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)  # what it was decided on; {} where that did not matter
    earlier: Sequence[Mapping[str, str]] = ()

    def in_hindsight(self, ran_with: Mapping[str, str]) -> str:
        """Why the step ran, by the inputs that its receipt has: a config or a file may have been edited meanwhile."""
        if self.earlier:
            return _nearest(self.earlier, ran_with) or "what had changed was changed back before it ran"
        expected = {**self.inputs, **code_of(ran_with)}
        meanwhile = differences.in_words(list(differences.between(expected, ran_with))) if self.inputs else ""
        return f"{self.reason}, and meanwhile {meanwhile}" if meanwhile else self.reason


def find_reusable(step: str, inputs: Mapping[str, str], *, workflow: str, experiment_id: str) -> Decision:
    """The newest finished run with these inputs, and the code that is there now, whose results still stand."""
    key = {run_tags.KEY: key_of(step, inputs)}
    candidates = runs.newest(experiment_id, key, count=EARLIER_RUNS)
    obstacles = []
    for run, receipt, damage in _receipts(candidates):
        if damage or _ran_the_code_of_now(receipt):
            obstacle = damage or staleness_reason(run, receipt)
            if not obstacle:
                return Decision(run=run, inputs=inputs)
            obstacles.append(obstacle)
    reason = obstacles[0] if obstacles else _unfinished(candidates) or _deleted(experiment_id, key)
    if reason:
        return Decision(reason=reason, inputs=inputs)
    return _compared_with_earlier_runs(inputs, {run_tags.WORKFLOW: f"{workflow}.{step}"}, experiment_id)


def staleness_reason(run: Run, receipt: Mapping[str, Any]) -> str:
    """Why the results of a finished run cannot be taken again, "" when all of them stand as it left them."""
    if reason := artifacts.damage(receipt["artifacts"], artifacts.of_run(run), of=f"run {run.info.run_id[:8]}"):
        return reason
    for name, uri in receipt["wrote"].items():
        if name == "verdict":
            reason = registry.verdict_staleness(receipt["read"]["model"], run.info.run_id)
        else:
            reason = aliases.champion_staleness(receipt["read"]["model"], uri) if name == "champion" else ""
            reason = reason or _staleness_of(uri, receipt)
        if reason:
            return reason
    return ""


def write_receipt(run: Run, receipt: Mapping[str, Any], *, tables: Mapping[str, Snapshot]) -> None:
    """Keep what a run read and wrote and, when it is reusable, what its results are known by later on.

    `tables` are those among its results that are open already, by URI.
    """
    receipt = dict(receipt)
    if "inputs" in receipt:
        outputs: dict[str, str] = receipt["wrote"]
        receipt["inputs"] = {**receipt["inputs"], **code()}
        identities = {uri: uri_identity for uri in outputs.values() if (uri_identity := identity(tables.get(uri, uri)))}
        by_name = {
            f"{run_tags.OUTPUT_IDENTITY}{name}": identities[uri] for name, uri in outputs.items() if uri in identities
        }
        mlflow.set_tags(by_name)
        receipt["identities"] = identities
        receipt["artifacts"] = artifacts.of_run(run)
        receipt["models"] = {uri: registry.files(uri) for uri in outputs.values() if uri.startswith("models:/")}
    text = json.dumps(receipt, indent=2, default=str)
    mlflow.log_text(text, RECEIPT)
    mlflow.set_tag(run_tags.RECEIPT_SHA256, hashlib.sha256(text.encode()).hexdigest())


def read_receipt(run: Run) -> tuple[dict[str, Any], str]:
    """The receipt of a run and "", or {} and why it cannot be relied on."""
    text = artifacts.read(run, RECEIPT)
    if text is None:
        return {}, f"{RECEIPT} of run {run.info.run_id[:8]} is gone"
    digest = hashlib.sha256(text).hexdigest()
    try:
        receipt: dict[str, Any] = json.loads(text)
    except ValueError:
        digest = ""
    if run.data.tags.get(run_tags.RECEIPT_SHA256, digest) != digest:
        return {}, f"{RECEIPT} of run {run.info.run_id[:8]} is damaged"
    return receipt, ""


def _receipts(earlier_runs: Sequence[Run]) -> Iterator[tuple[Run, dict[str, Any], str]]:
    """Of the finished runs that may be reusable: the run with its receipt, or with {} and what is wrong with that."""
    for run in earlier_runs:
        if _is_finished(run):
            receipt, damage = read_receipt(run)
            if damage or "inputs" in receipt:
                yield run, receipt, damage


def _is_finished(run: Run) -> bool:
    """Whether a run has done its work. To MLflow one has failed, too, whose exit code says what it found."""
    tags, status = run.data.tags, run.info.status
    has_done = status == "FAILED" and run_tags.RECEIPT_SHA256 in tags and run_tags.ERROR not in tags
    return status == "FINISHED" or has_done


def _ran_the_code_of_now(receipt: Mapping[str, Any]) -> bool:
    return code_of(receipt["inputs"]) == code_now(receipt["inputs"])


def _unfinished(candidates: Sequence[Run]) -> str:
    if not candidates or any(map(_is_finished, candidates)):
        return ""
    return f"its run {candidates[0].info.run_id[:8]} is {candidates[0].info.status}"


def _deleted(experiment_id: str, key: Mapping[str, str]) -> str:
    for run, receipt, damage in _receipts(runs.newest(experiment_id, key, count=EARLIER_RUNS, view=DELETED)):
        if not damage and _ran_the_code_of_now(receipt):
            return f"its run {run.info.run_id[:8]} was deleted"
    return ""


def _compared_with_earlier_runs(inputs: Mapping[str, str], workflow: Mapping[str, str], experiment_id: str) -> Decision:
    """What differs from the earlier runs of a step in its workflow; `workflow` is the tag that they have."""
    earlier_runs = runs.newest(experiment_id, workflow, count=EARLIER_RUNS)
    earlier = [receipt["inputs"] for _, receipt, damage in _receipts(earlier_runs) if not damage]
    if earlier:
        return Decision(reason=_nearest(earlier, inputs), inputs=inputs, earlier=earlier)
    were_deleted = runs.newest(experiment_id, workflow, count=1, view=DELETED)
    return Decision(reason="its earlier runs were deleted" if were_deleted else "first run", inputs=inputs)


def _nearest(earlier: Sequence[Mapping[str, str]], now: Mapping[str, str]) -> str:
    """What differs from the inputs that differ least. Where `now` has no code, it is what the files hold now."""
    candidates = []
    for before in earlier:
        with_code = now if code_of(now) else {**now, **code_now(before)}
        candidates.append(list(differences.between(before, with_code)))
    return differences.in_words(min(candidates, key=len))


def _staleness_of(uri: str, receipt: Mapping[str, Any]) -> str:
    if uri.startswith("models:/"):
        return registry.staleness_reason(uri, source=receipt["identities"][uri], files=receipt["models"][uri])
    if uri not in receipt["identities"]:  # a word, such as a verdict, or where a report of the run's own is
        return ""
    return snapshot.staleness_reason(location.parse_table(uri), identity=receipt["identities"][uri])
