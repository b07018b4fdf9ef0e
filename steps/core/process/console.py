"""Messages for the person at the terminal, beside what a command prints."""

import sys


def message(text: str) -> None:
    """Show a line to the user at once."""
    print(text, file=sys.stderr, flush=True)
