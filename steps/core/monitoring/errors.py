"""The mistakes that a user of `monitor` can mend."""

from collections.abc import Iterable

from steps.core.errors import UserError, listed


class NothingToWatch(UserError):
    """There are no rows to look at yet, or they do not tell what was asked for."""

    def __init__(self, given: str, *, expected: str, next: str) -> None:
        super().__init__(given, expected=expected, next=next)


class ReferenceUnknown(UserError):
    """A version of a model does not tell what its training rows looked like."""

    def __init__(self, uri: str, reason: str, *, next: str = "") -> None:
        super().__init__(
            f"{uri} {reason}",
            expected="a version with artifacts/reference.json, in which train keeps what its rows looked like",
            next=next or "train a new version with `mlflow run . -e main`, or pass another one with -P model=",
        )


class TooManyWindows(UserError):
    """From the first row on there are more windows of the given length than are compared."""

    def __init__(self, count: int, *, most: int) -> None:
        super().__init__(
            f"from the first row to when its table was written there are {count:,} windows of this length, or more",
            expected=f"at most {most}",
            next="choose a longer one with -P window=, or leave older rows out with -P since=",
        )


class LabelsUnusable(UserError):
    """The labels cannot be read, or have no columns to match them with predictions by."""

    def __init__(
        self, uri: str, mistakes: Iterable[str], *, next: str = "correct the labels, or pass others with -P labels=URI"
    ) -> None:
        super().__init__(
            listed(f"labels {uri}", mistakes),
            expected="a Delta table, or files of CSV, JSON or Parquet, that have the target, and the config's key or "
            "request_id and row",
            next=next,
        )


class LabelsContradictory(UserError):
    """One key has different labels."""

    def __init__(self, uri: str, *, keys: int, examples: Iterable[str]) -> None:
        super().__init__(
            f"labels {uri}: {keys:,} keys have labels that contradict each other: {'; '.join(examples)}",
            expected="one label for each key; the same one may be there several times",
            next="correct the labels, and run it again",
        )
