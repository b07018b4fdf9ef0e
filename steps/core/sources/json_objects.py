"""The objects of JSON texts: parsed exactly, found in a document, and their fields by path.

Numbers keep the digits that they are written with, as texts.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

NOT_AN_OBJECT = "are no JSON objects"
HAS_A_KEY_TWICE = "have a key twice"


class Number(str):
    """The digits of a number, as they are written."""


class KeyTwice(ValueError):
    """An object has a key twice, of which nothing tells the right one."""

    next = "write each key of an object once"


def loads(written: str) -> Any:
    """JSON with numbers as their text, and a key that is there twice refused."""
    return json.loads(written, cls=_Exact)


class _Exact(json.JSONDecoder):
    def __init__(self) -> None:
        super().__init__(parse_int=Number, parse_float=Number, parse_constant=str, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    known: dict[str, Any] = {}
    for key, value in pairs:
        if key in known:
            raise KeyTwice(f"an object has the key {key!r} twice")
        known[key] = value
    return known


def loads_or_none(written: str) -> Any:
    """The value of a text of JSON, None when it is none."""
    try:
        return loads(written)
    except (ValueError, RecursionError):
        return None


def row_of(line: str) -> dict[str, Any] | str:
    """The object of a line, or what is wrong with it."""
    try:
        row = loads(line)
    except KeyTwice:
        return HAS_A_KEY_TWICE
    except (ValueError, RecursionError):  # a nesting too deep is none that anybody wrote
        return NOT_AN_OBJECT
    return row if isinstance(row, dict) else NOT_AN_OBJECT


def element(row: Any) -> tuple[dict[str, Any] | str, None, str]:
    """An element of an array as a row, without a line of its own; with its text where it is no object."""
    return (row, None, "") if isinstance(row, dict) else (NOT_AN_OBJECT, None, json.dumps(row))


def documents(written: str) -> Any:
    """The value of a text; objects that follow each other over several lines are an array."""
    decoder = _Exact()
    values: list[Any] = []
    rest = written.removeprefix("\ufeff").strip(" \t\r\n")
    position = 0
    while position < len(rest):
        value, end = decoder.raw_decode(rest, position)
        values.append(value)
        position = end
        while position < len(rest) and rest[position] in " \t\r\n":
            position += 1
    return values[0] if len(values) == 1 else values


def without_surrogates(value: str) -> str:
    """A text with U+FFFD, which the contract refuses, for half of a character pair, which Arrow does not take."""
    return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def is_by_columns(value: Any) -> bool:
    """Whether an object has lists of values, or objects of them by a row's number, and nothing else.

    pandas writes both, and beside the lists of `columns` and `index` one of rows, `data`.
    """
    if not isinstance(value, dict) or not value:
        return False
    columns = list(value.values())
    if all(isinstance(column, dict) and column for column in columns):
        return all(key.isdecimal() for column in columns for key in column)
    return all(isinstance(column, list) for column in columns)


def paths_of_rows(document: Mapping[str, Any], before: str = "") -> list[str]:
    """The paths of lists of objects in an object."""
    paths = []
    for key, value in document.items():
        if isinstance(value, dict):
            paths += paths_of_rows(value, f"{before}{key}.")
        elif _is_rows(value):
            paths.append(f"{before}{key}")
    return paths


def fields(row: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """All fields by their paths, objects and what is in them."""
    for key, value in row.items():
        path = f"{before}{key}"
        if isinstance(value, dict):
            yield from fields(value, f"{path}.")
        yield path, value


def at(row: Mapping[str, Any], path: str) -> Any:
    """The field of a name, or at a path; None where there is none."""
    if path in row:
        return row[path]
    head, dot, rest = path.partition(".")
    while dot:
        inner = row.get(head)
        if isinstance(inner, Mapping):
            return at(inner, rest)
        more, dot, rest = rest.partition(".")
        head = f"{head}.{more}"
    return None
