"""A number for the content of a row, the same for equal rows on every machine and in every year."""

from collections.abc import Sequence

import numpy as np
import pandas as pd


def hashes(rows: pd.DataFrame, columns: Sequence[str], *, seed: int) -> np.ndarray:
    """A uint64 for the content of each row, (n,): pandas' hash of canonical values, mixed with the seed.

    A golden value in tests/test_split.py holds this to the same answer from version to version.
    """
    canonical = pd.DataFrame({str(i): _canonical(rows[name]) for i, name in enumerate(columns)}, copy=False)
    content = pd.util.hash_pandas_object(canonical, index=False).to_numpy(dtype=np.uint64)
    hashed: np.ndarray = pd.util.hash_array(content ^ pd.util.hash_array(np.array([seed], dtype=np.uint64)))
    return hashed


def _canonical(values: pd.Series) -> pd.Series:
    """One representation for equal values: numbers as doubles without -0.0, everything else as text, missing as one.

    Booleans are text: a column of them that is all missing does not differ from one of text, so neither may its hash.
    """
    if pd.api.types.infer_dtype(values, skipna=True) in ("integer", "floating", "mixed-integer-float"):
        numbers = values.to_numpy(dtype="float64", na_value=np.nan)
        return pd.Series(np.where(np.isnan(numbers), np.nan, numbers + 0.0))
    return pd.Series([None if missing else str(value) for value, missing in zip(values, values.isna(), strict=True)])
