"""Predict the rows of a table: whether the model fits it, and what writes its predictions."""

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime

import pyarrow as pa

from steps.core import config
from steps.core.errors import TableUnfit
from steps.core.models import predictions, scorer
from steps.core.tables import commit
from steps.core.tables.snapshot import Snapshot

STORED_TYPES = {"double": pa.float64(), "long": pa.int64(), "boolean": pa.bool_(), "string": pa.string()}


def check_features(table: Snapshot, schema: scorer.Schema) -> None:
    """TableUnfit when the table lacks a column that the model needs, or holds predictions already."""
    present = table.schema.names
    if taken := [name for name in present if name.lower() in config.PREDICTION_COLUMNS]:
        raise TableUnfit(
            str(table),
            [f"has a column {name!r}, which predictions have" for name in taken],
            expected="a table of rows to predict, not of predictions",
            next="pass the table that these were made of",
        )
    if absent := [feature.name for feature in schema.features if feature.name not in present]:
        raise TableUnfit(
            str(table),
            [f"has no column {name!r}, which the model needs" for name in absent],
            expected=f"the columns that the model was trained on; it has {', '.join(present)}",
            next="ingest a table with these columns, or pass another model",
        )


def count_unseen(table: Snapshot, schema: scorer.Schema) -> Counter[str]:
    """How many values of each text column the model takes as missing, because they were not seen in training.

    MlflowException when a column has another type than ingest gives it, and a value in it that the model refuses.
    """
    looked_at = [
        feature
        for feature in schema.features
        if feature.levels is not None or table.schema.field(feature.name).type != STORED_TYPES[feature.type]
    ]
    counts: Counter[str] = Counter()
    for batch in table.batches([feature.name for feature in looked_at]) if looked_at else ():
        counts.update(scorer.unseen(batch.to_pandas(), looked_at))
    return counts


def write_in_memory(
    table: Snapshot, model: scorer.Scorer, folder: str, *, beside: Mapping[str, str | datetime]
) -> None:
    """A Parquet file in `folder`: the rows of `table`, the prediction of each, and the values `beside` them."""
    rows = predictions.add_predictions(table.read(table.schema.names), model)
    for name, value in beside.items():
        kind = pa.string() if isinstance(value, str) else pa.timestamp("us", "UTC")
        rows = rows.append_column(name, pa.repeat(pa.scalar(value, kind), len(rows)))
    commit.save(rows, folder)


def writer_for(table: Snapshot) -> Callable[..., None]:
    """What writes the predictions of a table: this process, or Spark's workers when it is too large for one."""
    if table.fits_in_memory:
        return write_in_memory
    from steps.core.models import spark_inference  # PySpark takes half a second, which small tables do not pay

    return spark_inference.write


def unfit(table: Snapshot, schema: scorer.Schema, reason: str) -> TableUnfit:
    return TableUnfit(
        str(table),
        [reason],
        expected=", ".join(f"{feature.name} {feature.type}" for feature in schema.features),
        next="ingest it with the config that the model was trained by, or pass another table or model",
    )
