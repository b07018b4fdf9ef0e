"""Names for the columns of a source that Delta and Spark take without quoting, and that no other column has."""

import re
import unicodedata
from collections.abc import Iterable

from steps.core.config import PREDICTION_COLUMNS

VALID = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def contract_names(source_names: Iterable[str]) -> dict[str, str]:
    """The name in the contract of each column of a source; the same in whatever order the source has them.

    A name that is valid already stays as it is. Of names that become the same, all but the first in the alphabet get a
    number: "user age" and "user.age" are user_age and user_age_2.
    """
    names = list(source_names)
    taken = set(PREDICTION_COLUMNS)
    chosen: dict[str, str] = {}
    for name in sorted(names, key=lambda name: (VALID.fullmatch(name) is None, name)):
        chosen[name] = _free(_valid(name), taken)
        taken.add(chosen[name].lower())
    return {name: chosen[name] for name in names}


def _valid(name: str) -> str:
    """A name of letters, digits and _ that reads like `name`."""
    plain = unicodedata.normalize("NFKD", name.replace("ß", "ss")).encode("ascii", "ignore").decode()
    words = plain if VALID.fullmatch(plain) else re.sub(r"[^A-Za-z0-9]+", "_", plain).strip("_")
    if VALID.fullmatch(words):
        return words
    return f"column_{words}" if words else "column"


def _free(name: str, taken: set[str]) -> str:
    candidate, number = name, 1
    while candidate.lower() in taken:
        number += 1
        candidate = f"{name}_{number}"
    return candidate
