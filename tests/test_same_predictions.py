"""Tables of any shape: infer, the model in Python and MLflow's scoring server, without its web server, answer alike."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.pyfunc import PyFuncModel, load_model, scoring_server
from scored import Lake, Row
from small import QUICK, sqlite, tracked
from test_serving import JSON, TYPES, VALUES, answers, as_json, example, logged, sensitive_model

EXTRA = {"extra": pa.string(), "species": pa.string(), "id": pa.int64()}  # columns that the model does not read
OPTIONAL = "note"
ROWS = st.lists(
    st.fixed_dictionaries(
        {name: st.none() | values for name, values in VALUES.items()}
        | {"extra": st.none() | st.just("x"), "species": st.sampled_from([None, "setosa"]), "id": st.integers(0, 9)}
    ),
    max_size=6,
)
COLUMNS = st.tuples(st.permutations([*TYPES, *EXTRA]), st.sets(st.sampled_from([OPTIONAL, *EXTRA]))).map(
    lambda drawn: [name for name in drawn[0] if name not in drawn[1]]
)


@pytest.fixture(autouse=True)
def _tracking(tmp_path: Path) -> Iterator[None]:
    with tracked(sqlite(tmp_path)):
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> PyFuncModel:
    return load_model(str(logged(sensitive_model(), tmp_path_factory.mktemp("logged"), example=example())))


def infer(rows: list[Row], schema: pa.Schema) -> list[Row]:
    """What the step writes beside the rows of a table: first half of it, then the rest, which is appended."""
    with tempfile.TemporaryDirectory() as folder:
        lake, half = Lake(Path(folder)), len(rows) // 2
        lake.write(rows[:half], schema=schema)
        lake.infer(scorer=sensitive_model())
        lake.write(rows[half:], schema=schema, mode="append")
        lake.infer(scorer=sensitive_model())
        by_run = sorted(lake.predictions(), key=lambda row: int(row["run_id"]))
        scored = ("prediction", "probability", "probabilities")
        return [{**{name: row[name] for name in scored}, "probabilities": dict(row["probabilities"])} for row in by_run]


def served(model: PyFuncModel, body: dict[str, Any]) -> list[Row]:
    """What the server makes of a request's body."""
    response = scoring_server.invocations(json.dumps(body), JSON, model, model.metadata.get_input_schema())
    assert response.status == 200, response.response
    rows: list[Row] = json.loads(response.response)["predictions"]
    return rows


@settings(QUICK, max_examples=20)
@given(rows=ROWS, columns=COLUMNS)
def test_columns_that_are_missing_more_or_in_another_order_change_no_answer(
    model: PyFuncModel, rows: list[Row], columns: list[str]
) -> None:
    """To the last bit, and the same as with the columns in the order of the model, with all that are optional."""
    schema = pa.schema([(name, {**TYPES, **EXTRA}[name]) for name in columns])
    rows = [{name: row[name] for name in columns} for row in rows]
    frame = pa.Table.from_pylist(rows, schema=schema).to_pandas()
    text = as_json(rows)
    expected = infer(rows, schema)
    assert answers(model, frame) == expected
    assert answers(model, frame.reindex(columns=list(TYPES))) == expected
    data = [[row[name] for name in columns] for row in text]
    assert served(model, {"dataframe_split": {"columns": columns, "data": data}}) == expected
    if rows:  # else these bodies name no columns
        assert served(model, {"dataframe_records": text}) == expected
        assert served(model, {"inputs": {name: [row[name] for row in text] for name in columns}}) == expected
