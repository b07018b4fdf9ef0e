"""Quality by late labels, beside what the gate saw: found when it fell, and quiet when it did not."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import accuracy_score, f1_score, log_loss

from steps.core import significance
from steps.core.classification_metrics import Predictions
from steps.core.config_monitor_quality import Quality
from steps.core.metrics import METRICS, metrics_of
from steps.core.models.grouping import Grouping
from steps.core.monitoring import live_quality
from steps.core.monitoring.findings import Finding
from steps.core.monitoring.gate_reference import GateReference
from steps.core.monitoring.labelled_rows import LabelledRows
from steps.core.monitoring.labels import TruthReader

SEEDS = 50
READER = TruthReader(classes=(0, 1))
QUIET = [Finding(level="ok", subject="age", reason="did not move")]
MOVED = [*QUIET, Finding(level="alert", subject="income", reason="moved")]
UNKNOWN = [Finding(level="too little data", subject="age", reason="8 rows")]


def predicted(rows: int, accuracy: float, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """True codes of two classes and probabilities whose classes are right with this probability."""
    truth = random.integers(0, 2, rows)
    answers = np.where(random.random(rows) < accuracy, truth, 1 - truth)
    sure = random.uniform(0.6, 1, rows)
    probabilities = np.column_stack([np.where(answers == 0, sure, 1 - sure), np.where(answers == 1, sure, 1 - sure)])
    return truth, probabilities


def window(truth: np.ndarray, output: np.ndarray, *, classes: int = 2, most_rows: int | None = None) -> LabelledRows:
    rows = LabelledRows(TruthReader(classes=range(classes)), most_rows=most_rows)
    for start in range(0, len(truth), 700):
        rows.add(truth[start : start + 700], output[start : start + 700])
    return rows


def gate(rows: int, accuracy: float, random: np.random.Generator, metric: str = "accuracy") -> GateReference:
    """What the gate saw of a model, by the project's own bootstrap."""
    truth, probabilities = predicted(rows, accuracy, random)
    predictions = Predictions(probabilities, ("0", "1"))
    interval = significance.interval(significance.resampled_scores(metric, truth, [predictions])[0])
    scores = {metric: METRICS[metric].of(truth, predictions)}
    return GateReference(
        task="classification", rows=rows, metric=metric, scores=scores, interval=interval, predicted=np.zeros(2)
    )


def findings(
    rows: LabelledRows, reference: GateReference | None, *, features: list[Finding] = QUIET, **settings: object
) -> list[Finding]:
    return live_quality.findings(
        rows,
        metric=reference.metric if reference else "accuracy",
        reference=reference,
        features=features,
        settings=Quality.model_validate(settings),
    )


@pytest.mark.parametrize("metric", ["accuracy", "f1_macro"])
def test_an_unchanged_model_is_quiet_and_a_drop_of_ten_points_is_found_at_a_thousand_labels(metric: str) -> None:
    alarms = found = 0
    for seed in range(SEEDS):
        random = np.random.default_rng(seed)
        reference = gate(1_000, 0.9, random, metric)
        alarms += findings(window(*predicted(1_000, 0.9, random)), reference)[0].level != "ok"
        found += findings(window(*predicted(1_000, 0.8, random)), reference)[0].level == "alert"
    assert alarms <= 0.05 * SEEDS
    assert found >= 0.95 * SEEDS


def test_a_model_without_a_mistake_on_few_test_rows_may_make_some() -> None:
    """The bootstrap of 30 right rows says that no other can be wrong."""
    reference = gate(30, 1.0, np.random.default_rng(1))
    assert reference.interval == (1.0, 1.0)
    assert findings(window(*predicted(300, 0.95, np.random.default_rng(2))), reference)[0].level == "ok"
    assert findings(window(*predicted(300, 0.7, np.random.default_rng(2))), reference)[0].level == "alert"


def test_quality_that_fell_while_no_feature_moved_is_concept_drift() -> None:
    random = np.random.default_rng(1)
    reference, rows = gate(1_000, 0.9, random), window(*predicted(1_000, 0.7, random))
    fell, concept = findings(rows, reference)
    assert (fell.subject, fell.level, concept.subject, concept.level) == ("quality", "alert", "concept", "alert")
    assert concept.reason.startswith("accuracy fell while none of 1 features moved: concept drift")
    for features in (MOVED, UNKNOWN, []):
        assert [finding.subject for finding in findings(rows, reference, features=features)] == ["quality"]


