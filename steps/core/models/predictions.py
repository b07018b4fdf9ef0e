"""The rows of a table with their predictions, as Arrow tables: in this process, or in one of Spark's workers."""

from __future__ import annotations  # names of this project in them are nothing to a cluster's workers

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from steps.core.columns import EXACT_DOUBLE
from steps.core.models import scorer

UTC_MICROSECONDS = pa.timestamp("us", "UTC")
STORED_TYPES = {  # by the type of a feature
    **{"double": pa.float64(), "long": pa.int64(), "boolean": pa.bool_(), "string": pa.string()},
    **{"date": pa.date32(), "timestamp": UTC_MICROSECONDS},
}
ORIGIN = (
    pa.schema(  # of a prediction; `deleted_at` is when its row was found to be no longer in the table, else missing
        [
            *(pa.field(name, pa.string()) for name in ("model_uri", "table_uri", "run_id")),
            *(pa.field(name, UTC_MICROSECONDS) for name in ("scored_at", "deleted_at")),
        ]
    )
)


def to_frame(rows: pa.Table | pa.RecordBatch) -> pd.DataFrame:
    """`rows` in pandas, with whole numbers as they are: beside missing ones pandas has doubles, which hold not all."""
    may_round = [column for column in rows.columns if pa.types.is_integer(column.type) and column.null_count]
    is_rounded = any((pc.max(pc.abs(column)).as_py() or 0) > EXACT_DOUBLE for column in may_round)
    return rows.to_pandas(integer_object_nulls=is_rounded)


def joined(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """One frame of those of to_frame() that have rows, as their types differ from those of none. Whole numbers that no
    double holds stay as they are, also where another frame has doubles in their column."""
    frames = [rows for rows in frames if len(rows)] or frames[:1]
    for name in frames[0].columns:
        columns = [rows[name] for rows in frames]
        kinds = {values.dtype.kind for values in columns}
        is_large = "f" in kinds and any(v.dtype.kind == "i" and v.abs().max() > EXACT_DOUBLE for v in columns)
        if is_large:
            frames = [rows.astype({name: object}) for rows in frames]
    return pd.concat(frames, ignore_index=True)


def add_predictions(rows: pa.Table, model: scorer.Scorer) -> pa.Table:
    """`rows` with the predictions of `model`, in the types of output_schema()."""
    names = [feature.name for feature in model.schema.features if feature.name in rows.schema.names]
    frame = to_frame(rows.select(names))
    for field, values in zip(
        list(output_schema(rows.schema, model))[len(rows.schema) :], _predicted(frame, model), strict=True
    ):
        rows = rows.append_column(field, values.cast(field.type))
    return rows


def _predicted(rows: pd.DataFrame, model: scorer.Scorer) -> list[pa.Array]:
    """What Scorer.predict() answers, without a Python object for each row."""
    if model.schema.task == "regression":
        return [pa.array(model.values(rows))]
    probabilities = model.probabilities(rows)
    best = probabilities.argmax(axis=1)
    count, classes = probabilities.shape
    labels = pa.array([str(label) for label in model.schema.classes]).take(pa.array(np.tile(np.arange(classes), count)))
    offsets = pa.array(np.arange(count + 1, dtype=np.int32) * classes)
    return [
        pa.array(model.schema.classes).take(pa.array(best)),
        pa.array(probabilities[np.arange(count), best]),
        pa.MapArray.from_arrays(offsets, labels, pa.array(probabilities.ravel())),
    ]


def complete(rows: pa.Table, model: scorer.Scorer) -> pa.Table:
    """`rows` of stored_schema(), with the predictions of `model` where is_to_score(); the others stay as they are."""
    to_score = is_to_score(rows)
    names = [name for name in rows.schema.names if name not in stored_schema(pa.schema([]), model).names]
    scored = add_predictions(rows.select(names).filter(to_score), model)
    for name in ORIGIN.names:
        scored = scored.append_column(rows.schema.field(name), rows[name].filter(to_score))
    others = rows.filter(pc.invert(to_score))
    places = pa.chunked_array([pc.indices_nonzero(to_score), pc.indices_nonzero(pc.invert(to_score))])
    return pa.concat_tables([scored.cast(rows.schema), others]).take(pc.array_sort_indices(places.combine_chunks()))


def is_to_score(rows: pa.Table) -> pa.ChunkedArray:
    """Where rows have no prediction of an earlier run, and are not marked as deleted."""
    return pc.and_(pc.is_null(rows["run_id"]), pc.is_null(rows["deleted_at"]))


def stored_schema(rows: pa.Schema, model: scorer.Scorer) -> pa.Schema:
    """The columns of a table of predictions: those of its rows, what a model adds, and where that is from. All may be
    missing, as those of rows that the table had before are."""
    return pa.schema([field.with_nullable(True) for field in (*output_schema(rows, model), *ORIGIN)])


def output_schema(rows: pa.Schema, model: scorer.Scorer) -> pa.Schema:
    """`rows` and the columns that a model adds: three, whose `prediction` has the type of the target's own labels; of
    a regression `prediction` alone, a double."""
    if model.schema.task == "regression":
        return pa.schema([*rows, pa.field("prediction", pa.float64())])
    kinds = {str: pa.string(), int: pa.int64(), bool: pa.bool_()}
    return pa.schema(
        [
            *rows,
            pa.field("prediction", kinds[type(model.schema.classes[0])]),
            pa.field("probability", pa.float64()),
            pa.field("probabilities", pa.map_(pa.string(), pa.float64())),
        ]
    )
