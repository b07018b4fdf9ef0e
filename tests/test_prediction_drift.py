"""Whether predictions moved: by the size of the difference, and beyond chance."""

import numpy as np

from steps.core.config_monitor_quality import Quality
from steps.core.monitoring import prediction_drift
from steps.core.monitoring.findings import Finding
from steps.core.monitoring.prediction_drift import counts_of, edges_of

CLASSES = ("a", "b", "c")
EVEN = np.array([300, 300, 400])


def of_classes(window: list[int], reference: np.ndarray = EVEN) -> Finding:
    return prediction_drift.of_classes(reference, np.array(window), classes=CLASSES, settings=Quality())


def test_a_large_shift_alerts_a_smaller_one_warns_and_names_what_moved() -> None:
    alert = of_classes([100, 500, 400])
    assert alert.level == "alert"
    assert alert.reason.endswith(": b from 30.0% to 50.0%, a from 30.0% to 10.0%")
    assert alert.numbers["prediction_classes_psi"] > 0.2
    assert of_classes([200, 320, 480]).level == "ok"
    assert of_classes([160, 400, 440]).level == "warn"


def test_millions_of_rows_with_a_tiny_difference_are_no_alarm() -> None:
    found = of_classes([2_950_000, 3_050_000, 4_000_000], reference=EVEN * 10_000)
    assert found.numbers["prediction_classes_p_value"] < 1e-100
    assert found.level == "ok"


def test_few_rows_say_nothing() -> None:
    assert of_classes([8, 0, 0]).level == "too little data"
    assert of_classes([8, 0, 0]).reason.startswith("the window has 8 predictions, too few to compare their classes")
    assert of_classes([800, 0, 0], reference=np.array([10, 10, 10])).reason.startswith("the test part has 30 ")


def test_samples_of_one_distribution_raise_no_alarm_in_most_of_them() -> None:
    alarms = 0
    for seed in range(300):
        random = np.random.default_rng(seed)
        reference, window = (random.multinomial(rows, [0.6, 0.38, 0.02]) for rows in (150, 200))
        alarms += of_classes(list(window), reference=reference).level != "ok"
    assert alarms <= 0.05 * 300


def test_a_regressions_values_are_counted_between_quantiles_of_the_test_part() -> None:
    random = np.random.default_rng(1)
    reference = random.normal(50, 5, 1_000)
    edges = edges_of(reference)
    assert counts_of(reference, edges).tolist() == [100] * 10
    window = random.normal(54, 5, 1_000)
    assert counts_of(window, edges).tolist() == np.histogram(window, [-np.inf, *edges, np.inf])[0].tolist()
    found = prediction_drift.of_values(counts_of(reference, edges), counts_of(window, edges), edges, settings=Quality())
    assert found.level == "alert"
    assert f"above {edges[-1]:.4g} from 10.0% to " in found.reason


def test_predictions_that_are_all_equal_have_a_bin_of_their_own() -> None:
    edges = edges_of(np.full(200, 3.0))
    assert counts_of(np.full(200, 3.0), edges).tolist() == [200, 0]
    before, after = (counts_of(values, edges) for values in (np.full(200, 3.0), np.full(200, 3.5)))
    assert prediction_drift.of_values(before, after, edges, settings=Quality()).level == "alert"


def test_a_model_that_becomes_unsure_is_seen() -> None:
    sure, unsure = np.zeros(100), np.zeros(100)
    sure[90:], unsure[50:60] = 50, 50
    found = prediction_drift.of_confidence(sure, unsure, settings=Quality())
    assert found.level == "alert"
    assert "probability 0.9 to 1 from 100.0% to 0.0%" in found.reason
