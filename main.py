"""The whole workflow: ingest, train, evaluate, infer, as child runs that are handed URIs. Touches no data.

Reads   the config; what the steps hand on, from their runs' output tags
Writes  the summary at the end, and workflow.json
Fails   StepFailed, with the step's own message and the command that runs it again; NothingToInferWith when the gate
        turned the new version down and there is no champion
"""

from collections.abc import Sequence

from steps.core import config, lake, source, spark, step
from steps.core.driver import workflow
from steps.core.errors import NothingToInferWith
from steps.core.parameters import Hyperparameters, parameters


@parameters
class MainParameters(Hyperparameters):
    config: str = "configs/iris.yaml"
    source: str = ""
    lake: str = ""


def main(argv: Sequence[str] | None = None) -> None:
    with step.start("main", MainParameters, argv) as (parameters, run):
        settings = config.load(parameters.config, home=lake.home())
        given = source.resolve(settings.source, parameters.source)
        where = {"config": parameters.config, "lake": lake.root(parameters.lake)}

        with workflow(run) as steps, spark.serve(data_bytes=source.size_bytes(given)):
            table = steps.launch("ingest", **where, source=parameters.source).outputs["table"]
            model = steps.launch("train", **where, table=table, **parameters.hyperparameters()).outputs["model"]
            judged = steps.launch("evaluate", **where, table=table, model=model)
            champion = judged.outputs["champion"]
            if not champion:
                raise NothingToInferWith(model, judged.outputs["verdict"], judged.reasons)
            if champion != model:
                steps.note(f"The verdict on {model} is {judged.outputs['verdict']}: {judged.reasons}.")
                steps.note(f"The champion {champion} made the predictions.")
            inferred = steps.launch("infer", **where, table=table, model=champion)

        run.writes(table=table, model=model, **judged.outputs, **inferred.outputs)


if __name__ == "__main__":
    main()
