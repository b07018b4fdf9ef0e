"""Earlier versions that a new one is held against beside the champion, so that slow decay is seen."""

from dataclasses import dataclass

from mlflow.entities.model_registry import ModelVersion

from steps.core.errors import UserError
from steps.core.models import aliases, loading, registry

LAST_PASSED = 10  # versions, the newest that passed the gate


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """`production` is what that alias names, None when it names nothing or what cannot be loaded; `passed` the last
    versions that passed the gate, as far as they can be loaded."""

    production: loading.LoadedModel | None = None
    passed: tuple[loading.LoadedModel, ...] = ()


def load_earlier(version: ModelVersion, *, loaded: loading.LoadedModel | None) -> Earlier:
    """The earlier versions of the model of `version`, without itself. `loaded`, the champion, is not loaded again."""
    known = {loaded.uri: loaded} if loaded else {}
    released = registry.find_alias(version.name, aliases.PRODUCTION)
    passed = registry.newest_passed(version.name, count=LAST_PASSED)
    others = [one for one in passed if one.version != version.version]
    models = {one.version: _load(one, known) for one in [*others, *([released] if released else [])]}
    return Earlier(
        production=models[released.version] if released else None,
        passed=tuple(model for one in others if (model := models[one.version])),
    )


def _load(version: ModelVersion, known: dict[str, loading.LoadedModel]) -> loading.LoadedModel | None:
    """None for a version that is lost, or of another project: it stops nobody."""
    uri = registry.uri_of(version)
    if uri in known:
        return known[uri]
    try:
        return loading.load(version)
    except UserError:
        return None
