"""The console blocks of a page: its commands, what stands below each, and whether that is what a command printed.

    ```console
    $ command
    > which goes on here
    what it printed
    ...
    ```

A line `...` stands for any lines. A command that ends in `&` stays in the background, and a block without a command
shows what those in the background have printed since.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ELIDED = "..."
RUN_ID = re.compile(r"\b[0-9a-f]{32}\b|(?<=run )[0-9a-f]{8}\b")
OF_MLFLOW = re.compile(  # lines that are left out
    r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d [A-Z]+ (mlflow|alembic)\b.*\n|Successfully registered model '.*'\.\n"
    r"|Downloading artifacts:.*\n|Registered model '.*' already exists\. Creating .*\n"
    r"|Created version '\d+' of model '.*'\.\n"
)
VARYING = [  # what two runs of one command do not have alike, and what stands for it in a comparison
    (r"\b[0-9a-f]{32}\b|\b(?<=run )[0-9a-f]{8}\b|\b(?<=commit )[0-9a-f]{7}\b|(?<=_requests-)[0-9a-f]{12}\b", "ID"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d( UTC|:\d\d\.\d+\+00:00)|(?<=date: ).*? GMT", "TIME"),
    (r"(?m)^((?:ingest|train|evaluate|infer|monitor) .*?) +\d+\.\d  ", r"\1  SECONDS  "),
    (r"\bin \d+ s\b", "in SECONDS"),
    (r"(?m)the first \d+ trials|^train: \d+ trials .* \(the time limit.*\n.*", "TRIALS"),  # as time allowed
    (r"[\d,]+ bytes|(?<=spool_bytes\":)\d+", "BYTES"),
    (r"(?<=seconds_since_alias_was_read\":)[\d.]+|(?<=_seconds_sum )\S+|(?<=_age_seconds )\S+", "SECONDS"),
    (r"(?m)[ \t]+", " "),
    (r"(?m) $", ""),
]


class NotConsole(Exception):
    """A block is not in the form above."""


@dataclass(frozen=True)
class Command:
    """A command as the shell takes it, "" for a look at the background, and the lines that stand below it."""

    text: str
    output: str

    @classmethod
    def parsed(cls, lines: str) -> Self:
        """From the lines of a block that belong to one command."""
        command = re.match(r"\$ (.*\n(?:> .*\n|>\n)*)", lines)
        if not command:
            return cls("", lines)
        return cls(re.sub(r"^> ?", "", command[1], flags=re.MULTILINE).rstrip("\n"), lines[command.end() :])

    @property
    def is_in_background(self) -> bool:
        """Whether it goes on while others run."""
        return self.text.endswith(" &")

    def with_ids(self, renamed: Mapping[str, str]) -> "Command":
        """This command with ids of runs in it replaced by those that they became."""
        return Command(_renamed(self.text, renamed), self.output)

    def anew(self, output: str, renamed: Mapping[str, str]) -> "Command":
        """This command where it agrees with `output`, else with that below it, in which ids are replaced."""
        return self if self.agrees_with(output) else self.printed(_renamed(output, renamed))

    def printed(self, output: str) -> "Command":
        """This command with `output` below it, which is elided where its own is."""
        if f"\n{ELIDED}\n" not in f"\n{self.output}":
            return Command(self.text, output)
        first, _, last = f"\n{self.output}".partition(f"\n{ELIDED}\n")
        lines = output.splitlines(keepends=True)
        start, end = len(first.splitlines()[1:]), len(lines) - len(last.splitlines())
        return Command(self.text, "".join([*lines[:start], f"{ELIDED}\n", *lines[max(start, end) :]]))

    def agrees_with(self, output: str) -> bool:
        """Whether `output` is what stands below it, but for what varies and what is elided."""
        pieces = _without_what_varies(f"\n{self.output}").split(f"\n{ELIDED}\n")
        pattern = r"\n(?:.*\n)*".join(re.escape(piece) for piece in pieces)
        return re.fullmatch(pattern, _without_what_varies(f"\n{output}")) is not None

    def __str__(self) -> str:
        shown = "$ " + self.text.replace("\n", "\n> ") + "\n" if self.text else ""
        return re.sub(r"^> $", ">", shown, flags=re.MULTILINE) + self.output


def ids_in(output: str) -> list[str]:
    """The ids of runs in an output, each once, in their order."""
    return list(dict.fromkeys(RUN_ID.findall(output)))


def commands_of(block: str) -> list[Command]:
    """The commands of a block, from the text between its fences."""
    return [Command.parsed(lines) for lines in re.split(r"^(?=\$ )", block, flags=re.MULTILINE) if lines]


def blocks_of(page: str) -> list[list[Command]]:
    """The commands of each console block of a page. NotConsole where one is not in the form above."""
    blocks = [commands_of(block) for block in BLOCK.findall(page)]
    if len(blocks) != len(re.findall(r"^ *```console", page, re.MULTILINE)):
        raise NotConsole("a console block begins and ends with its fence at the beginning of a line")
    runs = False
    for command in (command for block in blocks for command in block):
        if not command.text and not runs:
            raise NotConsole(f"a block without `$ command`, and nothing in the background:\n{command.output}")
        runs = runs or command.is_in_background
    return blocks


def with_blocks(page: str, blocks: list[list[Command]]) -> str:
    """`page` with its console blocks replaced by these, one by one."""
    texts = iter(["".join(map(str, block)) for block in blocks])
    return BLOCK.sub(lambda _: f"```console\n{next(texts)}```", page)


def _renamed(text: str, renamed: Mapping[str, str]) -> str:
    return RUN_ID.sub(lambda id: renamed.get(id[0], id[0]), text)


def _without_what_varies(text: str) -> str:
    for pattern, name in VARYING:
        text = re.sub(pattern, name, text)
    return text
