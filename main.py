"""The whole workflow: ingest, train, evaluate, infer, as child runs that are handed URIs. Touches no data.

Reads   the config; what the steps hand on, from their runs' output tags
Writes  the summary at the end, and workflow.json; a step whose results stand already is not run again
Fails   StepFailed, with the step's own message and the command that runs it again; NothingToInferWith when the gate
        turned the new version down and there is no champion
"""

from collections.abc import Sequence

from steps.core import config
from steps.core.errors import NothingToInferWith
from steps.core.parameters import Hyperparameters, parameters
from steps.core.sources import kinds
from steps.core.tables import location
from steps.core.workflow import entry_point, status
from steps.core.workflow.driver import workflow
from steps.core.workflow.step_spec import StepSpec
from steps.core.workflow.summary import UNKNOWN


@parameters
class MainParameters(Hyperparameters):
    config: str = "configs/iris.yaml"
    source: str = ""
    lake: str = ""
    reuse: bool = True
    dry_run: bool = False  # say what is there and what would be done, and do nothing


SPEC = StepSpec(name="main", parameters=MainParameters)


def main(argv: Sequence[str] | None = None) -> None:
    with entry_point.start(SPEC, argv) as (parameters, run):
        settings = config.load(parameters.config, home=location.home())
        settings = settings.with_hyperparameters(**parameters.hyperparameters())
        where = {"config": parameters.config, "lake": location.lake_root(parameters.lake)}
        if parameters.dry_run:
            run.rename("status")
            status.print_status(settings, lake_root=where["lake"])
        settings = settings.with_source(kinds.resolve(settings.source, parameters.source).settings)

        with workflow(run, settings, where["lake"], reuse=parameters.reuse, dry_run=parameters.dry_run) as steps:
            table = steps.launch("ingest", **where, source=parameters.source).outputs["table"]
            model = steps.launch("train", **where, table=table, **parameters.hyperparameters()).outputs["model"]
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
