"""Messages for the person at the terminal, beside what a command prints."""

import sys


def message(text: str) -> None:
    """A line for the user, at once."""
    print(text, file=sys.stderr, flush=True)
