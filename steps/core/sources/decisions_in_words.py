"""What was decided of each column of a source without a config, and the lines that tell it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from steps.core.sources import encoding_guess

SHOWN_ROWS = 1_000  # of the sample, in which a word beyond ASCII is looked for
LISTED_COLUMNS = 30  # a line each; of a wider table, only those of which there is something to say


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What is decided of one column: its keys in the config, and the reasons."""

    source_name: str
    keys: dict[str, Any]
    reasons: list[str] = field(default_factory=list)
    task: str = "classification"  # of the target


def form_lines(options: Mapping[str, object], sample: pa.Table) -> Iterator[str]:
    """A line for each of the source.options that were guessed; with a word by which one sees whether the encoding is
    right."""
    if lines := options.get("skip_lines"):
        yield f"  text     skip_lines {lines}, as those above line {int(str(lines)) + 1} are no rows of the table"
    if path := options.get("rows"):
        yield f"  text     rows {path!r}, as the only list of objects in the document"
    if encoding := options.get("encoding"):
        texts = (str(value) for row in sample.slice(0, SHOWN_ROWS).to_pylist() for value in row.values())
        word = next((found for text in texts if (found := encoding_guess.example(text))), "")
        shown = f"; if {word!r} is not what it should be, say another one in the config" if word else ""
        yield f"  text     {encoding}, as it is not UTF-8{shown}"


def key_line(key: Sequence[str], candidates: Sequence[str], *, is_whole: bool) -> str:
    """What was decided about the key, and how to decide otherwise; `is_whole`: all rows were looked at."""
    if key:
        others = [name for name in candidates if name not in key]
        return f"{key[0]}, as its name says so and no value is missing or there twice" + (
            f"; {', '.join(others)} would do too" if others else ""
        )
    if candidates:
        reason = "its name does not say so" if is_whole else "not all rows were looked at"
        return f"none, as {reason}; `key: [{candidates[0]}]` would make it one (candidates: {', '.join(candidates)})"
    return "none: no column tells one row from another"


def column_lines(decisions: Mapping[str, Decision], *, target: str) -> Iterator[str]:
    """A line a column; of a wide table the types are counted, and the columns listed of which there is more to say."""
    is_wide = len(decisions) > LISTED_COLUMNS
    if is_wide:
        counts: dict[str, int] = {}
        for decision in decisions.values():
            counts[str(decision.keys["type"])] = counts.get(str(decision.keys["type"]), 0) + 1
        yield f"  columns  {', '.join(f'{count} {kind}' for kind, count in counts.items())}"
    told = {
        name: decision
        for name, decision in decisions.items()
        if not is_wide or decision.reasons or decision.source_name != name
    }
    width = max((len(name) for name in list(told)[:LISTED_COLUMNS]), default=0)
    for name, decision in list(told.items())[:LISTED_COLUMNS]:
        yield f"  {name:<{width}}  {_described(name, decision, target=target)}"
    if len(told) > LISTED_COLUMNS:
        yield f"  and {len(told) - LISTED_COLUMNS} more, in the config"


def _described(name: str, decision: Decision, *, target: str) -> str:
    keys = decision.keys
    of_type = [
        str(keys["type"]),
        *(f"{key} {keys[key]!r}" for key in ("format", "decimal_mark", "thousands_mark", "symbol") if key in keys),
    ]
    origin = f" (from {decision.source_name!r})" if decision.source_name != name else ""
    role = "target" if name == target else "no feature" if keys.get("feature") is False else "feature"
    reasons = decision.reasons[1:] if name == target else decision.reasons
    return f"{', '.join(of_type)}{origin}: {role}" + (f", {'; '.join(reasons)}" if reasons else "")
