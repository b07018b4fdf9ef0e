"""The types and values of PostgreSQL: how each is selected so that nothing is lost on its way through Spark.

Values whose type Spark would change (numbers of any length, times, which Java sets by its own zone) come as
PostgreSQL's text, and get their type here when all of a batch have it.
"""

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

import pyarrow as pa

from steps.core.sources.rows import RawRows

TEXT, MOMENT = pa.string(), pa.timestamp("us")
MOST_DIGITS = 38  # of a decimal here; Spark says decimal(38,18) of one without a length
NUMERIC = pa.decimal128(MOST_DIGITS)  # stands for a decimal of any number of digits
TYPES = {  # of PostgreSQL: how they are selected, and what they are here; all others are texts
    **{name: ("{}", kind) for name, kind in {"int2": pa.int16(), "int4": pa.int32(), "int8": pa.int64()}.items()},
    **{name: ("{}", kind) for name, kind in {"float4": pa.float32(), "float8": pa.float64()}.items()},
    **{name: ("{}", kind) for name, kind in {"bool": pa.bool_(), "text": TEXT, "bytea": pa.binary()}.items()},
    "oid": ("{}::bigint", pa.int64()),
    "numeric": ("{}::text", NUMERIC),
    "date": ("{}::text", pa.date32()),
    "timestamp": ("{}::text", MOMENT),
    "timestamptz": ("({} at time zone 'UTC')::text || 'Z'", pa.timestamp("us", "UTC")),
    **dict.fromkeys(("time", "timetz"), ("{}::text", pa.time64("us"))),
    "interval": ("{}::text", pa.month_day_nano_interval()),
}
BOUNDS = {  # of a partition column, by its type
    **dict.fromkeys(("int2", "int4", "int8", "oid"), "{}"),
    **dict.fromkeys(("numeric", "float4", "float8"), "floor({})::bigint"),
    **dict.fromkeys(("date", "timestamp", "timestamptz"), "case when isfinite({0}) then {0} end"),
}


@dataclass(frozen=True, kw_only=True)
class ColumnType:
    """A column's type: its name in PostgreSQL's catalog, and what Spark makes of it, as in decimal(10,2)."""

    name: str
    in_spark: str = ""

    @property
    def arrow(self) -> pa.DataType:
        """What there is here for it."""
        if self.name.startswith("_"):
            return pa.list_(TEXT)
        if self.name == "numeric" and (declared := re.fullmatch(r"decimal\((\d+),(\d+)\)", self.in_spark)):
            digits, after_point = map(int, declared.groups())
            return pa.decimal128(digits, after_point) if digits < MOST_DIGITS else NUMERIC
        return TYPES.get(self.name, ("", TEXT))[1]

    def selected(self, column: str) -> str:
        """The expression that selects a column of this type; `column` is quoted."""
        return TYPES.get(self.name, ("{}::text", TEXT))[0].format(column)

    def extremes(self, column: str) -> str:
        """What selects the least and the greatest value of a column of a type that has BOUNDS, as texts."""
        value = BOUNDS[self.name].format(column)
        return f"min({value})::text as lower, max({value})::text as upper"


def quoted(name: str) -> str:
    """A name as SQL takes it in double quotes."""
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True)
class ToRawRows:
    """Makes rows of a batch of what was selected; `types` are those of its columns. Workers call it."""

    types: tuple[pa.DataType, ...]

    def __call__(self, batch: pa.RecordBatch) -> RawRows:
        arrays = [typed(array, kind) for array, kind in zip(batch.columns, self.types, strict=True)]
        return RawRows(columns=pa.table(arrays, names=batch.schema.names))


def typed(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """PostgreSQL's texts as values of a type; as they are where one of them is none, such as infinity."""
    try:
        if pa.types.is_decimal(kind):
            numbers = [None if text is None else Decimal(text) for text in values.to_pylist()]
            decimals = pa.array(numbers, None if kind == NUMERIC else kind)
            return decimals if pa.types.is_decimal128(decimals.type) else values
        return values.cast(kind)
    except (pa.ArrowException, InvalidOperation):
        return values
