"""Let the webhook know of a changed verdict on a model. What it knows already is kept on the runs that told it.

One config may be watched in several ways, with labels and without, say: each has a verdict of its own.
"""

import re
from collections.abc import Sequence

import mlflow

from steps.core.config import Monitor
from steps.core.monitoring.current import TABLES
from steps.core.monitoring.findings import Level
from steps.core.monitoring.webhook import Message, Told, deliver
from steps.core.tables import location
from steps.core.tracking import runs
from steps.core.workflow.step_run import StepRun

# Tags on a run beside what it has told: the config's name, and way_of().
NAME, WATCHED = "webhook.name", "webhook.watched"


def way_of(model: str, current: str, *, has_labels: bool, settings: Monitor) -> str:
    """The way in which rows are watched, in words, by what a run was asked for: the same for each version of a table,
    and for each of a model that is named without an alias."""
    words = [current if current in TABLES else location.parse_table(current).path]
    words += ["with labels"] if has_labels else []
    words += [f"of {re.sub(r'/[0-9]+$', '', model)}"] if model else []
    words += [f"{name}={value}" for name in ("since", "window") if (value := getattr(settings, name))]
    return " ".join(words)


def tell(
    run: StepRun, name: str, *, watched: str, verdict: Level, reasons: Sequence[str], report: str, model: str
) -> None:
    """Tell a verdict that is another one than that which was told last of what is `watched`, a way_of() it, and tag the
    run with what is known now.

    `report` and `model` are URIs; the run that the report is of has the numbers. A webhook that is down is told in one
    line, and fails nothing.
    """
    earlier = runs.newest(run.experiment_id, {NAME: name, WATCHED: watched}, count=1)
    if not earlier and verdict == "ok":  # an alert of a release without WATCHED was of this way, or of one like it
        earlier = [one for one in runs.newest(run.experiment_id, {NAME: name}, count=1) if WATCHED not in one.data.tags]
    measured = mlflow.get_run(report.removeprefix("runs:/").partition("/")[0])
    message = Message(
        name=name,
        watched=watched,
        verdict=verdict,
        previous=Told.by(earlier[0].data.tags if earlier else {}),
        reasons=reasons,
        numbers={
            metric: value
            for metric, value in measured.data.metrics.items()  # of the newest window
            if "." not in metric  # not of single features
        },
        report=report,
        model=model,
        run_id=run.run_id,
    )
    delivery = deliver(message)
    mlflow.set_tags({NAME: name, WATCHED: watched, **delivery.tags()})
    if delivery.line:
        run.warn(delivery.line)
