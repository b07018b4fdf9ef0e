"""Whether main trains at all: with `when=alert` only where monitoring alerts, or the model in use has become old."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from mlflow.entities.model_registry import ModelVersion

from steps.core.config import Config
from steps.core.config_monitor import length_of
from steps.core.models import aliases, registry
from steps.core.workflow.summary import REUSED, UNKNOWN, Launched


@dataclass(frozen=True, kw_only=True)
class Retraining:
    """`sentence` says why there is one, or none."""

    is_due: bool
    sentence: str


def decide(settings: Config, monitor: Callable[[], Launched]) -> Retraining:
    """Whether a new version is to be trained. `monitor` runs the step, which needs a version to watch."""
    watched = aliases.in_use(settings.model.name)
    if watched is None:
        return Retraining(is_due=True, sentence="A version is due: none has passed the gate yet.")
    monitored = monitor()
    verdict, uri = monitored.outputs["monitor"], registry.uri_of(watched)
    if verdict == UNKNOWN:
        return Retraining(is_due=True, sentence="Whether a new version is due follows from monitor.")
    said = f"monitor says {verdict} of {uri}" + (f": {monitored.reasons}" if monitored.reasons else "")
    age, most = age_of(watched), settings.monitor.retrain_after
    if verdict == "alert":
        return Retraining(is_due=True, sentence=f"A new version is due: {said}.")
    if most and age > length_of(most):
        old = f"{uri} was registered {age / timedelta(days=1):.1f} days ago, and monitor.retrain_after is {most}"
        return Retraining(is_due=True, sentence=f"A new version is due: {old}; {said}.")
    return Retraining(is_due=False, sentence=f"No new version is due: {said}.")


def nothing_new(trained: Launched) -> str:
    """What to say of a training that was called for, where the data is that of an earlier one; "" where it is not."""
    if trained.status != REUSED:
        return ""
    return f"There is nothing new to learn from: {trained.outputs['model']} was trained on the same data already."


def age_of(version: ModelVersion) -> timedelta:
    """How long ago it was registered."""
    return datetime.now(UTC) - datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)
