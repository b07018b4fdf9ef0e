"""How the columns of a table may change while its rows stay: by rule, when rows are added to them.

    a new column                        is added; the rows that are there have no value in it
    a unit where there was none         is added
    another type, also a wider one      is refused: the files that are there would have another type than the table
    another unit, another case          is refused: the column would hold values of two kinds, or have two names
    a column that is no longer there    is refused: the new rows would have no value in it
    a new column that may not be null   is refused: the rows that are there would break the contract

What is refused is done by replacing the rows of the table, by which its columns may change in any way.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from deltalake import CommitProperties, DeltaTable, Field, Schema

from steps.core.errors import TableUnfit
from steps.core.tables.snapshot import Snapshot

REPLACE_ROWS = (  # what to do about rows that do not fit
    "set `mode: replace` and ingest a source that has all rows, which writes them with the new columns; "
    "or set another `name`, which begins another table"
)
COMMENT = "comment"  # the key of a column's comment in the metadata of its field, for Spark and deltalake
OPERATIONS = ("ADD COLUMN", "UPDATE FIELD METADATA")  # what delta-rs calls the commits of a change


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a table's columns lack for rows that are to be added."""

    columns: list[Field] = field(default_factory=list)
    comments: dict[str, str] = field(default_factory=dict)  # by the column's name

    def __bool__(self) -> bool:
        return bool(self.columns or self.comments)

    def commit(self, table: DeltaTable, properties: CommitProperties) -> None:
        """Make the new columns a version without any change of rows; or, where there are none, one of the comments."""
        if self.columns:
            table.alter.add_columns(self.columns, commit_properties=properties)
            return
        name, comment = next(iter(self.comments.items()))
        table.alter.set_column_metadata(name, {COMMENT: comment}, commit_properties=properties)


def change(
    newest: Snapshot,
    schema: Schema,
    *,
    required: Collection[str] = (),
    may_lack: bool = False,
    next: str = REPLACE_ROWS,
) -> Change:
    """What is to be changed before rows of `schema` are added to a table; `required` are columns without nulls.

    TableUnfit, with every reason at once and `next`, when these rows do not fit the columns that are there. Rows that
    `may_lack` columns of the table have no value in them, and are no such reason.
    """
    old, new = _fields(newest.delta_table.schema()), _fields(schema)
    gone = [] if may_lack else _gone(old, new)
    if mistakes := [*_mistakes(old, new), *gone, *_missing_values(old, new, required)]:
        raise TableUnfit(
            str(newest),
            mistakes,
            expected="the columns of the table with their types and units, to which new nullable ones may be added",
            next=next,
        )
    return Change(
        columns=[Field.from_json(json.dumps(new[name])) for name in new if name not in old],
        comments={
            name: _comment(new[name]) for name in new if name in old and _comment(new[name]) and not _comment(old[name])
        },
    )


def _mistakes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    known = {name.lower(): name for name in old}
    for name, column in new.items():
        if name not in old:
            if name.lower() in known:
                yield f"column {name!r} is {known[name.lower()]!r} in the table, which Delta does not tell apart"
            continue
        before, after = _type(old[name]), _type(column)
        if before != after:
            yield f"column {name!r} is {before} in the table and would be {after}"
        before, after = _comment(old[name]), _comment(column)
        if before and after and before != after:
            yield f"column {name!r} is in {before!r} in the table and would be in {after!r}"


def _gone(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    names = {name.lower() for name in new}
    for name in old:
        if name.lower() not in names:
            yield f"column {name!r} of type {_type(old[name])} is in the table, and no longer among the columns"


def _missing_values(old: Mapping[str, Any], new: Mapping[str, Any], required: Collection[str]) -> Iterator[str]:
    for name in new:
        if name not in old and name in required:
            yield f"column {name!r} is new and may not be null, and the rows in the table have no value for it"


def _fields(schema: Schema) -> dict[str, Any]:
    return {column["name"]: column for column in json.loads(schema.to_json())["fields"]}


def _type(column: Mapping[str, Any]) -> str:
    kind = column["type"]
    return kind if isinstance(kind, str) else json.dumps(_without_nullability(kind), sort_keys=True)


def _without_nullability(kind: Any) -> Any:
    """A nested type, without what a reader need not know of it."""
    if isinstance(kind, list):
        return [_without_nullability(part) for part in kind]
    if not isinstance(kind, dict):
        return kind
    left_out = ("nullable", "containsNull", "valueContainsNull", "metadata")
    return {key: _without_nullability(part) for key, part in kind.items() if key not in left_out}


def _comment(column: Mapping[str, Any]) -> str:
    return str(column["metadata"].get(COMMENT, ""))