def test_the_finding_says_the_score_beside_that_of_the_gate_with_both_intervals() -> None:
    random = np.random.default_rng(1)
    reference = gate(1_000, 0.9, random)
    truth, output = predicted(1_000, 0.7, random)
    [fell, _] = findings(window(truth, output), reference, metrics=["log_loss"])
    assert fell.reason.startswith(f"accuracy fell to {(truth == output.argmax(axis=1)).mean():.4f} (95% interval 0.")
    assert f"on 1,000 labels; the gate saw {reference.scores['accuracy']:.4f} (95% interval" in fell.reason
    assert fell.numbers["log_loss"] == pytest.approx(log_loss(truth, output))
    assert fell.numbers["accuracy_high"] < fell.numbers["gate_low"]


def test_a_drop_that_is_small_is_no_alarm_however_many_labels_show_it() -> None:
    random = np.random.default_rng(1)
    reference = gate(200_000, 0.9, random)
    [same] = findings(window(*predicted(200_000, 0.894, random)), reference)
    assert same.level == "ok"
    assert same.numbers["accuracy_high"] < same.numbers["gate_low"]
    assert findings(window(*predicted(200_000, 0.87, random)), reference)[0].level == "warn"


def test_rows_that_belong_together_are_not_taken_for_independent_ones() -> None:
    """Of 50 customers with 20 rows each, all right or all wrong: as rows, half of these windows seem to be worse."""
    alone = together = 0
    reference = gate(20_000, 0.8, np.random.default_rng(1))
    for seed in range(40):
        random = np.random.default_rng(seed)
        customers = np.repeat(np.arange(1, 51, dtype=np.uint64), 20)
        truth, output = (values[::20].repeat(20, axis=0) for values in predicted(1_000, 0.8, random))
        levels = []
        for groups in (None, customers):
            rows = LabelledRows(READER)
            rows.add(truth, output, groups)
            levels.append(findings(rows, reference)[0].level)
        alone += levels[0] != "ok"
        together += levels[1] != "ok"
    assert together <= 0.1 * 40 < alone


def test_labels_of_few_groups_say_nothing() -> None:
    rows = LabelledRows(READER)
    truth, output = predicted(1_000, 0.2, np.random.default_rng(1))
    rows.add(truth, output, np.arange(1_000, dtype=np.uint64) % 5 + 1)
    [few] = findings(rows, gate(1_000, 0.9, np.random.default_rng(1)))
    assert few.level == "too little data"
    assert few.reason.startswith("the 1,000 labels are of 5 groups of rows that belong together (split.group)")


def test_labels_of_few_days_count_row_by_row_as_the_gate_counts_them() -> None:
    truth, output = predicted(1_000, 0.9, np.random.default_rng(1))
    for days, expected in ((5, None), (50, 50)):
        rows = LabelledRows(READER, grouping=Grouping(column="at", by="day"))
        rows.add(truth, output, np.arange(1_000, dtype=np.uint64) % days)
        assert rows.group_count == expected
        assert findings(rows, gate(1_000, 0.9, np.random.default_rng(1)))[0].level == "ok"


def test_few_labels_and_an_unknown_reference_say_nothing() -> None:
    rows = window(*predicted(40, 0.2, np.random.default_rng(1)))
    rows.add(np.full(60, -1), np.full((60, 2), 0.5))
    [few] = findings(rows, gate(1_000, 0.9, np.random.default_rng(1)))
    assert few.level == "too little data"
    assert few.reason.startswith("40 of 100 predictions have a label, too few to say anything")
    many = window(*predicted(400, 0.2, np.random.default_rng(1)))
    [unknown] = findings(many, None)
    assert unknown.level == "too little data"
    assert "what the gate saw is not kept: run `mlflow run . -e evaluate`" in unknown.reason
    assert unknown.numbers["labels"] == 400


def test_a_metric_that_the_labels_do_not_define_is_told() -> None:
    truth, output = predicted(400, 0.9, np.random.default_rng(1))
    reference = gate(400, 0.9, np.random.default_rng(1), "roc_auc")
    [undefined] = findings(window(np.zeros(400, dtype=int), output), reference)
    assert undefined.reason.startswith("roc_auc of 400 labels is not defined: it needs rows of two classes")


def with_labels(codes: np.ndarray, output: np.ndarray, misspelt: dict[str, int]) -> LabelledRows:
    """Rows of classes no and yes, of which the first labels are written as said, so many of each."""
    reader = TruthReader(classes=("no", "yes"))
    labels = np.array(["no", "yes"], dtype=object)[codes]
    labels[: sum(misspelt.values())] = [label for label, count in misspelt.items() for _ in range(count)]
    rows = LabelledRows(reader)
    for start in range(0, len(labels), 100):
        rows.add(reader.read(pa.array(labels[start : start + 100])), output[start : start + 100])
    return rows


