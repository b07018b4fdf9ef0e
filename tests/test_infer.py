"""Predictions as columns of a table: the rows as they were, and the model's word on each."""

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from mlflow.exceptions import MlflowException
from small import fit, flower_parts, flowers, flowers_config, flowers_model, model_of

from steps.core.errors import TableUnfit
from steps.core.models.inference import check_features, count_unseen
from steps.core.models.predictions import add_predictions, output_schema
from steps.core.models.scorer import Scorer
from steps.core.models.split import Parts
from steps.core.tables import location, snapshot

ROWS = pa.Table.from_pandas(flowers(40, seed=3), preserve_index=False)
ADDED = ["prediction", "probability", "probabilities"]


def model_with_classes(*labels: str | int | bool) -> Scorer:
    """The flowers' model with other labels for its three species, or for two of them."""
    known = dict(zip(("setosa", "versicolor", "virginica"), labels, strict=False))
    parts = flower_parts()
    relabelled = Parts(
        **{
            name: (part := getattr(parts, name)[getattr(parts, name)["species"].isin(known)]).assign(
                species=part["species"].map(known)
            )
            for name in ("train", "validation", "test")
        }
    )
    kind = {str: "string", int: "long", bool: "boolean"}[type(labels[0])]
    columns = {**flowers_config().model_dump()["columns"], "species": {"type": kind}}
    return fit(flowers_config(columns=columns), relabelled)


def test_the_rows_stay_as_they_are_and_in_their_order() -> None:
    assert add_predictions(ROWS, flowers_model()).select(ROWS.column_names).equals(ROWS)


def test_each_row_has_what_the_model_says_of_it() -> None:
    added = add_predictions(ROWS, flowers_model())
    expected = flowers_model().predict(None, ROWS.to_pandas())
    assert added["prediction"].to_pylist() == expected["prediction"].tolist()
    assert added["probability"].to_pylist() == expected["probability"].tolist()
    assert [dict(row) for row in added["probabilities"].to_pylist()] == expected["probabilities"].tolist()


def test_a_batch_is_its_rows_one_by_one() -> None:
    alone = pa.concat_tables(add_predictions(ROWS.slice(i, 1), flowers_model()) for i in range(len(ROWS)))
    assert add_predictions(ROWS, flowers_model()).equals(alone)


def test_the_schema_is_known_before_the_first_row() -> None:
    made = add_predictions(ROWS, flowers_model())
    assert made.schema.equals(output_schema(ROWS.schema, flowers_model()))
    assert made.schema.names == [*ROWS.column_names, *ADDED]


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (("a", "b", "c"), pa.string()),
        ((3, 7, 10), pa.int64()),
        ((False, True), pa.bool_()),
    ],
)
def test_predictions_are_in_the_type_of_the_targets_own_labels(
    labels: tuple[str | int | bool, ...], kind: pa.DataType
) -> None:
    model = model_with_classes(*labels)
    made = add_predictions(ROWS, model)["prediction"]
    assert made.type == kind
    assert set(made.to_pylist()) == set(labels) == set(model.schema.classes)


def test_the_target_and_other_columns_may_be_missing_from_the_table() -> None:
    bare = ROWS.select(["color", "wild", "petals", "petal_length"])
    assert add_predictions(bare, flowers_model())["prediction"].equals(
        add_predictions(ROWS, flowers_model())["prediction"]
    )


def test_missing_values_of_every_type_are_scored() -> None:
    """F03: a whole number without nulls in training has nulls at scoring."""
    kinds = {"petal_length": pa.float64(), "petals": pa.int64(), "wild": pa.bool_(), "color": pa.string()}
    empty = pa.table({name: pa.array([None, None], kind) for name, kind in kinds.items()})
    assert add_predictions(empty, flowers_model())["prediction"].null_count == 0


def test_one_missing_value_leaves_the_predictions_of_the_other_rows() -> None:
    hole = pa.Table.from_pylist([dict.fromkeys(ROWS.column_names), *ROWS.to_pylist()], schema=ROWS.schema)
    assert add_predictions(hole, flowers_model()).slice(1).equals(add_predictions(ROWS, flowers_model()))


def test_a_table_without_rows_has_its_new_columns() -> None:
    made = add_predictions(ROWS.slice(0, 0), flowers_model())
    assert made.num_rows == 0
    assert made.schema.equals(output_schema(ROWS.schema, flowers_model()))


def test_the_given_table_and_model_are_not_changed() -> None:
    model = model_of(flowers_model().booster, flowers_model().schema)
    before = bytes(model.booster.save_raw("ubj"))
    add_predictions(ROWS, model)
    assert ROWS.column_names == flowers(1).columns.tolist()
    assert bytes(model.booster.save_raw("ubj")) == before


def test_texts_that_training_did_not_see_are_counted_over_the_whole_table(tmp_path: Path) -> None:
    """F02: they count as missing, and the run says how many there were."""
    given = pa.Table.from_pandas(flowers(50).assign(color=["green", "red", "Red", None, "blue"] * 10))
    write_deltalake(str(tmp_path / "flowers"), given)
    table = snapshot.open(location.TableUri(str(tmp_path / "flowers"), 0))
    assert count_unseen(table, flowers_model().schema) == {"color": 20}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"color": [7, 8]}, "row 0, column 'color': 7 is not text, and 1 more"),
        ({"petals": [3.0, 3.5]}, "row 1, column 'petals': 3.5 is not a whole number"),
        ({"petals": ["3", None]}, "row 0, column 'petals': '3' is not a whole number"),
        ({"wild": ["true", "false"]}, "row 0, column 'wild': 'true' is not true, false, 1 or 0"),
    ],
)
def test_a_table_with_a_column_of_another_type_is_refused(
    tmp_path: Path, values: dict[str, list[object]], reason: str
) -> None:
    write_deltalake(tmp_path / "t", flowers(2).assign(**values))
    with pytest.raises(MlflowException, match=reason):
        count_unseen(snapshot.open(location.TableUri(str(tmp_path / "t"))), flowers_model().schema)


def test_a_column_of_another_type_whose_values_fit_is_taken(tmp_path: Path) -> None:
    plain = flowers(50)
    other = plain.assign(petals=plain["petals"].astype(float), wild=plain["wild"].astype("int32"))
    write_deltalake(tmp_path / "t", other)
    assert count_unseen(snapshot.open(location.TableUri(str(tmp_path / "t"))), flowers_model().schema) == {}
    made, expected = (add_predictions(pa.Table.from_pandas(rows), flowers_model()) for rows in (other, plain))
    assert made.select(ADDED).equals(expected.select(ADDED))


def test_a_table_of_predictions_is_not_predicted_again(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "t", add_predictions(ROWS, flowers_model()))
    with pytest.raises(TableUnfit, match="has a column 'prediction', which predictions have\n"):
        check_features(snapshot.open(location.TableUri(str(tmp_path / "t"))), flowers_model().schema)
