"""Whole numbers that a model rounds, as XGBoost's features are float32."""

from collections.abc import Mapping
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from steps.core.columns import NUMBERS, Column

FLOAT32_WHOLE = 2**24  # up to here each whole number is a float32


def rounded_counts(rows: pa.Table, columns: Mapping[str, Column]) -> dict[str, int]:
    """How many whole numbers of each feature the model's float32 does not hold exactly; only where there are. Codes
    are categories to the model, which has each exactly."""
    losses = {}
    for name, column in columns.items():
        is_number = column.kind in NUMBERS and column.kind != "float" and not column.categorical
        if is_number and name in rows.column_names and (count := _rounded(rows[name])):
            losses[name] = count
    return losses


def _rounded(numbers: pa.ChunkedArray) -> int:
    """How many whole numbers float32 rounds. Only those that a double shows to be large are compared exactly."""
    doubles = numbers.cast(pa.float64(), safe=False)
    limits = pc.min_max(doubles).as_py().values()  # mostly that is all; None where no number is there
    if all(limit is None or abs(limit) <= FLOAT32_WHOLE for limit in limits):
        return 0
    is_large = pc.greater(pc.abs(doubles), float(FLOAT32_WHOLE))
    large, nearest = numbers.filter(is_large), doubles.filter(is_large).to_numpy()
    if pa.types.is_decimal(numbers.type):
        return sum(
            value == value.to_integral_value() and value != Decimal(float(np.float32(value)))
            for value in large.to_pylist()
        )
    with np.errstate(over="ignore"):  # beyond float32 it is infinite
        is_held = nearest.astype(np.float32) == nearest
    if pa.types.is_integer(numbers.type):
        is_exact = pa.array(nearest).cast(numbers.type, safe=False).to_numpy() == large.to_numpy()
        return int((~(is_held & is_exact)).sum())
    return int(((nearest == np.floor(nearest)) & ~is_held).sum())
