"""Whether one process is to hold rows: by what they take when they are decoded.

The size of Parquet files does not tell: millions of rows with few different values take some kilobytes there.
"""

import os

import pyarrow as pa

from steps.core.errors import SettingInvalid

# Environment variable: up to this size one process reads a table's rows or a source, and above it Spark's workers do.
LIMIT = "WORKFLOW_IN_MEMORY_MEBIBYTES"
TABLE_MEBIBYTES = 256  # by default, of rows that are held at once
STREAMED_MEBIBYTES = 4096  # by default, of rows that one process passes through some at a time
# Of a value in Arrow's memory: as many bytes as its type has, rounded up; of one without a fixed size, an offset and a
# text of some words. And of each row: what is kept beside its values, such as its hash and its predictions.
VARIABLE_BYTES, ROW_BYTES = 32, 64


def fits(columns: pa.Schema, *, rows: int, mebibytes: int = TABLE_MEBIBYTES) -> bool:
    """Whether one process is to hold so many rows of these columns; by default up to so many mebibytes."""
    return estimated_bytes(columns, rows=rows) < limit_bytes(mebibytes)


def limit_bytes(default_mebibytes: int = TABLE_MEBIBYTES) -> int:
    """Up to which size one process reads a table, or a source. SettingInvalid if the environment has no number."""
    text = os.environ.get(LIMIT) or str(default_mebibytes)
    if not text.isdecimal():
        raise SettingInvalid(LIMIT, text, expected="a whole number of mebibytes; 0 leaves all to Spark's workers")
    return int(text) * 2**20


def estimated_bytes(columns: pa.Schema, *, rows: int) -> int:
    """Bytes of so many rows of these columns."""
    return rows * (ROW_BYTES + sum(_value_bytes(column.type) for column in columns))


def _value_bytes(kind: pa.DataType) -> int:
    if pa.types.is_struct(kind):
        return sum(_value_bytes(field.type) for field in kind)
    try:
        return max(1, int(kind.bit_width) // 8)
    except ValueError:  # it has no fixed size
        return VARIABLE_BYTES
