"""How lists are written in messages."""

from collections.abc import Collection
from itertools import islice


def listed(names: Collection[object], most: int, what: str = "") -> str:
    """The first `most` of some names, and how many more of `what` there are: "a, b and 7 more columns"."""
    more = len(names) - most
    shown = ", ".join(str(name) for name in islice(names, most))
    return f"{shown} and {more:,} more {what}".rstrip() if more > 0 else shown
