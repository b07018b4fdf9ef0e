"""A workflow of steps that do nothing, launched as main.py launches its own."""

from collections.abc import Sequence

from steps.core.config import PROJECT
from steps.core.parameters import parameters
from steps.core.tables import location
from steps.core.tracking import config_files
from steps.core.workflow import entry_point
from steps.core.workflow.driver import workflow
from steps.core.workflow.step_spec import StepSpec


@parameters
class MainParameters:
    steps: int = 1


SPEC = StepSpec(name="main", parameters=MainParameters)


def main(argv: Sequence[str] | None = None) -> None:
    with entry_point.start(SPEC, argv) as (parameters, run):
        settings = config_files.load(str(PROJECT / "configs" / "iris.yaml"), home=location.home())
        with workflow(run, settings, location.lake_root(""), reuse=False, dry_run=False) as steps:
            for _ in range(parameters.steps):
                steps.launch("idle")
