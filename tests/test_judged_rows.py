"""A model is judged on the test part of the table, or on a sample of it that is the same for all models."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small import FLOWERS, fit, flowers, flowers_config, flowers_model, loaded
from test_engines import in_order, rows_of, table_of

from steps.core.errors import TableUnfit
from steps.core.models import judged_rows, split
from steps.core.models.training_rows import TrainingRows


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> TrainingRows:
    frame = flowers(3000)
    frame.loc[::9, "species"] = None
    return rows_of(table_of([frame[:1100], frame[1100:]], tmp_path_factory.mktemp("judged")))


def read(rows: TrainingRows, most_rows: int = judged_rows.MOST_TEST_ROWS) -> judged_rows.JudgedRows:
    return judged_rows.read(rows.table, rows.settings, loaded(flowers_model()), most_rows=most_rows)


def whole(rows: TrainingRows) -> split.Parts:
    frame = rows.table.read(rows.settings.training_columns).to_pandas()
    ordered_by = rows.settings.training_columns
    return split.split(split.labelled(frame, rows.settings), rows.split_settings, ordered_by=ordered_by)


def test_all_test_rows_are_judged_on_in_the_order_of_their_content(rows: TrainingRows) -> None:
    judged, expected = read(rows), whole(rows)
    pd.testing.assert_frame_equal(judged.parts.test, expected.test)
    assert sorted(judged.parts.train["species"]) == sorted(expected.train["species"])
    assert (judged.test_rows, judged.is_sample) == (len(expected.test), False)


def test_a_sample_follows_from_content_alone(rows: TrainingRows, tmp_path: Path) -> None:
    mixed = rows.table.read(rows.settings.training_columns).to_pandas().sample(frac=1, random_state=1)
    again = rows_of(table_of([mixed[:500], mixed[500:]], tmp_path))
    samples = [read(table, most_rows=100) for table in (rows, again)]
    pd.testing.assert_frame_equal(samples[0].parts.test, samples[1].parts.test)
    assert (len(samples[0].parts.test), samples[0].is_sample) == (100, True)
    assert samples[0].test_rows == len(whole(rows).test)


def test_a_sample_is_of_the_test_part_and_has_its_shares(rows: TrainingRows) -> None:
    test = whole(rows).test
    sample = read(rows, most_rows=300).parts.test
    assert set(in_order(sample)) <= set(in_order(test))
    shares, expected = (frame["species"].value_counts(normalize=True) for frame in (sample, test))
    assert (shares - expected).abs().max() < 0.06  # two standard errors of 300 rows


def test_a_table_without_a_label_has_no_test_rows(tmp_path: Path) -> None:
    frame = flowers(20).assign(species=pd.Series([None] * 20, dtype="string"))
    with pytest.raises(TableUnfit, match=r"(?s)its test part has no labelled row.*ingest rows that have a label"):
        read(rows_of(table_of([frame], tmp_path)))


def test_the_rows_of_an_empty_test_part_are_told_by_what_they_lack(tmp_path: Path) -> None:
    frame = flowers(400)
    test = split.parts(frame, split.settings_of(flowers_config())) == "test"
    with pytest.raises(TableUnfit, match=rf"ingest rows that differ more: the {(~test).sum()} that have a label"):
        read(rows_of(table_of([frame[~test]], tmp_path)))


def test_the_split_of_the_model_decides_where_its_columns_are_there(tmp_path: Path) -> None:
    settings = flowers_config(split={"seed": 8})
    theirs = split.split(flowers(), split.settings_of(settings))
    table = table_of([flowers()], tmp_path)
    judged = judged_rows.read(table, flowers_config(), loaded(fit(settings, theirs)))
    assert in_order(judged.parts.test) == in_order(theirs.test[judged.parts.test.columns])


def test_by_time_the_newest_rows_are_judged_on_also_when_the_model_has_another_split(tmp_path: Path) -> None:
    columns = {**FLOWERS["columns"], "day": {"type": "timestamp", "feature": False}}
    settings = flowers_config(columns=columns, split={"time": "day"})
    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.random.default_rng(0).permutation(400), unit="D")
    frame = flowers(400).assign(day=days.astype("datetime64[us]"))
    table = table_of([frame[:100], frame[100:]], tmp_path)
    of_gone_column = fit(
        flowers_config(columns={**columns, "gone": {"type": "string"}}, split={"group": "gone"}),
        flower_parts_with_gone(),
    )
    judged = judged_rows.read(table, settings, loaded(of_gone_column))
    newest = frame.sort_values("day")["day"].iloc[-len(judged.parts.test) :]
    assert sorted(judged.parts.test["day"]) == newest.tolist()
    assert len(newest) == 80


def flower_parts_with_gone() -> split.Parts:
    rows = flowers().assign(gone=[str(i % 100) for i in range(400)], day=pd.Timestamp("2024-01-01"))
    columns = {**FLOWERS["columns"], "gone": {"type": "string"}}
    return split.split(rows, split.settings_of(flowers_config(columns=columns, split={"group": "gone"})))


@pytest.mark.parametrize(
    ("key", "gate"),
    [
        ("gate.metric", {"metric": "recall.setosae"}),
        ("gate.limits", {"limits": {"accuracy": 0.5, "f1.setosae": 0.5}}),
    ],
)
def test_a_metric_of_a_class_that_there_is_not_is_told_with_the_nearest(
    rows: TrainingRows, key: str, gate: dict[str, object]
) -> None:
    message = (
        rf"{key} names 'setosae', none of the classes \(did you mean 'setosa'\?\)\n"
        r" *expected *classes that the model or the test part has: setosa, versicolor, virginica\n *next *correct them"
    )
    with pytest.raises(TableUnfit, match=message):
        judged_rows.read(rows.table, flowers_config(gate=gate), loaded(flowers_model()))
