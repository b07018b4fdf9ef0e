"""Rows that were scored as the request log has them, handed on before they are answered."""

import asyncio
import datetime
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from steps.core.errors import TableUnfit
from steps.core.models import predictions, scorer
from steps.core.models.predictions import STORED_TYPES
from steps.core.models.scorer import Feature
from steps.core.serving.request_body import Rows
from steps.core.serving.request_log import RequestLog
from steps.core.serving.served_model import Scored, ServedModel
from steps.core.sources import json_objects

OF_THE_REQUEST = ("model_uri", "request_id", "scored_at", "row")  # columns of the log beside the model's own
LARGEST = 2**63 - 1  # the scorer takes 2**63, which as a double is the same
INLINE_ROWS = 16  # of a request that is handed on in the event loop: a tenth of a millisecond and more


class Recorder:
    """Hands what was scored on to a request log, before it is answered."""

    def __init__(self, log: RequestLog) -> None:
        self._log = log
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scored rows")

    async def add(self, scored: Scored, *, request_id: str) -> None:
        """Take the rows of one request; other requests go on meanwhile where it has many."""
        scored_at = datetime.datetime.now(datetime.UTC)
        if len(scored) <= INLINE_ROWS:
            self._add(scored, request_id, scored_at)
        else:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._add, scored, request_id, scored_at)

    def state(self) -> dict[str, Any]:
        """How the log goes, for /health."""
        return self._log.state()

    def close(self) -> None:
        """Hand on what was taken, and close the log."""
        self._thread.shutdown()
        self._log.close()

    def _add(self, scored: Scored, request_id: str, scored_at: datetime.datetime) -> None:
        try:
            self._log.add(table_of(scored, request_id=request_id, scored_at=scored_at))
        except Exception as err:  # an answer is not lost for its record
            self._log.drop(len(scored), reason=repr(err))


def check_names(model: ServedModel) -> None:
    """TableUnfit for a model whose features have names of columns that the log needs itself, in any case: Delta does
    not tell them apart."""
    if taken := sorted(name for name in model.feature_names if name.lower() in OF_THE_REQUEST):
        raise TableUnfit(
            "the request log",
            [f"has a column {name.lower()!r} of its own, and {model.uri} a feature {name!r}" for name in taken],
            expected="features with other names, for a server that logs its requests",
            next="rename them in the config and train again, or serve without `log`",
        )


def table_of(scored: Scored, *, request_id: str, scored_at: datetime.datetime) -> pa.Table:
    """The columns of the requests table: the model's features, its predictions, and where they are from."""
    schema, count = scored.model.schema, len(scored)
    columns = {feature.name: _feature_column(scored.rows, feature, count) for feature in schema.features}
    rows = pa.table(columns)
    output = predictions.output_schema(pa.schema([]), scored.model.scorer)
    for field in output:
        rows = rows.append_column(field, pa.array(scored.answers[field.name], field.type))
    origin = [
        pa.array([scored.model.uri] * count, pa.string()),
        pa.array([request_id] * count, pa.string()),
        pa.array([scored_at] * count, predictions.UTC_MICROSECONDS),
        pa.array(range(count), pa.int64()),
    ]
    for name, values in zip(OF_THE_REQUEST, origin, strict=True):
        rows = rows.append_column(name, values)
    return rows


def _feature_column(rows: Rows, feature: Feature, count: int) -> pa.Array:
    """A feature's values, which the scorer has taken, in its type; all missing where the column is absent."""
    if feature.name not in rows:
        return pa.nulls(count, STORED_TYPES[feature.type])
    values = rows[feature.name]
    objects = values.to_numpy(dtype=object) if isinstance(values, pd.Series) else values
    is_present = scorer.present(values, feature)
    if feature.type in ("date", "timestamp"):
        moments = np.full(count, scorer.NO_MOMENT)
        moments[is_present] = [scorer.moment(value, feature) for value in objects[is_present]]
        unit = "datetime64[D]" if feature.type == "date" else "datetime64[us]"
        return pa.array(moments.astype(unit)).cast(STORED_TYPES[feature.type])
    convert = CONVERTED[feature.type]
    values = [
        convert(value) if is_there and not scorer.is_blank(value) else None
        for value, is_there in zip(objects, is_present, strict=True)
    ]
    return pa.array(values, STORED_TYPES[feature.type])


def _long(value: Any) -> int:
    return min(int(value), LARGEST)


CONVERTED: dict[str, Callable[[Any], Any]] = {
    **{"double": float, "long": _long, "boolean": bool},
    "string": json_objects.without_surrogates,  # which JSON may hold and UTF-8 may not
}
