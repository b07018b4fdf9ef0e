"""A step that does nothing, within all that the project does around a step."""

from collections.abc import Sequence

from steps.core.parameters import parameters
from steps.core.workflow import entry_point
from steps.core.workflow.step_spec import StepSpec


@parameters
class IdleParameters:
    pass


SPEC = StepSpec(name="idle", parameters=IdleParameters)


def main(argv: Sequence[str] | None = None) -> None:
    with entry_point.start(SPEC, argv):
        pass
