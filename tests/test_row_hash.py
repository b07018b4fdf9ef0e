"""Hashes of rows, looked up among many others."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from small import QUICK

from steps.core.tables import row_hash

HASHES = st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 9), max_size=30)


@QUICK
@given(HASHES, HASHES)
def test_a_hash_is_found_among_ascending_ones_as_numpy_finds_it(hashes: list[int], known: list[int]) -> None:
    some, ascending = np.array(hashes, np.uint64), np.unique(np.array(known, np.uint64))
    assert row_hash.are_among(some, ascending).tolist() == np.isin(some, ascending).tolist()