@pytest.mark.parametrize("metric", metrics_of("classification"))
def test_labels_that_are_no_class_of_the_model_are_told_and_leave_every_score_as_it_is_without_them(
    metric: str,
) -> None:
    truth, output = predicted(400, 0.9, np.random.default_rng(1))
    reference = gate(1_000, 0.9, np.random.default_rng(2), metric)
    labels, quality = findings(with_labels(truth, output, {"Ja": 3, "nope": 2}), reference)
    assert (labels.subject, labels.level, labels.numbers) == ("labels", "warn", {"unknown_labels": 5})
    assert labels.reason == (
        "5 of 400 labels are no class of the model: 'Ja' (3), 'nope' (2); they count in no score: correct them, or "
        "train on rows that have them"
    )
    [alone] = findings(window(truth[5:], output[5:]), reference)
    assert (quality.level, quality.numbers) == ("ok", alone.numbers)


@pytest.mark.parametrize(("unknown", "level"), [(3, "ok"), (5, "warn"), (20, "alert")])
def test_labels_that_are_no_class_of_the_model_are_as_serious_as_so_many_mistakes_and_no_concept_drift(
    unknown: int, level: str
) -> None:
    truth, output = predicted(400, 0.9, np.random.default_rng(1))
    rows = with_labels(truth, output, {"dolphin": unknown})
    found = findings(rows, gate(1_000, 0.9, np.random.default_rng(2)))
    assert [(one.subject, one.level) for one in found] == [("labels", level), ("quality", "ok")]


def test_where_few_labels_are_a_class_of_the_model_nothing_is_said_of_its_quality() -> None:
    truth, output = predicted(400, 0.9, np.random.default_rng(1))
    rows = with_labels(truth, output, {f"id {number}": 1 for number in range(390)})
    labels, quality = findings(rows, gate(1_000, 0.9, np.random.default_rng(2)))
    assert labels.level == "alert"
    assert "390 of 400 labels are no class of the model: others (290), 'id 0' (1), 'id 1' (1) and 98 more" in (
        labels.reason
    )
    assert quality.level == "too little data"
    assert quality.reason.startswith("10 of 400 predictions have a label that is a class of the model, too few")
    few, _ = findings(with_labels(truth[:50], output[:50], {"Ja": 50}), gate(1_000, 0.9, np.random.default_rng(2)))
    assert few.level == "too little data"


def test_an_error_that_rose_is_quality_that_fell_and_is_said_to_have_risen() -> None:
    random = np.random.default_rng(1)

    def numbers(spread: float) -> tuple[np.ndarray, np.ndarray]:
        truth = random.normal(50, 5, 1_000)
        return truth, truth + random.normal(0, spread, 1_000)

    truth, output = numbers(1)
    interval = significance.interval(significance.resampled_scores("rmse", truth, [output])[0])
    reference = GateReference(
        task="regression",
        rows=1_000,
        metric="rmse",
        scores={"rmse": METRICS["rmse"].of(truth, output)},
        interval=interval,
        predicted=np.zeros(10),
    )
    assert findings(window(*numbers(1), classes=0), reference)[0].level == "ok"
    [fell, concept] = findings(window(*numbers(1.4), classes=0), reference)
    assert (fell.level, concept.subject) == ("alert", "concept")
    assert fell.reason.startswith("rmse rose to 1.")
    assert concept.reason.startswith("rmse rose while none of 1 features moved")
    assert findings(window(*numbers(0.5), classes=0), reference)[0].level == "ok"  # better is no alarm


FROM_COUNTS = {"accuracy", "balanced_accuracy", "f1_macro", "precision_macro", "recall_macro", "recall.1"}


@pytest.mark.parametrize("metric", [*metrics_of("classification"), "recall.1", "average_precision.1"])
def test_of_many_rows_score_and_interval_are_nearly_those_of_all_of_them(metric: str) -> None:
    truth, output = predicted(6_000, 0.85, np.random.default_rng(3))
    whole = window(truth, output).score(metric)
    bounded = window(truth, output, most_rows=2_000).score(metric)
    assert whole is not None
    assert bounded is not None
    assert whole.interval is not None
    assert bounded.interval is not None
    width = whole.interval[1] - whole.interval[0]
    if metric in FROM_COUNTS:
        assert bounded.rows == 6_000
        assert bounded.value == pytest.approx(whole.value, abs=1e-12)
        assert bounded.interval == pytest.approx(whole.interval, abs=0.15 * width)
    else:
        assert bounded.rows == 2_000
        assert bounded.value == pytest.approx(whole.value, abs=2 * width)
        assert bounded.interval[1] - bounded.interval[0] == pytest.approx(3**0.5 * width, rel=0.25)


def test_what_follows_from_counts_is_of_all_rows_and_scikit_learns() -> None:
    truth, output = predicted(6_000, 0.85, np.random.default_rng(3))
    rows = window(truth, output, most_rows=500)
    answers = output.argmax(axis=1)
    theirs = {
        "accuracy": accuracy_score(truth, answers),
        "f1_macro": f1_score(truth, answers, average="macro"),
        "f1.1": f1_score(truth, answers),
    }
    for metric, value in theirs.items():
        scored = rows.score(metric)
        assert scored is not None
        assert scored.rows == 6_000
        assert scored.value == pytest.approx(value)


