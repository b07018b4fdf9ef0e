"""Move an alias of a model, or take it one step back.

Reads   the version's verdict, the alias's history
Writes  the alias, one entry of its history (who, when, from, to, why) and the description of the registered model
Hands on  output.model, what the alias names afterwards
Fails   ModelNotFound, ModelDamaged; PromotionRefused when the verdict is not a pass (unless force=true has a reason) or
        there is nothing to go back to
"""

import shlex
from collections.abc import Sequence
from typing import Annotated

from mlflow.entities.model_registry import ModelVersion
from pydantic import StringConstraints

from steps.core.errors import ModelNotFound, PromotionRefused
from steps.core.models import aliases, model_files, model_page, registry
from steps.core.parameters import parameters
from steps.core.tables import location
from steps.core.tracking import config_files
from steps.core.workflow import entry_point
from steps.core.workflow.step_spec import StepSpec

PREVIOUS = "previous"


@parameters
class PromoteParameters:
    config: str = "configs/iris.yaml"
    name: str = ""
    """The registered model; by default the config's."""
    version: str = aliases.STAGING
    """A number, an alias, or `previous`, which takes the last move of the alias back."""
    alias: aliases.Alias = aliases.PRODUCTION
    """The alias that moves."""
    force: bool = False
    """Move the alias to a version too that did not pass the gate; it takes a `reason`."""
    reason: Annotated[str, StringConstraints(max_length=500)] = ""
    """Why, for the alias's history."""


SPEC = StepSpec(name="promote", parameters=PromoteParameters, outputs=("model",))


def choose(name: str, version: str, alias: str) -> ModelVersion:
    """The version of model `name` that a number, another alias or "previous" means."""
    if version.isdecimal():
        return registry.resolve(f"models:/{name}/{version}")
    if version != PREVIOUS:
        if lost := aliases.deleted(name, version):
            raise ModelNotFound(
                f"models:/{name}@{version} names nothing: version {lost}, which it named, was deleted",
                known=[registry.uri_of(other) for other in registry.newest(name)],
            )
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


def accepted(version: ModelVersion, parameters: PromoteParameters) -> str:
    """The gate's verdict on a version. PromotionRefused unless it is a pass, or forced with a reason."""
    verdict = version.tags.get(registry.VERDICT, "not judged yet")
    if verdict == "pass" or (parameters.force and parameters.reason.strip()):
        return verdict
    uri, why = registry.uri_of(version), version.tags.get(f"{registry.VERDICT}.reasons", "")
    forced = aliases.promote_command(
        version.name,
        PREVIOUS if parameters.version == PREVIOUS else str(version.version),
        alias=parameters.alias,
        reason=parameters.reason.strip() or "WHY",
    )
    judge = shlex.join(
        ["mlflow", "run", ".", "-e", "evaluate", "-P", f"config={parameters.config}", "-P", f"model={uri}"]
    )
    raise PromotionRefused(
        f"the verdict on {uri} is: {verdict}" + (f" ({why})" if why else ""),
        expected="a version that passed the gate, or force=true with a reason, which the history keeps",
        next=f"run `{judge} --env-manager local`; or, to move {parameters.alias} all the same, `{forced}`",
    )


def main(argv: Sequence[str] | None = None) -> None:
    with entry_point.start(SPEC, argv) as (parameters, run):
        name = parameters.name or config_files.load(parameters.config, home=location.home()).model.name
        how: aliases.MoveKind = "previous" if parameters.version == PREVIOUS else "promote"
        with aliases.deciding(name):
            version = choose(name, parameters.version, parameters.alias)
            verdict = accepted(version, parameters)
            model_files.fetch(version)  # an alias that names what cannot be loaded helps nobody, forced or not
            moved = aliases.move_alias(version, parameters.alias, how=how, reason=parameters.reason.strip())
            model_page.describe(name)
        run.reads(version=registry.uri_of(version))
        run.ran_with(verdict=verdict, moved=moved)
        run.writes(model=registry.uri_of(version))
        print(f"promote: {parameters.alias} {'now names' if moved else 'named already'} version {version.version}")


if __name__ == "__main__":
    main()
