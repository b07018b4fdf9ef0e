"""Rows of a source, to look at before there is a contract: all of them, or the first ones and others from all over."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from steps.core.columns import Column
from steps.core.errors import SourceUnreadable
from steps.core.sources.column_roles import FIRST_ROWS
from steps.core.sources.column_types import infer_type
from steps.core.sources.rows import Malformed, Part
from steps.core.sources.source import Source

SAMPLE_VALUES = 2_000_000  # rows times columns, looked at in two seconds
FEWEST_SAMPLE_ROWS, MOST_SAMPLE_ROWS = FIRST_ROWS, 200_000
SPREAD_PARTS = 16  # of a source that is larger, into which one looks
SPREAD_ROWS = 2_000_000  # that are read for it, at most


@dataclass(frozen=True, kw_only=True)
class SourceSample:
    """`rows` by the names in the contract, in the source's order, and why columns cannot be read, by their names in the
    source. The first rows follow each other; of a source that has more, others are from all over it."""

    rows: pa.Table
    is_whole: bool  # whether the source has no more
    is_spread: bool = False  # whether there are rows that are not the first
    unreadable: dict[str, str] = field(default_factory=dict)

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


def _with_others(source: Source, columns: Mapping[str, Column], first: SourceSample) -> SourceSample:
    """As many rows from all over a source that has more, as a sorted one has other values further on."""
    if first.is_whole or source.needs_spark:  # a database would pass through all of its rows for it
        return first
    parts = source.parts(columns)
    chosen = {round(place) for place in np.linspace(0, len(parts) - 1, SPREAD_PARTS)}
    wanted, read_rows = (-(-rows // len(chosen)) for rows in (_wanted_rows(columns) // 2, SPREAD_ROWS))
    tables: list[pa.Table] = []
    head = FIRST_ROWS
    try:
        for place, part in enumerate(parts):
            if head or place in chosen:
                rows = thinned(part, wanted, head=head, read_rows=read_rows)
                head = max(0, head - sum(map(len, rows)))
                tables += rows
    except SourceUnreadable:  # as `ingest` will tell; the first rows can be read
        return first
    return SourceSample(rows=_together(source, tables), is_whole=False, is_spread=True)


def thinned(part: Part, wanted: int, *, head: int, read_rows: int) -> list[pa.Table]:
    """The first `head` rows of a part and, of its first `read_rows`, from `wanted` to twice as many, evenly apart."""
    first: list[pa.Table] = []
    kept: list[pa.Table] = []
    step, seen = 1, 0
    for raw in part.read():
        rows = raw.columns.slice(max(0, head - seen))
        first.append(raw.columns.slice(0, len(raw.columns) - len(rows)))
        behind = max(0, seen - head)  # of the rows behind the first ones, how many came before these
        kept.append(rows.take(np.arange(-behind % step, len(rows), step)))
        while sum(map(len, kept)) > 2 * wanted:
            together = pa.concat_tables(kept)
            kept, step = [together.take(np.arange(0, len(together), 2))], 2 * step
        seen += len(raw.columns)
        if seen >= read_rows:
            break
    return [*first, *kept]


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
