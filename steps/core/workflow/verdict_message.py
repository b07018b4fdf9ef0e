"""Let the webhook know of a changed verdict on a model. What it knows already is kept on the runs that told it."""

from collections.abc import Sequence

import mlflow

from steps.core.monitoring.findings import Level
from steps.core.monitoring.webhook import Message, Told, deliver
from steps.core.tracking import runs
from steps.core.workflow.step_run import StepRun

NAME = "webhook.name"  # tag on a run: the config's name, beside what it has told


def tell(run: StepRun, name: str, *, verdict: Level, reasons: Sequence[str], report: str, model: str) -> None:
    """Tell a verdict that is another one than that which was told last, and tag the run with what is known now.

    `report` and `model` are URIs; the run that the report is of has the numbers. A webhook that is down is told in one
    line, and fails nothing.
    """
    earlier = runs.newest(run.experiment_id, {NAME: name}, count=1)
    measured = mlflow.get_run(report.removeprefix("runs:/").partition("/")[0])
    message = Message(
        name=name,
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
    mlflow.set_tags({NAME: name, **delivery.tags()})
    if delivery.line:
        run.warn(delivery.line)
