"""One pass over predictions: what counts in which window, and what counts for nothing."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from sklearn.metrics import accuracy_score
from small import FLOWERS, sqlite, tracked

from steps.core.config import Config
from steps.core.config_monitor_quality import Quality
from steps.core.metrics import METRICS
from steps.core.models import split
from steps.core.models.grouping import Grouping
from steps.core.models.split import SplitSettings
from steps.core.monitoring import label_source, prediction_drift
from steps.core.monitoring.gate_reference import GateReference, calibration_of
from steps.core.monitoring.labels import LabelIndex
from steps.core.monitoring.prediction_drift import counts_of, edges_of
from steps.core.monitoring.probability_sums import ProbabilitySums
from steps.core.monitoring.trained_on import TrainedOn
from steps.core.monitoring.watched_quality import Predicted, count, findings
from steps.core.tables import location, snapshot

MODEL, OTHER = "models:/m/2", "models:/m/1"
CLASSES = ("no", "yes")
BY_ID = SplitSettings(test=0.2, validation=0.1, seed=1, columns=("id",))
NOTHING = TrainedOn(columns=(), hashes=None, split=BY_ID)
PREDICTED = Predicted(model_uri=MODEL, classes=CLASSES, target="truth", trained_on=NOTHING)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    with tracked(sqlite(tmp_path)):
        yield


def rows_of(days: np.ndarray, stated: np.ndarray, **others: Any) -> pa.Table:
    """Predictions by day, with P(yes) `stated`; a missing one is NaN."""
    maps = [None if np.isnan(p) else [("no", 1 - p), ("yes", p)] for p in stated]
    answers = [None if np.isnan(p) else CLASSES[int(p > 0.5)] for p in stated]
    columns = {
        "id": pa.array(np.arange(len(days)), pa.int64()),
        "day": days,
        "prediction": pa.array(answers, pa.string()),
        "probabilities": pa.array(maps, pa.map_(pa.string(), pa.float64())),
        "model_uri": [MODEL] * len(days),
    }
    return pa.table({**columns, **others})


def day_of(rows: pa.Table) -> np.ndarray:
    return np.asarray(rows["day"].to_numpy())


def passed(rows: pa.Table, predicted: Predicted = PREDICTED, labels: LabelIndex | None = None) -> Any:
    return count(rows.to_batches(max_chunksize=300), predicted, window_of=day_of, labels=labels)


def simulated(rows: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    stated = random.beta(0.5, 0.5, rows)
    return random.integers(0, 3, rows), stated, (random.random(rows) < stated).astype(int)


def labels_of(ids: np.ndarray, truth: np.ndarray) -> LabelIndex:
    columns = {**FLOWERS["columns"], "id": {"type": "long"}, "truth": {"type": "string"}}
    config = Config.model_validate({**FLOWERS, "columns": columns, "key": ["id"], "target": "truth"})
    pd.DataFrame({"id": ids, "truth": np.array(CLASSES)[truth]}).to_csv("labels.csv", index=False)
    source = label_source.find("labels.csv", config, predictions=["id"])
    return LabelIndex(source, PREDICTED.reader)


def test_a_label_counts_in_the_window_of_its_prediction_whenever_it_comes() -> None:
    days, stated, truth = simulated(900)
    labelled = np.random.default_rng(2).permutation(900)[:600]
    index = labels_of(labelled, truth[labelled])
    counted = passed(rows_of(days, stated), labels=index)
    assert index.unknown == 0
    has_come = np.isin(np.arange(900), labelled)
    for day, window in counted.windows.items():
        mine = (days == day) & has_come
        assert (window.labelled.rows, window.labelled.unlabelled) == (mine.sum(), ((days == day) & ~has_come).sum())
        assert window.labelled.score("accuracy").value == pytest.approx(accuracy_score(truth[mine], stated[mine] > 0.5))
        assert window.probabilities.rows == (days == day).sum()


def test_rows_that_are_left_out_are_in_no_window_and_their_labels_are_not_unknown() -> None:
    days, stated, truth = simulated(300)
    index = labels_of(np.arange(300), truth)
    counted = passed(rows_of(np.where(days == 0, -1, days), stated), labels=index)
    assert sorted(counted.windows) == [1, 2]
    assert index.unknown == 0


def test_predictions_of_other_versions_and_rows_without_one_count_for_nothing_and_are_told() -> None:
    days, stated, truth = simulated(300)
    stated[:20] = np.nan
    versions = [MODEL] * 250 + [OTHER] * 50
    index = labels_of(np.arange(300), truth)
    counted = passed(rows_of(days, stated, model_uri=versions), labels=index)
    assert sum(window.labelled.rows for window in counted.windows.values()) == 230
    assert index.unknown == 0
    assert counted.lines(PREDICTED) == [
        "quality: 50 predictions are of other versions than models:/m/2, and count for nothing",
        "quality: 20 rows have no prediction, and count for nothing",
    ]


def test_labels_may_be_those_that_the_predictions_have_kept() -> None:
    days, stated, truth = simulated(300)
    kept = pa.array([CLASSES[code] if day else None for code, day in zip(truth, days, strict=True)], pa.string())
    counted = passed(rows_of(days, stated, truth=kept))
    assert counted.windows[0].labelled.rows == 0
    assert counted.windows[1].labelled.rows == (days == 1).sum()


def trained_on(table: pa.Table, predictions: pa.Table, *columns: str) -> TrainedOn:
    """As of a model that was trained on this table, whose rows are told apart by the columns."""
    write_deltalake("table", table)
    stored = snapshot.open(location.TableUri("table"))
    return TrainedOn.find(stored, columns, BY_ID, target="truth", schema=predictions.schema)


def is_test(ids: np.ndarray) -> np.ndarray:
    return np.asarray(split.parts(pd.DataFrame({"id": ids}), BY_ID) == "test")


def test_rows_that_the_model_was_trained_on_count_for_nothing() -> None:
    """A row is new when the training table has it not, or it was in the test part."""
    days, stated, _ = simulated(400)
    rows = rows_of(days, stated, table_uri=["table@v1"] * 400)
    known = trained_on(pa.table({"id": np.arange(300), "truth": ["yes"] * 300}), rows, "id")
    predicted = replace(PREDICTED, trained_on=known)
    is_seen = (np.arange(400) < 300) & ~is_test(np.arange(400))
    counted = passed(rows, predicted)
    assert counted.trained_on == is_seen.sum()
    assert sum(window.probabilities.rows for window in counted.windows.values()) == (~is_seen).sum()
    assert counted.lines(predicted)[0].startswith(
        f"quality: {is_seen.sum()} predictions are of rows that the model may"
    )
    requests = passed(rows_of(days, stated), predicted)  # these say of no table that they are from it
    assert requests.trained_on == 0


def test_rows_that_had_no_label_were_not_trained_on() -> None:
    days, stated, _ = simulated(300)
    rows = rows_of(days, stated, table_uri=["table@v1"] * 300)
    labels = pa.array(["yes" if number < 200 else None for number in range(300)])
    known = trained_on(pa.table({"id": np.arange(300), "truth": labels}), rows, "id")
    assert known.may_have(rows).tolist() == ((np.arange(300) < 200) & ~is_test(np.arange(300))).tolist()


@pytest.mark.parametrize("kind", [pa.int32(), pa.float64(), pa.decimal128(22, 2)])
def test_numbers_of_another_type_are_the_same_rows(kind: pa.DataType) -> None:
    days, stated, _ = simulated(400)
    rows = rows_of(days, stated, table_uri=["table@v1"] * 400, amount=pa.array(np.arange(400)).cast(kind))
    then = pa.table({"amount": np.arange(300), "truth": ["yes"] * 300})
    known = trained_on(then, rows, "amount")
    assert known.may_have(rows).tolist() == ((np.arange(400) < 300) & ~is_test(np.arange(400))).tolist()


def test_what_a_column_of_another_kind_was_is_not_known() -> None:
    """The text of a day was written in some way; of a float the digits are gone."""
    days, stated, _ = simulated(400)
    day = pa.array(np.arange(400), pa.int32()).cast(pa.date32())
    for name, now in {"at": day, "size": pa.array(np.arange(400) / 10, pa.float64())}.items():
        rows = rows_of(days, stated, table_uri=["table@v1"] * 400, **{name: now})
        then = now.cast(pa.string()) if name == "at" else now.cast(pa.float32())
        write_deltalake(name, pa.table({name: then, "truth": ["yes"] * 400}))
        stored = snapshot.open(location.TableUri(name))
        known = TrainedOn.find(stored, [name], BY_ID, target="truth", schema=rows.schema)
        assert known.may_have(rows).tolist() == (~is_test(np.arange(400))).tolist()


def test_where_the_training_table_is_gone_only_rows_of_the_test_part_count() -> None:
    days, stated, _ = simulated(400)
    rows = rows_of(days, stated, table_uri=["t@v1"] * 400)
    gone = TrainedOn.find(None, ["id"], BY_ID, target="truth", schema=rows.schema)
    counted = passed(rows, replace(PREDICTED, trained_on=gone))
    assert counted.trained_on == (~is_test(np.arange(400))).sum()


def reference_of(stated: np.ndarray, truth: np.ndarray) -> GateReference:
    probabilities = np.column_stack([1 - stated, stated])
    sums = ProbabilitySums.of(probabilities)
    accuracy = float(((stated > 0.5) == truth).mean())
    return GateReference(
        task="classification",
        rows=len(stated),
        metric="accuracy",
        scores={"accuracy": accuracy},
        interval=(accuracy - 0.02, accuracy + 0.02),
        classes=CLASSES,
        predicted=sums.predicted,
        confidence=sums.confidence,
        calibration=calibration_of(truth, probabilities),
    )


def found(counted: Any, reference: GateReference | None, predicted: Predicted = PREDICTED) -> dict[str, list[str]]:
    sections = findings(
        counted.windows[0],
        predicted,
        reference,
        metric="accuracy",
        has_labels=True,
        features=[],
        settings=Quality(),
        windows=3,
        significance=0.01 / 3,
    )
    return {name: [finding.level for finding in found] for name, found in sections.items()}


def test_rows_of_the_same_kind_raise_no_alarm_in_any_section() -> None:
    _, stated, truth = simulated(2_000, seed=7)
    days, later, answers = simulated(3_000)
    counted = passed(rows_of(days, later, truth=pa.array(np.array(CLASSES)[answers])))
    assert found(counted, reference_of(stated, truth)) == {
        "prediction drift": ["ok", "ok"],
        "estimated quality": ["ok"] * 4,
        "live quality": ["ok"],
    }


def test_an_unchanged_model_raises_no_alarm_in_any_section_in_most_of_its_weeks() -> None:
    alarms = 0
    for seed in range(40):
        _, stated, truth = simulated(600, seed=1_000 + seed)
        _, later, answers = simulated(1_400, seed=seed)
        days = np.arange(1_400) % 7
        counted = passed(rows_of(days, later, truth=pa.array(np.array(CLASSES)[answers])))
        reference = reference_of(stated, truth)
        levels = [
            finding.level
            for window in counted.windows.values()
            for section in findings(
                window,
                PREDICTED,
                reference,
                metric="accuracy",
                has_labels=True,
                features=[],
                settings=Quality(),
                windows=7,
                significance=0.01 / 7,
            ).values()
            for finding in section
        ]
        alarms += bool({"warn", "alert"} & set(levels))
    assert alarms <= 0.05 * 40


def test_without_what_the_gate_saw_nothing_is_said_but_the_score() -> None:
    days, stated, truth = simulated(900)
    counted = passed(rows_of(days, stated, truth=pa.array(np.array(CLASSES)[truth])))
    assert set(sum(found(counted, None).values(), [])) == {"too little data"}


def test_of_a_regression_values_are_compared_and_nothing_is_estimated() -> None:
    random = np.random.default_rng(1)
    truth = random.normal(50, 5, 500)
    seen = truth + random.normal(0, 1, 500)
    edges = edges_of(seen)
    reference = GateReference(
        task="regression",
        rows=500,
        metric="r2",
        scores={"r2": METRICS["r2"].of(truth, seen)},
        interval=(0.94, 0.97),
        predicted=counts_of(seen, edges),
        edges=edges,
    )
    predicted = Predicted.by(MODEL, reference, classes=(), target="truth", trained_on=NOTHING)
    later = random.normal(50, 5, 400)
    columns = {"day": np.zeros(400, dtype=int), "model_uri": [MODEL] * 400}
    rows = pa.table({**columns, "prediction": later + random.normal(0, 1, 400), "truth": later})
    sections = findings(
        passed(rows, predicted).windows[0],
        predicted,
        reference,
        metric="r2",
        has_labels=True,
        features=[],
        settings=Quality(),
    )
    levels = {name: [finding.level for finding in one] for name, one in sections.items()}
    assert levels == {
        "prediction drift": ["ok"],
        "estimated quality": ["too little data"],
        "live quality": ["ok"],
    }


def test_rows_of_one_group_are_known_to_belong_together() -> None:
    days, stated, truth = simulated(600)
    customers = pa.array([f"customer {row % 30}" if row < 590 else None for row in range(600)])
    rows = rows_of(days, stated, truth=pa.array(np.array(CLASSES)[truth]), customer=customers)
    predicted = replace(PREDICTED, grouping=Grouping(column="customer"))
    assert "customer" in predicted.columns(rows.schema.names, [])
    alone = int((days[590:] == 0).sum())
    assert passed(rows, predicted).windows[0].labelled.group_count == 30 + alone
    assert passed(rows).windows[0].labelled.group_count is None


def test_predictions_of_rows_that_belong_together_raise_no_alarm() -> None:
    """Of each of 40 customers the model says nearly the same of 30 rows: as rows, many windows seem to have moved."""
    customers, predicted = 40, replace(PREDICTED, grouping=Grouping(column="customer"))

    def seen(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        stated = np.clip(random.beta(1, 1, customers).repeat(30) + random.normal(0, 0.05, 30 * customers), 0.01, 0.99)
        return stated, np.arange(customers).repeat(30)

    def alarms(reference: GateReference, window: Any) -> int:
        found = findings(
            window, predicted, reference, metric="accuracy", has_labels=False, features=[], settings=Quality()
        )
        return sum(one.level in ("warn", "alert") for one in found["prediction drift"])

    alone = together = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        (before, groups), (now, others) = seen(random), seen(random)
        rows = rows_of(np.zeros(len(now), dtype=int), now, customer=others)
        [window] = passed(rows, predicted).windows.values()
        reference = reference_of(before, (random.random(len(before)) < before).astype(int))
        correlations = prediction_drift.correlations(np.column_stack([1 - before, before]), np.empty(0), groups)
        alone += alarms(reference, window) > 0
        together += alarms(replace(reference, rows_together=30.0, correlations=correlations), window) > 0
        moved = replace(reference, predicted=np.array([reference.rows, 0]), rows_together=30.0)
        assert alarms(replace(moved, correlations=correlations), window)
    assert together <= 1
    assert alone > 10


def test_only_the_columns_that_are_needed_are_read() -> None:
    present = ["id", "a", "b", "prediction", "probability", "probabilities", "model_uri", "table_uri", "truth"]
    predicted = Predicted(
        model_uri=MODEL,
        classes=CLASSES,
        target="truth",
        trained_on=TrainedOn(columns=("id",), hashes=None, split=BY_ID),
    )
    assert predicted.columns(present, ["id"]) == [
        "prediction",
        "model_uri",
        "probabilities",
        "truth",
        "id",
        "table_uri",
    ]
