"""Rows of a source, to look at before there is a contract: all of them, or the first ones and others from all over."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from steps.core.columns import Column
from steps.core.errors import SourceUnreadable
from steps.core.sources.column_roles import FIRST_ROWS
from steps.core.sources.column_types import infer_type
from steps.core.sources.rows import Malformed, RawRows
from steps.core.sources.source import Source

SAMPLE_VALUES = 2_000_000  # rows times columns, looked at in two seconds
FEWEST_SAMPLE_ROWS, MOST_SAMPLE_ROWS = FIRST_ROWS, 200_000
SPREAD_BYTES = 2**29  # in memory, of the rows of a larger source that are read for it: some seconds
PART_BYTES = 2**20  # of these, the least of each file or range
MOST_PARTS = 2_000


@dataclass(frozen=True, kw_only=True)
class SourceSample:
    """`rows` by the names in the contract, in the source's order, and why columns cannot be read, by their names in the
    source. The first rows follow each other; of a source that has more, others are from all over it. `below` are lines
    of another number of values behind the last row."""

    rows: pa.Table
    is_whole: bool  # whether the source has no more
    is_spread: bool = False  # whether there are rows that are not the first
    unreadable: dict[str, str] = field(default_factory=dict)
    below: tuple[str, ...] = ()

    @property
    def described(self) -> str:
        """Which rows these are."""
        if self.is_whole:
            return f"all {len(self.rows)} rows"
        return f"{len(self.rows)} rows from all over it" if self.is_spread else f"the first {len(self.rows)} rows"


def read_sample(source: Source, names: Mapping[str, str]) -> SourceSample:
    """Rows of a source; `names` are those in the contract, by those of its columns there.

    Columns of a type that no contract has are left out. SourceUnreadable when none can be read.
    """
    types = source.columns()
    columns = {
        valid: Column(source=column, type="string", nullable=True)
        for column, valid in names.items()
        if infer_type(pa.array([], types[column]), is_text=False)
    }
    try:
        return _with_others(source, columns, _first_rows(source, columns))
    except SourceUnreadable:  # it may be one column, such as a list of JSON's
        reasons = _unreadable(source, columns)
        if len(reasons) == len(columns):
            raise
        readable = {name: column for name, column in columns.items() if column.source not in reasons}
        first = _first_rows(source, readable)
        return replace(_with_others(source, readable, first), unreadable=reasons)


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


def _wanted_rows(columns: Mapping[str, Column]) -> int:
    return min(MOST_SAMPLE_ROWS, max(FEWEST_SAMPLE_ROWS, SAMPLE_VALUES // max(1, len(columns))))


def _first_rows(source: Source, columns: Mapping[str, Column]) -> SourceSample:
    wanted = _wanted_rows(columns)
    tables: list[pa.Table] = []
    malformed: list[Malformed] = []
    below: tuple[str, ...] = ()
    count = 0
    for raw in source.first_rows(columns, wanted + 1):
        tables.append(raw.columns)
        malformed += raw.malformed
        below = _below(raw)
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
    return SourceSample(rows=_together(source, tables or [empty]), is_whole=True, below=below)


def _below(raw: RawRows) -> tuple[str, ...]:
    """The lines behind the last row that are none, where lines are known."""
    last = int(raw.lines[-1]) if raw.lines is not None and len(raw.lines) else 0
    return tuple(row.text for row in raw.malformed if row.line is not None and row.line > last)


def _with_others(source: Source, columns: Mapping[str, Column], first: SourceSample) -> SourceSample:
    """With as many rows from all over a source that has more, as a sorted one has other values further on."""
    if first.is_whole or source.needs_spark:  # a database would pass through all of its rows for it
        return first
    parts = source.parts(columns)
    parts = parts[:: -(-len(parts) // MOST_PARTS)]
    source_bytes = sum(part.size_bytes for part in parts) or 1
    others, to_skip = Thinned(len(first.rows) // 2), len(first.rows)
    try:
        for part in parts:
            bytes_left = max(PART_BYTES, SPREAD_BYTES * part.size_bytes // source_bytes)
            for raw in part.read():
                others.add(raw.columns.slice(to_skip))
                to_skip = max(0, to_skip - len(raw.columns))
                bytes_left -= raw.columns.nbytes
                if bytes_left <= 0 and not to_skip:
                    break
    except SourceUnreadable:  # as `ingest` will tell; the first rows can be read
        return first
    return SourceSample(rows=_together(source, [first.rows, *others.tables]), is_whole=False, is_spread=True)


class Thinned:
    """Of rows that come one table after the other, from `wanted` to twice as many, each as far from the next one; all
    where there are no more."""

    def __init__(self, wanted: int) -> None:
        self.tables: list[pa.Table] = []
        self._wanted = wanted
        self._step, self._seen = 1, 0

    def add(self, rows: pa.Table) -> None:
        """Take the rows that follow those before."""
        self.tables.append(rows.take(np.arange(-self._seen % self._step, len(rows), self._step)))
        self._seen += len(rows)
        while sum(lengths := [len(table) for table in self.tables]) > 2 * self._wanted:
            starts = np.cumsum([0, *lengths[:-1]]) % 2  # of every second row of all, in each table
            self.tables = [
                table.take(np.arange(start, len(table), 2)) for table, start in zip(self.tables, starts, strict=True)
            ]
            self._step *= 2


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
