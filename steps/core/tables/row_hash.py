"""Hashes of values and rows, equal for equal ones: by them tables are compared whatever the order of their rows."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

MISSING = np.uint64(0x9E3779B97F4A7C15)  # the hash of a missing value, of whatever type
TEXT_KEYS = ("0123456789123456", "fedcba9876543210")  # of pandas' hash of texts, SipHash; the first is its default
SEEDS = (MISSING, np.uint64(0xD1B54A32D192ED03))  # of the hash of a row


def two_hashes(rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Two independent hashes of each row, (n,) uint64. Rows of which both are equal are taken for equal: that two of n
    rows are and differ has a probability below n² / 2^129, for 10 billion rows 2e-19."""
    first, second = (
        row_hashes(column_hashes(rows, text_key=key), seed=seed) for key, seed in zip(TEXT_KEYS, SEEDS, strict=True)
    )
    return first, second


def first_hash(rows: pa.Table) -> np.ndarray:
    """The first of two_hashes() alone, (n,) uint64, where equal ones are compared by their values afterwards."""
    return row_hashes(column_hashes(rows))


def column_hashes(rows: pa.Table, *, text_key: str = TEXT_KEYS[0]) -> np.ndarray:
    """(n, columns) uint64: pandas' hash of each value. -0.0 is 0.0; the type of a column is no part of it."""
    hashes = np.empty((len(rows), rows.num_columns), dtype=np.uint64, order="F")
    for position, column in enumerate(rows.itercolumns()):
        hashes[:, position] = _hashes(column.combine_chunks(), text_key)
    return hashes


def row_hashes(hashes: np.ndarray, *, seed: np.uint64 = SEEDS[0]) -> np.ndarray:
    """(n,) uint64 of the values' hashes, which depends on their order: each is mixed in by the finalizer of
    splitmix64 (Steele, Lea and Flood 2014)."""
    mixed = np.full(len(hashes), seed, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for column in hashes.T:
            mixed = (mixed ^ column) * np.uint64(0xBF58476D1CE4E5B9)
            mixed ^= mixed >> np.uint64(29)
            mixed *= np.uint64(0x94D049BB133111EB)
            mixed ^= mixed >> np.uint64(32)
    return mixed


def fingerprint_sum(hashes: np.ndarray) -> int:
    """The sum of the rows' hashes, which their order does not change."""
    low, high = hashes & np.uint64(0xFFFFFFFF), hashes >> np.uint64(32)  # each sum fits in 64 bits
    return int(low.sum(dtype=np.uint64)) + (int(high.sum(dtype=np.uint64)) << 32)


def _hashes(values: pa.Array, text_key: str) -> np.ndarray:
    if pa.types.is_decimal(values.type):
        values = values.cast(pa.string())
    elif not (pa.types.is_primitive(values.type) or pa.types.is_string(values.type)):  # bytes, a list, a map
        values = pa.array([None if value is None else str(value) for value in values.to_pylist()], pa.string())
    if pa.types.is_string(values.type):
        encoded = values.dictionary_encode()
        texts = encoded.dictionary.to_numpy(zero_copy_only=False).astype(object)
        codes = encoded.indices.fill_null(0).to_numpy()
        hashed = _of_texts(texts, text_key)[codes] if len(texts) else np.empty(len(values), np.uint64)
    else:
        hashed = pd.util.hash_array(_numbers(values))
    if values.null_count:
        hashed[pc.is_null(values).to_numpy(zero_copy_only=False)] = MISSING
    return hashed


def _of_texts(texts: np.ndarray, text_key: str) -> np.ndarray:
    hashed: np.ndarray = pd.util.hash_array(texts, hash_key=text_key, categorize=False)
    return hashed


def _numbers(values: pa.Array) -> np.ndarray:
    """Values of any type but text as NumPy's numbers of 64 bits, 0 where missing."""
    kind = values.type
    if pa.types.is_boolean(kind):
        values = values.cast(pa.int64())
    elif pa.types.is_date32(kind):
        values = values.cast(pa.int32()).cast(pa.int64())
    elif pa.types.is_timestamp(kind):
        values = values.cast(pa.int64())
    elif pa.types.is_floating(kind):
        numbers: np.ndarray = values.cast(pa.float64()).fill_null(0.0).to_numpy() + 0.0
        return numbers
    numbers = values.cast(pa.int64()).fill_null(0).to_numpy()
    return numbers


def are_among(hashes: np.ndarray, ascending: np.ndarray) -> np.ndarray:
    """Where a hash is one of those `ascending`, (n,) bool: np.isin() would sort these for each batch of rows anew."""
    if not len(ascending):
        return np.zeros(len(hashes), dtype=bool)
    places = np.searchsorted(ascending, hashes).clip(max=len(ascending) - 1)
    found: np.ndarray = ascending[places] == hashes
    return found
