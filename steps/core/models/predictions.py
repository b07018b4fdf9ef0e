"""The rows of a table with their predictions, as Arrow tables: in this process, or in one of Spark's workers."""

from __future__ import annotations  # names of this project in them are nothing to a cluster's workers

import pyarrow as pa

from steps.core.models import scorer


def add_predictions(rows: pa.Table, model: scorer.Scorer) -> pa.Table:
    """`rows` with the predictions of `model`, in the types of output_schema()."""
    names = [feature.name for feature in model.schema.features]
    predicted = model.predict(None, rows.select(names).to_pandas())
    for field in list(output_schema(rows.schema, model))[len(rows.schema) :]:
        rows = rows.append_column(field, pa.array(predicted[field.name].tolist(), field.type))
    return rows


def output_schema(rows: pa.Schema, model: scorer.Scorer) -> pa.Schema:
    """`rows` and the three columns that a model adds; `prediction` has the type of the target's own labels."""
    kinds = {str: pa.string(), int: pa.int64(), bool: pa.bool_()}
    return pa.schema(
        [
            *rows,
            pa.field("prediction", kinds[type(model.schema.classes[0])]),
            pa.field("probability", pa.float64()),
            pa.field("probabilities", pa.map_(pa.string(), pa.float64())),
        ]
    )
