"""Labels that come late, from tables and files: joined to their predictions, and what is told of those that are not."""

import functools
import json
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from http_servers import answering
from hypothesis import given
from hypothesis import strategies as st
from small import FLOWERS, QUICK, sqlite, tracked

from steps.core.config import Config
from steps.core.errors import TableUnfit
from steps.core.monitoring import label_source
from steps.core.monitoring.errors import LabelsContradictory, LabelsUnusable
from steps.core.monitoring.labels import LabelIndex, TruthReader, has_label, in_predictions
from steps.core.tables import location, snapshot

CLASSES = ("setosa", "versicolor", "virginica")
KEYED = {**FLOWERS, "columns": {"id": {"type": "long"}, **FLOWERS["columns"]}, "key": ["id"]}
PREDICTIONS = ("id", "petal_length", "prediction", "probability", "probabilities")
REQUESTS = ("petal_length", "prediction", "request_id", "row")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    with tracked(sqlite(tmp_path)):
        yield


def index(
    labels: str | Path | dict[str, list[Any]],
    *,
    predictions: tuple[str, ...] = PREDICTIONS,
    config: dict[str, Any] = KEYED,
    reader: TruthReader | None = None,
) -> LabelIndex:
    if isinstance(labels, dict):
        pd.DataFrame(labels).to_csv("labels.csv", index=False)
        labels = "labels.csv"
    return LabelIndex(
        label_source.find(str(labels), Config.model_validate(config), predictions=predictions),
        reader or TruthReader(classes=CLASSES),
    )


def ids(*values: int | None) -> pa.Table:
    return pa.table({"id": pa.array(values, pa.int64()), "prediction": ["setosa"] * len(values)})


def test_a_label_is_joined_to_its_prediction_by_the_key_whatever_the_order() -> None:
    found = index({"id": [3, 1, 2], "species": ["virginica", "setosa", "versicolor"], "seen": [1, 1, 1]})
    assert found.of(ids(1, 2, 3, 4)).tolist() == [0, 1, 2, -1]
    assert (found.count, found.unknown, found.lines()) == (3, 0, [])


def test_labels_for_requests_are_joined_by_request_and_row() -> None:
    found = index(
        {"request_id": ["a", "a", "b"], "row": [0, 1, 0], "species": ["setosa", "virginica", "setosa"]},
        predictions=REQUESTS,
    )
    rows = pa.table({"request_id": ["b", "a", "a", "c"], "row": pa.array([0, 1, 2, 0], pa.int64())})
    assert found.of(rows).tolist() == [0, 2, -1, -1]
    assert found.unknown == 1


@pytest.mark.parametrize("form", ["csv", "json", "parquet", "folder", "delta"])
def test_labels_come_from_tables_and_files(tmp_path: Path, form: str) -> None:
    rows = pd.DataFrame({"id": [1, 2], "species": ["setosa", "virginica"]})
    path = tmp_path / f"labels.{form}"
    if form == "csv":
        rows.to_csv(path, index=False)
    elif form == "json":
        path.write_text("\n".join(json.dumps(row) for row in rows.to_dict("records")))
    elif form == "parquet":
        rows.to_parquet(path)
    elif form == "folder":
        path.mkdir()
        rows[:1].to_csv(path / "monday.csv", index=False)
        rows[1:].to_csv(path / "tuesday.csv", index=False)
    else:
        write_deltalake(str(path), pa.Table.from_pandas(rows, preserve_index=False))
    assert index(path).of(ids(1, 2)).tolist() == [0, 2]


def test_labels_come_from_a_url(tmp_path: Path) -> None:
    (tmp_path / "outcomes.csv").write_text("id,species\n1,setosa\n2,virginica\n")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with answering(ThreadingHTTPServer(("127.0.0.1", 0), handler)) as url:
        found = index(f"{url}/outcomes.csv")
    assert found.of(ids(1, 2)).tolist() == [0, 2]


def test_a_table_of_labels_is_read_at_the_version_that_it_has_when_it_is_found(tmp_path: Path) -> None:
    path = str(tmp_path / "labels")
    write_deltalake(path, pa.table({"id": [1], "species": ["setosa"]}))
    source = label_source.find(path, Config.model_validate(KEYED), predictions=PREDICTIONS)
    write_deltalake(path, pa.table({"id": [2], "species": ["setosa"]}), mode="append")
    assert (source.uri, LabelIndex(source, TruthReader(classes=CLASSES)).of(ids(1, 2)).tolist()) == (
        f"{path}@v0",
        [0, -1],
    )
    assert index(f"{path}@v0").of(ids(1, 2)).tolist() == [0, -1]
    assert index(path).of(ids(1, 2)).tolist() == [0, 0]
    assert source.uri == str(snapshot.open(location.parse_table(f"{path}@v0")))


