"""The first rows of a source, to look at before there is a contract."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from steps.core.columns import Column
from steps.core.errors import SourceUnreadable
from steps.core.sources.column_types import infer_type
from steps.core.sources.rows import Malformed
from steps.core.sources.source import Source

SAMPLE_ROWS = 10_000
SAMPLE_VALUES = 2_000_000  # rows times columns, so that a wide table takes seconds too
FEWEST_SAMPLE_ROWS = 1_000


@dataclass(frozen=True, kw_only=True)
class SourceSample:
    """The first `rows`, by the names in the contract, and why columns cannot be read, by their names in the source."""

    rows: pa.Table
    is_whole: bool  # whether the source has no more
    unreadable: dict[str, str] = field(default_factory=dict)


def read_sample(source: Source, names: Mapping[str, str]) -> SourceSample:
    """The first rows of a source; `names` are those in the contract, by those of its columns there.

    Columns of a type that no contract has are left out. SourceUnreadable when none can be read.
    """
    types = source.columns()
    objects = with_fields(names) if source.settings.format == "json" else set()
    columns = {
        valid: Column(source=column, type="string", nullable=True)
        for column, valid in names.items()
        if infer_type(pa.array([], types[column]), is_text=False) and column not in objects
    }
    try:
        return _first_rows(source, columns)
    except SourceUnreadable:  # it may be one column, such as a list of JSON's
        reasons = _unreadable(source, columns)
        if len(reasons) == len(columns):
            raise
        readable = {name: column for name, column in columns.items() if column.source not in reasons}
        return replace(_first_rows(source, readable), unreadable=reasons)


def with_fields(names: Iterable[str]) -> set[str]:
    """What a dot follows in one of the names: "a" and "a.b" of "a.b.c"."""
    return {name[:place] for name in names for place, letter in enumerate(name) if letter == "."}


def _unreadable(source: Source, columns: Mapping[str, Column]) -> dict[str, str]:
    """Why each of the columns that cannot be read cannot, by their names in the source."""
    reasons = {}
    for name, column in columns.items():
        try:
            _first_rows(source, {name: column})
        except SourceUnreadable as err:
            given = str(err).splitlines()[0]
            reasons[str(column.source)] = given.removeprefix(f"SourceUnreadable: source {source.uri}: ")
    return reasons


def _first_rows(source: Source, columns: Mapping[str, Column]) -> SourceSample:
    wanted = min(SAMPLE_ROWS, max(FEWEST_SAMPLE_ROWS, SAMPLE_VALUES // max(1, len(columns))))
    tables: list[pa.Table] = []
    malformed: list[Malformed] = []
    count = 0
    for raw in source.first_rows(columns, wanted + 1):
        tables.append(raw.columns)
        malformed += raw.malformed
        count += len(raw.columns)
        if count > wanted:
            return SourceSample(rows=_together(source, tables).slice(0, wanted), is_whole=False)
    if malformed and not count:
        example = malformed[0]
        is_escaped = '\\"' in example.text
        raise SourceUnreadable(
            source.uri,
            f"its {len(malformed)} rows {example.reason}, such as {example.text[:80]!r}",
            next="say source.options.escape: '\\' in a config" if is_escaped else "correct the source",
        )
    empty = pa.table({name: pa.array([], pa.string()) for name in columns})
    return SourceSample(rows=_together(source, tables or [empty]), is_whole=True)


def _together(source: Source, tables: Sequence[pa.Table]) -> pa.Table:
    """The rows of all tables. SourceUnreadable for a column that has no type for all of their values."""
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowTypeError as err:
        kinds = {name: {str(table[name].type) for table in tables} for name in tables[0].column_names}
        mixed = [f"{name} as {' and as '.join(sorted(types))}" for name, types in kinds.items() if len(types) > 1]
        raise SourceUnreadable(
            source.uri, f"its files have {', '.join(mixed)}", next="say the types in a config, or correct the files"
        ) from err
