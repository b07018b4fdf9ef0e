"""The run of a whole workflow, as MLflow shows it: to be compared with others without a look at their steps."""

from collections.abc import Mapping, Sequence
from urllib.parse import quote

import mlflow
from mlflow import MlflowClient

from steps.core import markdown
from steps.core.config import Config
from steps.core.metrics import METRICS, logged_name
from steps.core.models import registry
from steps.core.tracking import mlflow_constants
from steps.core.workflow import run_tags
from steps.core.workflow.summary import Launched


def describe(settings: Config, steps: Sequence[Launched], remarks: Sequence[str], *, experiment_id: str) -> None:
    """On the active run: the metrics and the verdict of its evaluate, be it reused, and a note of what became of each
    step."""
    made = {name: uri for launched in steps for name, uri in launched.outputs.items()}
    title = [f"Workflow {settings.name}: a {settings.task} of {settings.target} from {settings.source.uri}"]
    tags: dict[str, str] = {}
    if verdict := made.get(registry.VERDICT):
        (evaluated,) = [launched for launched in steps if registry.VERDICT in launched.outputs]
        metric = logged_name(settings.gate.metric)
        metrics = headline(MlflowClient().get_run(evaluated.run_id).data.metrics, metric)
        mlflow.log_metrics(metrics)
        tags[registry.VERDICT] = verdict
        title.append(_verdict_line(verdict, made["model"], settings.gate.metric, metrics.get(metric)))
    text = note(steps, title=title, remarks=remarks, experiment_id=experiment_id)
    mlflow.set_tags({**tags, mlflow_constants.RUN_NOTE: run_tags.text(text)})


def headline(metrics: Mapping[str, float], metric: str) -> dict[str, float]:
    """Of the metrics of an evaluate run those that tell workflows apart: the model's own, and by the gate's `metric`
    also the baseline's and the champion's."""
    names = [*METRICS, metric, *(f"{role}_{metric}" for role in ("baseline", "champion"))]
    return {name: metrics[name] for name in names if name in metrics}


def note(steps: Sequence[Launched], *, title: Sequence[str], remarks: Sequence[str], experiment_id: str) -> str:
    """Markdown for the run's own page: which workflow it was (the page shows some lines and hides the rest), and what
    became of each step, with links."""
    lines = [part for line in title for part in (markdown.escape(line), "")]
    lines += ["| step | made | seconds | because |", "|---|---|---|---|"]
    for launched in steps:
        step = markdown.link(launched.step, f"#/experiments/{experiment_id}/runs/{launched.run_id}")
        made = ", ".join(_link(uri) for uri in launched.outputs.values() if uri) or markdown.escape(
            launched.status.lower()
        )
        seconds = f"{launched.seconds:.1f}" if launched.seconds else ""
        lines.append(f"| {step} | {made} | {seconds} | {markdown.escape(launched.because)} |")
    for remark in remarks:
        lines += ["", markdown.escape(remark)]
    return markdown.spaced("\n".join(lines))


def _verdict_line(verdict: str, model: str, metric: str, value: float | None) -> markdown.Markdown:
    score = "" if value is None else f", {metric} {value:.4f}"
    return markdown.Markdown(f"Verdict: {markdown.escape(verdict)} on {_link(model)}{markdown.escape(score)}")


def _link(uri: str) -> str:
    """A result; a version of a model as a link to its page."""
    name, _, version = uri.removeprefix("models:/").rpartition("/")
    if not uri.startswith("models:/"):
        return markdown.escape(uri)
    return markdown.link(uri, f"#/models/{quote(name, safe='')}/versions/{version}")
