"""What differs between the inputs of two runs (steps.core.workflow.step_inputs), in the words of who changed it."""

from collections.abc import Iterator, Mapping, Sequence

from steps.core.process import loaded_code
from steps.core.wording import listed

CODE = "code."  # before a file's path in the project, in the inputs of a run
COLUMNS = "config.columns."  # before a column's name and one of its settings
ORDER = f"{COLUMNS}order"  # of all columns
SHOWN = 3  # how many differences are listed; the rest is counted


def in_words(differences: Sequence[str]) -> str:
    """Differences as one line: the first few, and how many more there are."""
    return listed(differences, SHOWN)


def between(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    """What changed, in words: the config first, then what the step works on, its environment and its code."""
    if set(code_of(before).values()) == {loaded_code.UNKNOWN}:
        yield "the earlier run was not started by `mlflow run`, so its code is not known"
        before, now = _without_code(before), _without_code(now)
    columns, told = _new_and_gone(before, now), set[str]()
    changed = [name for name in dict.fromkeys([*now, *before]) if _value(before, name) != _value(now, name)]
    for name in changed:
        kind, _, rest = name.partition(".")
        old, new = before.get(name), now.get(name)
        if column := columns.get(_column(name)):
            if column not in told:
                told.add(column)
                yield column
        elif name == ORDER and columns and _is_order_kept(before, now):
            continue
        elif kind == "code":
            yield f"{rest} {_code_change(old, new)}"
        elif rest == "identity":
            if kind not in changed:
                yield f"{_short(now.get(kind, ''))} was made anew"
        elif kind in ("config", "environment"):
            yield f"{rest} {old or 'none'} -> {new or 'none'}"
        elif name == "content":
            yield "the source's content changed"
        else:
            yield f"{name} {_uri_change(old or 'none', new or 'none')}"


def code_of(inputs: Mapping[str, str]) -> dict[str, str]:
    """The files of code among a run's inputs, with the digests that it read."""
    return {name: digest for name, digest in inputs.items() if name.startswith(CODE)}


def _value(inputs: Mapping[str, str], name: str) -> str | None:
    """None also for a key of the config without a value, which an earlier release may not have had."""
    value = inputs.get(name)
    return None if value == "null" else value


def _without_code(inputs: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in inputs.items() if not name.startswith(CODE)}


def _new_and_gone(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """The columns that one of them has and the other has not, each with what became of it."""
    old, new = ({column for name in inputs if (column := _column(name))} for inputs in (before, now))
    return {name: f"column {name} is {'new' if name in new else 'gone'}" for name in old ^ new}


def _column(name: str) -> str:
    """The column of which an input is a setting, "" for any other input."""
    return name.removeprefix(COLUMNS).partition(".")[0] if name.startswith(COLUMNS) and name != ORDER else ""


def _is_order_kept(before: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """Whether the columns that both have are in the same order."""
    old, new = (inputs.get(ORDER, "").split(", ") for inputs in (before, now))
    return [name for name in old if name in new] == [name for name in new if name in old]


def _code_change(old: str | None, new: str | None) -> str:
    if old == loaded_code.UNKNOWN:
        return "was edited while it was used"
    if old in (None, loaded_code.ABSENT):
        return "is new"
    return {None: "is no longer used", loaded_code.ABSENT: "is gone"}.get(new, "changed")


def _uri_change(old: str, new: str) -> str:
    """Both by their names or, where those are the same, by their URIs."""
    names = (_short(old), _short(new))
    return " -> ".join(names if names[0] != names[1] else (old, new))


def _short(uri: str) -> str:
    return uri.rpartition("/")[2] if not uri.startswith("models:/") else uri.removeprefix("models:/")
