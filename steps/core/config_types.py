"""Kinds of values that several parts of the config have."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field


def matches(pattern: str, rule: str) -> AfterValidator:
    """A text that `pattern` fits as a whole; `rule` says in words which these are."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"{text!r} given; {rule}")
        return text

    return AfterValidator(check)


# What Delta and Spark take without quoting.
Name = Annotated[
    str,
    matches(r"[A-Za-z_][A-Za-z0-9_]*", "a name has letters from a to z, digits and _, and does not begin with a digit"),
]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
Share = Annotated[float, Field(gt=0, lt=1)]