def test_what_labels_there_are_shows_in_their_digest(tmp_path: Path) -> None:
    def digest() -> str:
        return label_source.find("labels.csv", Config.model_validate(KEYED), predictions=PREDICTIONS).digest

    Path("labels.csv").write_text("id,species\n1,setosa\n")
    before = digest()
    assert digest() == before
    Path("labels.csv").write_text("id,species\n1,virginic\n")
    assert digest() != before


def test_labels_none_of_which_is_a_class_of_the_model_are_refused() -> None:
    upper: dict[str, list[Any]] = {"id": list(range(12)), "species": [name.upper() for name in CLASSES] * 4}
    said = (
        "none of its 12 labels, such as 'SETOSA', 'VERSICOLOR', 'VIRGINICA', is a class of the model, such as 'setosa'"
    )
    with pytest.raises(LabelsUnusable, match=said):
        index(upper)
    one_known = {**upper, "species": ["setosa", *upper["species"][1:]]}
    found = index(one_known)
    assert found.of(ids(0, 1, 2, 4)).tolist() == [0, 3, 4, 3]
    [line] = found.lines()[1:]
    assert line.endswith(
        "labels.csv: 11 of 12 labels are no class of the model: 'VERSICOLOR' (4), 'VIRGINICA' (4), 'SETOSA' (3); they "
        "count in no score: correct them, or train on rows that have them"
    )
    few = {name: values[:3] for name, values in upper.items()}
    assert index(few).of(ids(0)).tolist() == [3]


def test_labels_of_unknown_keys_are_counted_and_told() -> None:
    found = index({"id": [1, 7, 8], "species": ["setosa"] * 3})
    found.of(ids(1, 2))
    assert found.unknown == 2
    assert [line.partition(": ")[2] for line in found.lines()] == ["2 of 3 labels are of no prediction that is watched"]
    found.of(ids(7))  # a prediction of another window
    assert found.unknown == 1


def test_labels_that_are_there_twice_count_once_where_they_agree() -> None:
    found = index({"id": [1, 1, 1, 2], "species": ["setosa", "setosa", "setosa", "virginica"]})
    assert found.of(ids(1, 2)).tolist() == [0, 2]
    assert [line.partition(": ")[2] for line in found.lines()] == [
        "2 rows repeat the label of another row, and count once"
    ]


def test_labels_that_contradict_each_other_are_refused_with_a_sample() -> None:
    with pytest.raises(
        LabelsContradictory, match=r"2 keys have labels that contradict .*id 1 has setosa and virginica"
    ):
        index({"id": [1, 1, 2, 3, 3], "species": ["setosa", "virginica", "setosa", "setosa", "versicolor"]})


def test_a_label_that_breaks_the_rules_of_its_column_is_counted_and_counts_for_nothing() -> None:
    species = {"type": "string", "allowed": list(CLASSES)}
    config = {**KEYED, "columns": {**KEYED["columns"], "species": species}}
    found = index({"id": [1, 2, "x"], "species": ["setosa", "rose", "setosa"]}, config=config)
    assert found.of(ids(1, 2)).tolist() == [0, -1]
    assert sorted(line.partition(": ")[2] for line in found.lines()) == [
        "column 'id': 1 of 3 rows are not of type long, such as 'x', and count for nothing",
        "column 'species': 1 of 3 rows are none of setosa, versicolor, virginica, such as 'rose', and count for "
        "nothing",
    ]


def test_a_label_that_looks_like_an_allowed_one_is_shown_by_its_characters() -> None:
    species = {"type": "string", "allowed": ["été", "hiver"]}
    config = {**KEYED, "columns": {**KEYED["columns"], "species": species}}
    *_, line = index({"id": [1, 2], "species": ["hiver", "e\u0301te\u0301"]}, config=config).lines()
    assert r"1 of 2 rows are none of été, hiver, such as 'e\u0301te\u0301'" in line


def test_labels_of_another_type_are_taken_as_the_contract_takes_them() -> None:
    config = {**KEYED, "columns": {**KEYED["columns"], "species": {"type": "boolean"}}, "target": "species"}
    reader = TruthReader(classes=(False, True))
    found = index({"id": ["1", "2", "3"], "species": ["yes", "0", "perhaps"]}, config=config, reader=reader)
    assert found.of(ids(1, 2, 3)).tolist() == [1, 0, -1]
    numbers = pa.table({"id": [1.0, 2.0, 3.5], "species": [1, 0, 1]})
    write_deltalake("numbers", numbers)
    found = index("numbers", config=config, reader=reader)
    assert found.of(ids(1, 2)).tolist() == [1, 0]
    assert len(found.lines()) == 1


