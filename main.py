"""The whole workflow: ingest, train, evaluate, infer, as child runs that are handed URIs. Touches no data.

With `when` alert, monitor runs first, and the others only where it alerts or the model in use has become old.

Reads   the config, or a source without one, of which a config is inferred and logged; what the steps hand on, from
        their runs' output tags
Writes  the summary at the end, and workflow.json; a step whose results stand already is not run again
Fails   StepFailed, with the step's own message and the command that runs it again; NothingToInferWith when the gate
        turned the new version down and there is no champion
"""

from collections.abc import Sequence
from typing import Literal

from steps.core.errors import NothingToInferWith
from steps.core.parameters import Hyperparameters, parameters
from steps.core.sources import kinds
from steps.core.tables import location
from steps.core.workflow import entry_point, own_data, retraining, status
from steps.core.workflow.driver import workflow
from steps.core.workflow.step_spec import StepSpec
from steps.core.workflow.summary import UNKNOWN


@parameters
class MainParameters(Hyperparameters):
    config: str = "configs/iris.yaml"
    source: str = ""
    target: str = ""  # with a source and no config: one is inferred
    name: str = ""  # of the inferred config; by default the source's
    lake: str = ""
    reuse: bool = True
    """Whether a step is taken over from an earlier run where all that it depends on is as it was."""
    when: Literal["always", "alert"] = "always"
    """alert: only where `monitor` alerts, or the model in use has become old."""
    dry_run: bool = False
    """Only say what would be run, and why."""


SPEC = StepSpec(name="main", parameters=MainParameters)


def main(argv: Sequence[str] | None = None) -> None:
    with entry_point.start(SPEC, argv) as (parameters, run):
        loaded = own_data.load(parameters, run, entry_point=SPEC.name)
        settings = loaded.settings.with_hyperparameters(**parameters.hyperparameters())
        where = {"config": loaded.path, "lake": location.lake_root(parameters.lake)}
        if parameters.dry_run:
            run.rename("status")
            status.print_status(settings, lake_root=where["lake"])
        settings = settings.with_source(kinds.resolve(settings.source, loaded.source).settings)

        with workflow(run, settings, where["lake"], reuse=parameters.reuse, dry_run=parameters.dry_run) as steps:
            if parameters.when == "alert":
                decision = retraining.decide(settings, lambda: steps.launch("monitor", **where))
                steps.note(decision.sentence)
                if not decision.is_due:
                    return
            table = steps.launch("ingest", **where, source=loaded.source).outputs["table"]
            trained = steps.launch("train", **where, table=table, **parameters.hyperparameters())
            if parameters.when == "alert" and (repeated := retraining.nothing_new(trained)):
                steps.note(repeated)
            model = trained.outputs["model"]
            evaluated = steps.launch("evaluate", **where, table=table, model=model)
            champion = evaluated.outputs["champion"]
            if not champion:
                raise NothingToInferWith(model, evaluated.outputs["verdict"], evaluated.reasons)
            if evaluated.outputs["verdict"] not in ("pass", UNKNOWN):
                steps.note(f"The verdict on {model} is {evaluated.outputs['verdict']}: {evaluated.reasons}.")
                steps.note(f"The predictions are those of the champion {champion}.")
            steps.launch("infer", **where, table=table, model=champion)


if __name__ == "__main__":
    main()
