"""What became of each step of a workflow, as the driver prints it and keeps it in workflow.json."""

from collections.abc import Sequence
from dataclasses import dataclass

UNKNOWN = "?"  # stands for what a step would hand on, in a dry run
REUSED, PLANNED = "reused", "would run"


@dataclass(frozen=True, kw_only=True)
class Launched:
    """One step of this workflow, as it stands in workflow.json."""

    step: str
    run_id: str
    status: str  # of the child run; REUSED where an earlier run's results are taken, PLANNED in a dry run
    seconds: float
    command: str  # runs the step alone
    outputs: dict[str, str]  # name to URI
    reasons: str  # for its verdict; the error's message where the step failed
    because: str  # why it ran


def summary(steps: Sequence[Launched]) -> list[str]:
    """A table of text, a line for each step; seconds are aligned to the right."""
    rows = [("step", "made", "seconds", "because")]
    for launched in steps:
        made = ", ".join(uri for uri in launched.outputs.values() if uri not in ("", UNKNOWN)) or launched.status
        seconds = f"{launched.seconds:.1f}" if launched.seconds else ""
        rows.append((launched.step, made, seconds, launched.because))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        f"{step:<{widths[0]}}  {made:<{widths[1]}}  {seconds:>{widths[2]}}  {because}".rstrip()
        for step, made, seconds, because in rows
    ]