def test_the_same_rows_give_the_same_numbers_in_whatever_batches() -> None:
    truth, output = predicted(6_000, 0.85, np.random.default_rng(3))
    one, two = LabelledRows(READER, most_rows=500), window(truth, output, most_rows=500)
    one.add(truth, output)
    for metric in ("accuracy", "log_loss", "roc_auc"):
        assert one.score(metric) == two.score(metric)


def test_the_memory_of_a_window_is_bounded() -> None:
    rows = LabelledRows(READER, most_rows=500)
    for _ in range(50):
        rows.add(*predicted(400, 0.9, np.random.default_rng(1)))
    assert rows.rows == 20_000
    assert sum(len(part) for part in rows._truths) <= 1_400


def test_a_reference_survives_its_file() -> None:
    reference = replace(gate(100, 0.9, np.random.default_rng(1)), classes=(False, True), confidence=np.arange(100))
    read = GateReference.loads(reference.dumps())
    assert read is not None
    assert read.seen() == reference.seen()
    assert (read.classes, read.confidence.tolist()) == ([False, True], list(range(100)))  # type: ignore[union-attr]
    assert GateReference.loads('{"format_version": 4}') is None


def test_a_reference_of_before_the_rows_of_classes_were_kept_is_read() -> None:
    reference = gate(100, 0.9, np.random.default_rng(1))
    written = {**json.loads(reference.dumps()), "format_version": 1}
    del written["rows_of_class"]
    read = GateReference.loads(json.dumps(written))
    assert read is not None
    assert read.seen() == reference.seen()


def test_a_window_with_few_rows_of_the_class_raises_no_alarm() -> None:
    """Of one row, each resample in which it is has the same recall."""
    reference = gate(2_000, 0.9, np.random.default_rng(1), "recall.1")
    alarms = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        truth = (random.random(500) < 0.004).astype(np.int64)
        sure = np.where(random.random(500) < 0.9, truth, 1 - truth)
        [*found] = findings(window(truth, np.column_stack([1 - sure, sure]).astype(float)), reference)
        alarms += found[0].level in ("warn", "alert")
        if found[0].level != "too little data":
            assert f" on 500 labels, {truth.sum()} of the class" in found[0].reason
    assert alarms <= 0.1 * 40


def test_the_gate_has_seen_nothing_of_a_class_without_test_rows() -> None:
    reference = replace(gate(2_000, 0.9, np.random.default_rng(1), "f1.1"), rows_of_class={"0": 2_000, "1": 0})
    assert "f1.1" not in reference.seen()
    truth, output = predicted(500, 0.9, np.random.default_rng(2))
    [found] = findings(window(truth, output), reference)[:1]
    assert found.level == "too little data"
    assert np.isfinite([*found.numbers.values()]).all()
    assert "what the gate saw is not kept: run `mlflow run . -e evaluate`" in found.reason


def test_a_metric_that_is_not_defined_is_told() -> None:
    truth, output = predicted(200, 0.9, np.random.default_rng(1))
    reference = gate(200, 0.9, np.random.default_rng(1))
    [found] = findings(window(np.zeros_like(truth), output), reference, metrics=["recall.1", "recall.frauds"])[:1]
    assert "; recall.1 is not defined: it needs rows of class 1" in found.reason
    assert "; recall.frauds is not defined: 'frauds' is no class of the model" in found.reason


def test_a_share_of_a_rare_class_is_as_unsure_as_its_few_rows() -> None:
    """By Wilson's formula, of 12 rows and not of all 1,000."""
    reference = replace(
        gate(1_000, 0.9, np.random.default_rng(1)), scores={"recall.rare": 1.0}, rows_of_class={"rare": 12}
    )
    score, (low, high) = reference.seen()["recall.rare"]
    assert (score, high) == (1.0, 1.0)
    assert low == pytest.approx(12 / (12 + 1.959964**2), abs=1e-6)


def test_the_quality_of_one_class_is_told_and_falls_alone() -> None:
    """The model misses half of the second class, and the first is what it was."""
    truth, output = predicted(2_000, 0.95, np.random.default_rng(5))
    reference = gate(2_000, 0.95, np.random.default_rng(1), "recall.1")
    assert findings(window(truth, output), reference)[0].level == "ok"
    missed = output.copy()
    missed[np.flatnonzero(truth == 1)[::2]] = [0.9, 0.1]
    [fell, _] = findings(window(truth, missed), reference)
    assert fell.level == "alert"
    assert fell.reason.startswith("recall.1 fell to 0.4")
    of_zero = gate(2_000, 0.95, np.random.default_rng(1), "recall.0")
    assert findings(window(truth, missed), of_zero)[0].level == "ok"
