"""Earlier versions that a new one is held against beside the champion, so that slow decay is seen."""

from dataclasses import dataclass, field

from mlflow.entities.model_registry import ModelVersion

from steps.core.errors import ModelDamaged, ModelNotFound, ModelUnreadable
from steps.core.models import aliases, loading, registry

LAST_PASSED = 10  # versions, the newest that passed the gate


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """`production` is what that alias names, None when it names nothing or what is lost, which `doubts` tell; `passed`
    the last versions that passed the gate, as far as they can be loaded."""

    production: loading.LoadedModel | None = None
    passed: tuple[loading.LoadedModel, ...] = ()
    doubts: list[str] = field(default_factory=list)


def load_earlier(version: ModelVersion, *, loaded: loading.LoadedModel | None) -> Earlier:
    """The earlier versions of the model of `version`, without itself. `loaded`, the champion, is not loaded again.

    ModelUnreadable when what is in production is not known to be lost.
    """
    known = {loaded.uri: loaded} if loaded else {}
    production, doubts = None, []
    if released := registry.find_alias(version.name, aliases.PRODUCTION):
        uri = registry.uri_of(released)
        try:
            production = known[uri] = known.get(uri) or loading.load(released)
        except (ModelDamaged, ModelNotFound) as err:
            what = err.what if isinstance(err, ModelDamaged) else "it is of another project"
            doubts.append(f"{uri}, which is in production, is lost ({what}), so it is not compared with")
    passed = registry.newest_passed(version.name, count=LAST_PASSED)
    models = [_load(one, known) for one in passed if one.version != version.version]
    return Earlier(production=production, passed=tuple(filter(None, models)), doubts=doubts)


def _load(version: ModelVersion, known: dict[str, loading.LoadedModel]) -> loading.LoadedModel | None:
    """None for a version that cannot be loaded any more: it stops nobody."""
    try:
        return known.get(registry.uri_of(version)) or loading.load(version)
    except (ModelDamaged, ModelNotFound, ModelUnreadable):
        return None
