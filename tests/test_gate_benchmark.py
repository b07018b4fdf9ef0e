"""The gate on many small tables: what can be learnt passes, and a coin that is flipped does not."""

import pytest

from benchmarks import gate


@pytest.mark.parametrize("metric", ["f1_macro", "log_loss"])
def test_a_good_model_passes_on_test_parts_of_30_rows(metric: str) -> None:
    assert gate.count("good (Iris)", tables=20, metrics=[metric])[metric]["pass"] >= 19


def test_a_coin_passes_hardly_more_often_than_the_level_of_the_test_says() -> None:
    """Of 40, 2 are expected at 5%; 7 or more come up three times in a thousand."""
    counts = gate.count("coin (labels shuffled)", tables=40, metrics=["f1_macro"])["f1_macro"]
    assert counts["pass"] <= 6
    assert counts["better"] >= 20  # by its score alone it would pass
