"""The project's Makefile as text: which commands stand behind a target."""

import re

from place import PROJECT

MAKEFILE = (PROJECT / "Makefile").read_text(encoding="utf-8")


def recipe(target: str) -> str:
    """The lines of a target of the Makefile, with those of the targets that it needs."""
    found = re.search(rf"^{re.escape(target)}:(?: (?![A-Z_]+ \??=)(.*))?\n((?:\t.*\n)*)", MAKEFILE, re.MULTILINE)
    assert found is not None, target
    return "\n".join([found[2], *(recipe(needed) for needed in (found[1] or "").split() if "/" not in needed)])
