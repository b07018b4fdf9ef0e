"""What a run of infer scores: the whole table, the rows of files that were added, or what came or changed.

The newest version of the predictions has one row for each row of the table's version that was scored last, and one for
each row that the table had before, marked by `deleted_at`. A prediction is a pure function of the row's features, the
model and the code that scores, so it is kept where all of these are the same, and made again everywhere else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from steps.core import config
from steps.core.models import predictions, scorer
from steps.core.models.loading import LoadedModel
from steps.core.tables import data_files, log, row_hash, snapshot
from steps.core.tables.data_files import DataFiles
from steps.core.tables.location import TableUri, parse_table
from steps.core.tables.snapshot import Snapshot

# Keys of a commit's metadata, beside those of StepRun.made_of(): a digest of the model, the environment and the code,
# and Delta's id of the table.
SCORED_BY, TABLE_ID = "scored_by", "table.id"
LOOKED_AT = 100  # versions of the predictions, for the newest that is of this table

type Mode = Literal["new", "all"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`rows` are read and, unless an earlier prediction of theirs is kept, scored; the commit comes after `newest`.

    With `earlier`, these predictions are matched with the rows: those of rows that the table has no more are marked,
    and where `keeps`, those of rows that are as they were are kept.
    """

    newest: Snapshot | None
    rows: Snapshot | DataFiles
    earlier: Snapshot | None = None
    keeps: bool = False

    @property
    def mode(self) -> Literal["append", "overwrite"]:
        """How its rows are committed."""
        return "append" if isinstance(self.rows, DataFiles) else "overwrite"

    @property
    def is_for_workers(self) -> bool:
        """Whether Spark's workers carry it out: rows that are matched with earlier ones are held all at once."""
        if self.earlier is None:
            return self.rows.is_for_workers
        return not (self.rows.fits_in_memory and self.earlier.fits_in_memory)


@dataclass(frozen=True, kw_only=True)
class Columns:
    """By which columns rows and their earlier predictions are matched.

    `common` are in both, in one type, and `new` in the rows only. A row is known by `identity`: the key, else all that
    are common, of which equal rows are told apart by their number. Its prediction follows from what the model reads:
    `read` are in both, `gained` in the rows only and `dropped` in the predictions only. So a row is as it was where the
    first are equal, the second missing in it, and the third in its prediction, whatever its label is now.
    """

    common: Sequence[str]
    new: Sequence[str]
    identity: Sequence[str]
    read: Sequence[str]
    gained: Sequence[str]
    dropped: Sequence[str]

    @property
    def is_by_key(self) -> bool:
        """Whether a row is known by a key, not by all of its values."""
        return self.identity != self.common


@dataclass(frozen=True, kw_only=True)
class Work:
    """A plan with what carries it out. `origin` are the values of predictions.ORIGIN for what is scored now."""

    plan: Plan
    model: LoadedModel
    key: Sequence[str]
    origin: Mapping[str, Any]

    @property
    def table(self) -> Snapshot:
        """The version whose rows are to have predictions."""
        rows = self.plan.rows
        return rows if isinstance(rows, Snapshot) else rows.table

    @property
    def now(self) -> datetime:
        """When rows that have gone are marked."""
        now: datetime = self.origin["scored_at"]
        return now

    @property
    def schema(self) -> pa.Schema:
        """Of the predictions."""
        return predictions.stored_schema(self.plan.rows.schema, self.model.scorer)

    @property
    def columns(self) -> Columns:
        """By which rows are matched with earlier predictions."""
        assert self.plan.earlier is not None
        features = self.model.schema.features
        return matching_columns(self.plan.rows.schema, self.plan.earlier.schema, key=self.key, features=features)


