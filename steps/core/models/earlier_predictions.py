"""Match the rows of a table with their earlier predictions, in memory. spark_inference.py does the same by joins."""

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from steps.core.models import predictions
from steps.core.models.scoring_plan import Columns, has_column
from steps.core.tables import row_hash

# In which order several predictions of equal rows are taken, as nothing else tells those apart: by these columns, and
# whether each is ascending. Missing values are the last.
ORDER = {"is_deleted": True, "has_dropped": True, "scored_at": False, "run_id": True, "deleted_at": True}


def joined(
    rows: pa.Table, earlier: pa.Table, *, columns: Columns, keeps: bool, schema: pa.Schema, now: datetime
) -> pa.Table:
    """The rows of a version of predictions, of `schema`: those of the table in their order, then those that it has not.

    Each row of the table has its earlier prediction where that is kept, else none. Those that it has no more have the
    last one and `deleted_at`: when they were marked before, else `now`. A value whose column has another type now is
    missing there.
    """
    before = _described(earlier, columns)
    places = _places(rows, before, columns)
    names = rows.schema.names
    kept = pa.array(places, mask=~(_is_unchanged(rows, earlier, before, places, columns) & keeps))
    live = {**{name: rows[name] for name in names}, **_taken(earlier, schema.names[len(names) :], kept, schema)}
    gone = earlier.filter(pa.array(_has_gone(earlier, before, places, columns)))
    every = pa.array(np.arange(len(gone)))
    marked = {
        **_taken(gone, schema.names, every, schema, without=columns.new),
        "deleted_at": _marked_at(gone, now),
    }
    return pa.concat_tables([pa.table(part, schema) for part in (live, marked)])


def _places(rows: pa.Table, before: pd.DataFrame, columns: Columns) -> np.ndarray:
    """The place of the earlier prediction of each row, -1 for none. Of equal rows, those without a value in a gained
    column come first, as theirs can be kept."""
    known = _identities(rows, columns.identity).assign(is_wider=_is_any_there(rows, columns.gained))
    known["number"] = known.sort_values("is_wider", kind="stable").groupby(["first", "second"]).cumcount()
    pairs = known.merge(before, on=["first", "second", "number"], how="left")
    places: np.ndarray = pairs["place"].fillna(-1).to_numpy(dtype=np.int64)
    return places


def _is_unchanged(
    rows: pa.Table, earlier: pa.Table, before: pd.DataFrame, places: np.ndarray, columns: Columns
) -> np.ndarray:
    """Where what the model reads of a row is as it was when it was scored, and the row was not deleted since."""
    unchanged: np.ndarray = (places >= 0) & ~_is_any_there(rows, columns.gained)
    unchanged[unchanged] = ~(before["is_deleted"] | before["has_dropped"]).to_numpy()[places[unchanged]]
    if columns.is_by_key and columns.read:
        pairs = zip(
            row_hash.two_hashes(rows.select(columns.read).take(pa.array(np.flatnonzero(unchanged)))),
            row_hash.two_hashes(earlier.select(columns.read).take(pa.array(places[unchanged]))),
            strict=True,
        )
        unchanged[unchanged] = np.logical_and.reduce([one == other for one, other in pairs])
    return unchanged


def _has_gone(earlier: pa.Table, before: pd.DataFrame, places: np.ndarray, columns: Columns) -> np.ndarray:
    """Where a prediction is of a row that the table has no more; of one key the last."""
    has_gone: np.ndarray = ~np.isin(np.arange(len(earlier)), places)
    if columns.is_by_key:
        is_whole = np.logical_and.reduce([pc.is_valid(earlier[name]).to_numpy() for name in columns.identity])
        has_gone &= (before["number"].to_numpy() == 0) | ~is_whole
    return has_gone


def _described(earlier: pa.Table, columns: Columns) -> pd.DataFrame:
    """Of each prediction what it is matched by, its place, and its number among those of equal rows."""
    described = _identities(earlier, columns.identity).assign(
        place=np.arange(len(earlier)),
        is_deleted=_is_any_there(earlier, ["deleted_at"]),
        has_dropped=_is_any_there(earlier, columns.dropped),
        **{
            name: earlier[name].to_pandas() if name in earlier.schema.names else None
            for name in ("scored_at", "run_id", "deleted_at")
        },
    )
    ordered = described.sort_values(list(ORDER), ascending=list(ORDER.values()))
    return described.assign(number=ordered.groupby(["first", "second"]).cumcount())


def _identities(rows: pa.Table, columns: Sequence[str]) -> pd.DataFrame:
    first, second = row_hash.two_hashes(rows.select(columns))
    return pd.DataFrame({"first": first, "second": second})


def _is_any_there(rows: pa.Table, columns: Sequence[str]) -> np.ndarray:
    """Where a row has a value in one of these columns, of which a table may have none."""
    there = np.zeros(len(rows), dtype=bool)
    for name in columns:
        if name in rows.schema.names:
            there |= pc.is_valid(rows[name]).to_numpy()
    return there


def _taken(
    rows: pa.Table, names: Sequence[str], places: pa.Array, schema: pa.Schema, *, without: Sequence[str] = ()
) -> dict[str, pa.ChunkedArray]:
    """Columns of the rows at these places; missing where a place is, or where the column is not there in its type."""
    taken = {}
    for column in map(schema.field, names):
        is_there = column.name not in without and has_column(rows.schema, column)
        values = rows[column.name].take(places).cast(column.type) if is_there else pa.nulls(len(places), column.type)
        taken[column.name] = values
    return taken


def _marked_at(gone: pa.Table, now: datetime) -> pa.ChunkedArray:
    kind = predictions.UTC_MICROSECONDS
    before = gone["deleted_at"] if "deleted_at" in gone.schema.names else pa.nulls(len(gone), kind)
    return pc.fill_null(before, pa.scalar(now, kind))
