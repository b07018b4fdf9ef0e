"""False alarms and power of `monitor`, on fewer of the seeded samples than benchmarks/drift.py has."""

import pytest

from benchmarks import drift


@pytest.mark.parametrize("size", [30, 100, 1_000])
@pytest.mark.parametrize("reference_rows", drift.REFERENCE_SIZES)
def test_rows_of_the_same_distribution_raise_an_alarm_in_hardly_any_sample(reference_rows: int, size: int) -> None:
    counts = drift.verdicts(reference_rows=reference_rows, size=size, trials=25)
    assert counts["warn"] + counts["alert"] <= 1


def test_a_shift_of_half_a_deviation_in_one_of_ten_features_is_found_of_a_thousand_rows() -> None:
    counts = drift.verdicts(reference_rows=20_000, size=1_000, trials=25, shift=0.5)
    assert counts["warn"] + counts["alert"] == 25
