"""Refuse a compose/.env that docker compose does not take at its word.

usage: settings.py <the folder of .env and .env.example>

docker compose reads a value of .env before it passes it on: outside of single quotes `$` begins the name of a variable
and ` #` a comment, so that the password ab$cd arrives as ab. Each value as it is written is compared with the one that
arrived in this process's environment. A name that is nearly that of a setting is refused too: the setting itself would
keep a default that everybody knows. So is a password that a service would refuse: it would end and start for ever.
What is printed are names, never values.
"""

import difflib
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

LINE = re.compile(r"\s*(?:export\s+)?(\w+)\s*[=:]\s*(.*?)\s*")
SINGLE_QUOTED = re.compile(r"'((?:\\'|[^'])*)'(?:\s+#.*)?")
DOUBLE_QUOTED = re.compile(r'"((?:\\"|[^"])*)"(?:\s+#.*)?')
READ_BY_COMPOSE = set("$#\\'\"")  # a value without these that arrives as another was set outside of .env

LEAST_CHARACTERS = {"MLFLOW_AUTH_ADMIN_PASSWORD": 12, "MINIO_ROOT_PASSWORD": 8}  # or empty: the default


def main(folder: str) -> int:
    try:
        lines = Path(folder, ".env").read_text(encoding="utf-8-sig", errors="surrogateescape")
    except FileNotFoundError:
        return 0
    except PermissionError:
        print("compose/.env cannot be read in a container: its values were not checked", file=sys.stderr)
        return 0
    known = settings(Path(folder, ".env.example").read_text(encoding="utf-8"))
    found = mistakes(settings(lines), known=known, arrived=os.environ)
    for mistake in found:
        print(f"compose/.env: {mistake}", file=sys.stderr)
    return 1 if found else 0


def settings(lines: str) -> dict[str, str]:
    """Names and values as they are written, quotes included."""
    matches = [LINE.fullmatch(line) for line in lines.splitlines() if not line.lstrip().startswith("#")]
    return {match[1]: match[2] for match in matches if match}


def mistakes(written: Mapping[str, str], *, known: Mapping[str, str], arrived: Mapping[str, str]) -> list[str]:
    """A message for each mistake in the settings as `written` in .env: a name that is not `known`, a value that has not
    `arrived` in the environment as it stands there, a password that is too short."""
    messages = []
    for name, value in written.items():
        if name in known:
            changed = name in arrived and arrived[name] != unquoted(value)
            if changed and READ_BY_COMPOSE & set(value):
                messages.append(
                    f"{name} does not arrive as it is written: docker compose reads $, # and \\ in a value\n"
                    f"  next      write the value in single quotes, {name}='...', and a comment on a line of its own"
                )
        elif near := difflib.get_close_matches(name, known, n=1, cutoff=0.8):
            messages.append(f"there is no setting {name}\n  next      write {near[0]}, or take the line out")
    for name, least in LEAST_CHARACTERS.items():
        if 0 < len(arrived.get(name, "")) < least:
            messages.append(f"{name} is too short\n  expected  at least {least} characters")
    return messages


def unquoted(value: str) -> str:
    """A value as docker compose reads it, without its quotes and the comment after them."""
    if match := SINGLE_QUOTED.fullmatch(value):
        return match[1].replace("\\'", "'")
    if match := DOUBLE_QUOTED.fullmatch(value):
        return match[1]
    return value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
