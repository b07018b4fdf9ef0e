"""Move an alias of a model, or take it one step back.

Reads   the version's verdict, the alias's history
Writes  the alias and one entry of its history (who, when, from, to) on the registered model
Hands on  output.model, what the alias names afterwards
Fails   ModelNotFound, ModelDamaged; PromotionRefused when the verdict is not a pass (unless force=true) or there is
        nothing to go back to
"""

from collections.abc import Sequence

from mlflow.entities.model_registry import ModelVersion

from steps.core import config
from steps.core.errors import PromotionRefused
from steps.core.models import aliases, model_files, registry
from steps.core.parameters import parameters
from steps.core.tables import location
from steps.core.workflow import entry_point
from steps.core.workflow.step_spec import StepSpec

PREVIOUS = "previous"


@parameters
class PromoteParameters:
    config: str = "configs/iris.yaml"
    name: str = ""  # of the model; by default the config's
    version: str = aliases.STAGING  # a number, an alias, or "previous"
    alias: aliases.Alias = aliases.PRODUCTION
    force: bool = False


SPEC = StepSpec(name="promote", parameters=PromoteParameters, outputs=("model",))


def choose(name: str, version: str, alias: str) -> ModelVersion:
    """The version of model `name` that a number, another alias or "previous" means."""
    if version.isdecimal():
        return registry.resolve(f"models:/{name}/{version}")
    if version != PREVIOUS:
        return registry.resolve(f"models:/{name}@{version}")
    registry.newest_uri(name)  # a model that is not there has no alias either: say the first
    now = registry.aliases_of(name).get(alias, "")
    before = aliases.previous(aliases.history(name, alias)) if now else ""
    if not before:
        raise PromotionRefused(
            f"{alias} of {name} named nothing before {'version ' + now if now else 'now'}",
            expected="an alias that has moved at least twice",
            next="pass the version by its number: -P version=N",
        )
    return registry.resolve(f"models:/{name}/{before}")


def _accepted(version: ModelVersion, *, force: bool) -> str:
    """The gate's verdict on a version. PromotionRefused unless it is a pass, or `force`."""
    verdict = version.tags.get(registry.VERDICT, "not judged yet")
    if verdict != "pass" and not force:
        reasons = version.tags.get(f"{registry.VERDICT}.reasons", "")
        raise PromotionRefused(
            f"the verdict on {registry.uri_of(version)} is: {verdict}" + (f" ({reasons})" if reasons else ""),
            expected="a version that passed the gate",
            next=f"run `mlflow run . -e evaluate -P model={registry.uri_of(version)}`, or pass -P force=true",
        )
    return verdict


def main(argv: Sequence[str] | None = None) -> None:
    with entry_point.start(SPEC, argv) as (parameters, run):
        name = parameters.name or config.load(parameters.config, home=location.home()).model.name
        how: aliases.MoveKind = "previous" if parameters.version == PREVIOUS else "promote"
        with aliases.deciding(name):
            version = choose(name, parameters.version, parameters.alias)
            verdict = _accepted(version, force=parameters.force)
            model_files.fetch(version)  # an alias that names what cannot be loaded helps nobody, forced or not
            moved = aliases.move_alias(version, parameters.alias, how=how)
        run.reads(version=registry.uri_of(version))
        run.ran_with(verdict=verdict, moved=moved)
        run.writes(model=registry.uri_of(version))
        print(f"promote: {parameters.alias} {'now names' if moved else 'named already'} version {version.version}")


if __name__ == "__main__":
    main()
