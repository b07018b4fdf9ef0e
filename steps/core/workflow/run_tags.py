"""The tags that a step leaves on its MLflow run. Other runs, the driver and lineage find it and its results by them."""

from mlflow.entities import Run

from steps.core.redaction import redacted
from steps.core.tracking import runs

INPUT = "input."  # input.<name> = URI of what the step read
OUTPUT = "output."  # output.<name> = URI of a result, which the driver hands to the next step
INPUT_IDENTITY, OUTPUT_IDENTITY = "input_identity.", "output_identity."  # <prefix><name> = identity of what is there
IDENTITIES = {INPUT: INPUT_IDENTITY, OUTPUT: OUTPUT_IDENTITY}
KEY = "key"  # digest of the step's inputs without its code
WORKFLOW = "workflow"  # <config's name>.<step>, by which the nearest earlier run is found
RECEIPT_SHA256 = "receipt.sha256"
REASONS = "reasons"  # why a verdict is what it is
REMARKS = "remarks"  # what the user was told and what stopped nothing
ERROR = "error"  # the message of the error that ended the step
PROCESS = "process"  # which process works on the run, as processes.this_process() writes it


def text(words: str) -> str:
    """`words` as the value of a tag: without secrets, and no longer than MLflow takes."""
    return redacted(words)[: runs.TAG_CHARACTERS]


def outputs(run: Run) -> dict[str, str]:
    """A run's results: name to URI."""
    return with_prefix(run, OUTPUT)


def inputs(run: Run) -> dict[str, str]:
    """What a run read: name to URI."""
    return with_prefix(run, INPUT)


def with_prefix(run: Run, prefix: str) -> dict[str, str]:
    """The tags of a run whose names begin with `prefix`, by the rest of their names."""
    tags: dict[str, str] = run.data.tags
    return {key.removeprefix(prefix): value for key, value in tags.items() if key.startswith(prefix)}