def plan(
    table: Snapshot,
    newest: Snapshot | None,
    *,
    scored_by: str,
    mode: Mode,
    key: Sequence[str] = (),
) -> Plan:
    """What to do for a version of a table when `newest` is the newest version of its predictions, None for none yet.

    `scored_by` is the digest that their commit would have under SCORED_BY.
    """
    earlier = _newest_of(table, newest) if newest else None
    if earlier is None or not _has_any_column_of(earlier, table):
        return Plan(newest=newest, rows=table)
    keeps = mode == "new" and earlier.commit.metadata.get(SCORED_BY) == scored_by
    before = _table_before(table, earlier)
    added = data_files.added_since(before, table) if before else None
    if before and added:  # no row has gone since then
        has_marked = earlier.row_count != before.row_count
        if not keeps and not has_marked:
            return Plan(newest=newest, rows=table)
        is_appended = keeps and earlier is newest and _has_columns_of(earlier, table)
        if is_appended and not (has_marked and _may_return(added, earlier, key=key)):
            return Plan(newest=newest, rows=added)
    return Plan(newest=newest, rows=table, earlier=earlier, keeps=keeps)


def matching_columns(
    table: pa.Schema, earlier: pa.Schema, *, key: Sequence[str], features: Sequence[scorer.Feature]
) -> Columns:
    """How rows with the columns `table` are matched with predictions whose columns are `earlier`."""
    common = [name for name in table.names if has_column(earlier, table.field(name))]
    new = [name for name in table.names if name not in common]
    names = [feature.name for feature in features]
    is_known_by_key = bool(key) and set(key) <= set(common)
    return Columns(
        common=common,
        new=new,
        identity=list(key) if is_known_by_key else common,
        read=[name for name in names if name in common],
        gained=[name for name in names if name in new],
        dropped=[name for name in names if name in earlier.names and name not in common],
    )


def has_column(schema: pa.Schema, column: pa.Field) -> bool:
    """Whether there is a column of this name and of this type to Delta, which does not count what may be null in it."""
    return column.name in schema.names and _in_words(schema.field(column.name).type) == _in_words(column.type)


def _newest_of(table: Snapshot, newest: Snapshot) -> Snapshot | None:
    """The newest version of predictions that another table's are not, with all of its files."""
    for version in newest.logged_versions[:LOOKED_AT]:
        metadata = log.commit(newest.path, version).metadata
        of_table = metadata.get("table")
        is_same = of_table is None or parse_table(of_table).path == table.path
        if is_same or metadata.get(TABLE_ID) == str(table.delta_table.metadata().id):
            found = newest if version == newest.version else snapshot.find(TableUri(newest.path, version))
            return found if found and found.is_readable else None
    return None


def _table_before(table: Snapshot, earlier: Snapshot) -> Snapshot | None:
    """The version of the table of whose rows `earlier` is, None where it is not known, or no longer in the log."""
    metadata = earlier.commit.metadata
    if "table" not in metadata:
        return None
    before = snapshot.find(TableUri(table.path, parse_table(metadata["table"]).version))
    return before if before and before.identity == metadata.get("table.identity") else None


def _has_any_column_of(earlier: Snapshot, table: Snapshot) -> bool:
    """Whether rows of the table may be those that were predicted: not where another source has its name now."""
    stored = _stored(earlier)
    return any(has_column(earlier.schema, column) for column in table.schema if column.name in stored)


def _has_columns_of(earlier: Snapshot, table: Snapshot) -> bool:
    """Whether rows of the table can be added to the predictions: the rest of their columns follows from the model."""
    is_whole = "deleted_at" in earlier.schema.names and _stored(earlier) == table.schema.names
    return is_whole and all(has_column(earlier.schema, column) for column in table.schema)


def _may_return(added: DataFiles, earlier: Snapshot, *, key: Sequence[str]) -> bool:
    """Whether a row that was added may be one that is marked as deleted, so that its mark is to be removed."""
    if not added.fits_in_memory:
        return True
    identity = list(key) if set(key) <= set(added.schema.names) and key else added.schema.names
    hashes = np.unique(row_hash.first_hash(added.read(identity)))
    for batch in data_files.with_values(earlier, "deleted_at").batches([*identity, "deleted_at"]):
        marked = pa.Table.from_batches([batch.filter(pc.is_valid(batch["deleted_at"]))]).select(identity)
        if row_hash.are_among(row_hash.first_hash(marked), hashes).any():
            return True
    return False


def _stored(earlier: Snapshot) -> list[str]:
    """The columns that are the rows' own."""
    return [name for name in earlier.schema.names if name not in config.PREDICTION_COLUMNS]


def _in_words(kind: pa.DataType) -> str:
    return str(kind).replace(" not null", "")
