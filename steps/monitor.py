"""Compare the rows that a model meets with those that it was trained on, and say what has moved, and what got worse.

Reads   the summary of its training rows that the model keeps, and what the gate saw when it judged it; the predictions,
        the request log, or the rows of the table that came since, at a pinned version, in one pass, and of predictions
        a second one for quality; `labels`, a table or files
Writes  metrics of each window, at its beginning; report.html, and monitor.json with all that was found; where
        ALERT_WEBHOOK_URL is set, one message to it for each change of the verdict
Hands on  output.monitor, the verdict (ok, warn, alert or too little data); output.report, where the report is
Fails   NothingToWatch, TableNotFound, TableVersionGone, ModelNotFound, ModelDamaged, ReferenceUnknown, TooManyWindows,
        LabelsUnusable, LabelsContradictory; exit code 1 without an error where the verdict is what `fail_on` says,
        or worse
"""

import sys
from collections.abc import Sequence
from typing import Literal

from mlflow.entities.model_registry import ModelVersion

from steps.core.config_monitor import Duration
from steps.core.models import aliases, registry
from steps.core.monitoring import current, gate_reference, quality_watch, reference, watch_log, watching
from steps.core.monitoring.findings import Level
from steps.core.parameters import parameters
from steps.core.tables import location
from steps.core.tables.snapshot import Snapshot
from steps.core.tracking import config_files
from steps.core.workflow import entry_point, run_tags, verdict_message
from steps.core.workflow.step_spec import StepSpec

FAILING = {"never": (), "alert": ("alert",), "warn": ("alert", "warn")}  # verdicts, by `fail_on`


@parameters
class MonitorParameters:
    config: str = "configs/iris.yaml"
    model: str = ""
    """The version that is watched; by default what `production` names, else `staging`."""
    current: str = ""
    """What is looked at: `predictions`, `requests` or `table`, or a table's URI; by default what the config says."""
    lake: str = ""
    since: Duration | None = None
    """Rows that are older are left out, such as `7d`; by default what the config says."""
    window: Duration | None = None
    """How long a window is in which the rows are compared, such as `1d`; by default what the config says."""
    labels: str = ""
    """What came true: a table's URI, or files by path or URL."""
    fail_on: Literal["never", "warn", "alert"] = "never"
    """From which verdict on the exit code is 1."""


SPEC = StepSpec(
    name="monitor",
    parameters=MonitorParameters,
    config_keys=("monitor", "columns", "key", "target", "weight", "gate", "split"),
    works_on=("model", "current", "labels", "judged"),
    outputs=("monitor", "report"),
    reuses_itself=True,
)


def choose(uri: str, name: str) -> ModelVersion:
    """The version at `uri`, else the one of model `name` that is in use. ModelNotFound."""
    found = None if uri else aliases.in_use(name)
    return found or registry.resolve(uri or f"models:/{name}@{aliases.STAGING}")


def main(argv: Sequence[str] | None = None) -> None:
    with entry_point.start(SPEC, argv) as (parameters, run):
        settings = config_files.load(parameters.config, home=location.home())
        settings = settings.with_windows(since=parameters.since, window=parameters.window)
        version = choose(parameters.model, settings.model.name)
        model_uri = registry.uri_of(version)
        looked_at = parameters.current or settings.monitor.current
        table = current.open_table(looked_at, lake_root=location.lake_root(parameters.lake), name=settings.name)
        labels = quality_watch.open_labels(parameters.labels, settings, table)
        run.reads(model=model_uri, current=table, labels=(labels.table or labels.uri) if labels else "")
        run.ran_with(model__uri=model_uri, current__uri=table, labels__uri=labels.uri if labels else "")
        works_on: dict[str, str | Snapshot] = {
            "model": model_uri,
            "current": table,
            "labels": (labels.table or f"{labels.uri} {labels.digest}") if labels else "",
            "judged": gate_reference.run_id_of(version),
        }
        if earlier := run.earlier(settings, **works_on):
            run.warn(f"run {earlier.info.run_id[:8]} has compared these already, and nothing has changed since")
            outputs = run_tags.outputs(earlier)
            verdict: Level = outputs["monitor"]  # type: ignore[assignment]  # as Watch.verdict has it
            reasons, report_uri = [earlier.data.tags.get(run_tags.REASONS, "")], outputs["report"]
            run.explains(reasons)
            run.writes(**outputs)
        else:
            run.depends_on(settings, **works_on)
            run.logs_table(table, context="monitor")
            watched = reference.load(version)
            rows = current.rows_of(table, watched, settings.monitor)
            judged = quality_watch.add(
                watching.watch(watched, rows, settings.monitor),
                settings,
                reference=gate_reference.find(version),
                labels=labels,
            )
            watch, report_uri = judged.watch, f"runs:/{run.run_id}/{watch_log.REPORT}"
            verdict, reasons = watch.verdict, watch.reasons()
            run.remark(judged.lines)
            if labels and labels.has_changed:
                run.is_not_reusable(f"labels {labels.uri} were written to meanwhile")
            watch_log.log(watch, run.run_id, metric=settings.gate.metric)
            run.explains(reasons)
            run.writes(monitor=verdict, report=report_uri)
        watched_as = verdict_message.way_of(
            parameters.model, looked_at, has_labels=labels is not None, settings=settings.monitor
        )
        verdict_message.tell(
            run,
            settings.name,
            watched=watched_as,
            verdict=verdict,
            reasons=reasons,
            report=report_uri,
            model=model_uri,
        )
    if verdict in FAILING[parameters.fail_on]:
        sys.exit(1)


if __name__ == "__main__":
    main()