def test_a_label_that_is_missing_has_not_come_yet() -> None:
    found = index({"id": [1, 2, 2], "species": ["setosa", None, "virginica"]})
    assert found.of(ids(1, 2)).tolist() == [0, 2]
    assert [line.partition(": ")[2] for line in found.lines()] == ["1 of 3 rows have no label yet"]


def test_of_a_regression_labels_are_numbers() -> None:
    config = {
        **KEYED,
        "target": "petal_length",
        "task": "regression",
        "columns": {**KEYED["columns"], "petal_length": {"type": "decimal(6,2)"}},
    }
    found = index({"id": [1, 2], "petal_length": ["1.50", ""]}, config=config, reader=TruthReader(classes=()))
    truth = found.of(ids(1, 2, 3))
    assert truth.tolist() == pytest.approx([1.5, np.nan, np.nan], nan_ok=True)
    assert has_label(truth).tolist() == [True, False, False]


def test_a_class_that_the_model_does_not_know_has_a_code_of_its_own() -> None:
    assert index({"id": [1], "species": ["rose"]}).of(ids(1)).tolist() == [3]


def test_labels_may_be_those_that_the_predictions_have_themselves() -> None:
    rows = pa.table({"id": [1, 2, 3], "species": ["virginica", None, "rose"]})
    assert in_predictions(rows, "species", TruthReader(classes=CLASSES)).tolist() == [2, -1, 3]


@pytest.mark.parametrize(
    ("labels", "predictions", "config", "message"),
    [
        (
            {"id": [1], "kind": ["setosa"]},
            PREDICTIONS,
            KEYED,
            "it has no column 'species', the target; it has id, kind",
        ),
        (
            {"name": [1], "species": ["setosa"]},
            (*PREDICTIONS, "request_id", "row"),
            KEYED,
            "it does not say which prediction a label belongs to, by id or request_id and row; it has name, species",
        ),
        ({"id": [1], "species": ["setosa"]}, ("petal_length",), FLOWERS, "the config has no key"),
        ({"request_id": ["a"], "species": ["setosa"]}, REQUESTS, FLOWERS, "by request_id and row; it has request_id"),
    ],
)
def test_labels_that_cannot_be_joined_are_refused(
    labels: dict[str, list[Any]], predictions: tuple[str, ...], config: dict[str, Any], message: str
) -> None:
    with pytest.raises(LabelsUnusable, match=message):
        index(labels, predictions=predictions, config=config)


def test_labels_that_are_not_there_or_empty_are_refused() -> None:
    with pytest.raises(LabelsUnusable, match=r"nowhere.csv: there is no such file or folder"):
        index("nowhere.csv")
    Path("empty.csv").write_text("")
    with pytest.raises(LabelsUnusable, match="empty.csv"):
        index("empty.csv")
    Path("labels.csv").write_text("id,species\n")
    with pytest.raises(LabelsUnusable, match="it has no rows"):
        index("labels.csv")


def test_names_in_the_source_and_in_other_cases_are_found() -> None:
    config = {**KEYED, "columns": {**KEYED["columns"], "id": {"type": "long", "source": "Flower No"}}}
    assert index({"flower no": [1], "Species": ["setosa"]}, config=config).of(ids(1)).tolist() == [0]


def test_a_key_of_another_type_in_the_predictions_is_told() -> None:
    found = index({"id": [1], "species": ["setosa"]})
    with pytest.raises(TableUnfit, match="id is not of the types of the config"):
        found.of(pa.table({"id": ["one"]}))


@QUICK
@given(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), max_size=30), st.lists(st.integers(-6, 6), max_size=30))
def test_the_join_is_that_of_pandas(labels: list[tuple[int, bool]], keys: list[int]) -> None:
    """Each label is of its key's parity, so that those of one key agree; some are missing."""
    species = [CLASSES[key % 2] if has_come else None for key, has_come in labels]
    frame = pd.DataFrame({"id": [key for key, _ in labels], "species": pd.Series(species, dtype=object)})
    batches = pa.table({"id": pa.array(frame["id"], pa.int64()), "species": pa.array(species, pa.string())})

    class Source:
        key, target, uri, columns = ("id",), "species", "labels", Config.model_validate(KEYED).columns
        rejected_rows = 0

        def batches(self) -> Any:
            yield from (batches.slice(start, 7) for start in range(0, len(batches), 7))

    found = LabelIndex(Source(), TruthReader(classes=CLASSES))  # type: ignore[arg-type]
    expected = pd.DataFrame({"id": keys}).merge(frame.dropna().drop_duplicates(), on="id", how="left")["species"]
    truth = found.of(ids(*keys))
    assert [CLASSES[code] if code >= 0 else None for code in truth] == [
        label if isinstance(label, str) else None for label in expected
    ]
    known = set(frame.dropna()["id"])
    assert (found.count, found.unknown) == (len(known), len(known - set(keys)))
