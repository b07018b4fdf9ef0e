"""Predict the rows of a table: whether the model fits it, and what writes its predictions."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

import pyarrow.compute as pc
from mlflow.exceptions import MlflowException

from steps.core.errors import TableBusy, TableChanged, TableUnfit
from steps.core.models import features, local_inference, predictions, scorer, scoring_plan
from steps.core.models.loading import LoadedModel
from steps.core.models.predictions import STORED_TYPES
from steps.core.models.scoring_plan import SCORED_BY, Mode, Plan, Work
from steps.core.tables import collation, commit, conditional
from steps.core.tables.conditional import Committed
from steps.core.tables.data_files import DataFiles
from steps.core.tables.location import TableUri
from steps.core.tables.snapshot import Snapshot

PLANS = 20  # each is made again when another run has written predictions meanwhile
LATER_CODE = ("steps/core/models/spark_inference.py",)  # is imported by what scores a large table, and part of it


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a run has done: of the rows of `table`, how many it has `scored`. `unseen` counts, in the rows that it has
    read, the values of each column that the model takes as missing.

    `plan` is None where the newest version of the predictions, which is `committed` then, had all of it already.
    """

    table: Snapshot
    committed: Committed
    plan: Plan | None
    scored: int
    unseen: Mapping[str, int]

    @property
    def metrics(self) -> dict[str, float]:
        """How many rows there are, were scored and were kept, for the run."""
        rows = self.table.row_count
        return {
            "rows": rows,
            "rows_scored": self.scored,
            "rows_kept": rows - self.scored,
            "rows_deleted": self.committed.table.row_count - rows,
            **{f"unseen.{name}": count for name, count in self.unseen.items()},
        }

    def lines(self) -> list[str]:
        """What the user is told, where not simply all rows were scored."""
        rows, kept, deleted = (self.metrics[name] for name in ("rows", "rows_kept", "rows_deleted"))
        if self.plan is None:
            found = self.committed.table
            return [f"{found.uri.name}@v{found.version} has the predictions of all {rows:,} rows already{_run(found)}"]
        told = []
        if kept:
            earlier = self.plan.earlier or self.plan.newest
            assert earlier is not None
            told.append(f"{kept:,} kept from {earlier.uri.name}@v{earlier.version}{_run(earlier)}")
        if deleted:
            told.append(f"{deleted:,} marked as deleted")
        if not told:
            return []
        which = "new or changed of" if self.plan.earlier else "new of"
        scored = f"{self.scored:,} {which} {rows:,} rows" if kept else f"all {rows:,} rows"
        return [f"scored {'; '.join([scored, *told])}"]


def check_features(table: Snapshot, schema: scorer.Schema) -> None:
    """TableUnfit when the table lacks a column that the model needs, or holds predictions already."""
    features.refuse_predictions(table)
    present = table.schema.names
    needed = [feature.name for feature in schema.features if not feature.optional]
    if absent := [name for name in needed or [feature.name for feature in schema.features] if name not in present]:
        raise TableUnfit(
            str(table),
            [f"has no column {name!r}, which the model needs" for name in absent],
            expected=f"the columns that the model was trained on; it has {', '.join(present)}",
            next="ingest a table with these columns, or pass another model",
        )


def count_unseen(table: Snapshot | DataFiles, schema: scorer.Schema) -> Counter[str]:
    """How many values of each column of categories the model takes as missing, because training did not have them.

    MlflowException when a column has another type than ingest gives it, and a value in it that the model refuses.
    """
    looked_at = [
        feature
        for feature in schema.features
        if feature.name in table.schema.names
        and (feature.levels is not None or table.schema.field(feature.name).type != STORED_TYPES[feature.type])
    ]
    counts: Counter[str] = Counter()
    for batch in table.batches([feature.name for feature in looked_at]) if looked_at else ():
        counts.update(scorer.unseen(predictions.to_frame(batch), looked_at))
    return counts


def run(
    table: Snapshot,
    predicted: TableUri,
    *,
    load: Callable[[], LoadedModel],
    key: Sequence[str],
    mode: Mode,
    made_of: Mapping[str, str],
    made_by: Mapping[str, str],
) -> Result:
    """Bring the newest version of `predicted` up to date with a version of a table, by one conditional commit.

    `made_of` and `made_by` go into its metadata; the former has scoring_plan.SCORED_BY too. Where another writer is
    first, what to do is decided anew on what it has written. Nothing is written when the newest version is made of the
    same, unless all rows are to be scored. TableUnfit for rows that the model or the key does not fit, TableBusy.
    """
    load = cache(load)
    for _ in range(PLANS):
        newest = collation.open_newest(predicted)
        if newest and mode == "new" and conditional.is_made_of(newest, made_of):
            return Result(table=table, committed=Committed(table=newest, written=False), plan=None, scored=0, unseen={})
        try:
            planned = scoring_plan.plan(table, newest, scored_by=made_of[SCORED_BY], mode=mode, key=key)
            return _committed(planned, table, predicted, model=load(), key=key, made_of=made_of, made_by=made_by)
        except TableChanged:
            continue
    raise TableBusy(predicted.path, attempts=PLANS)


def _committed(
    planned: Plan,
    table: Snapshot,
    predicted: TableUri,
    *,
    model: LoadedModel,
    key: Sequence[str],
    made_of: Mapping[str, str],
    made_by: Mapping[str, str],
) -> Result:
    check_features(table, model.schema)
    key = key if set(key) <= set(table.schema.names) else []
    origin = {"model_uri": model.uri, "table_uri": str(table), "run_id": made_by["run_id"]}
    work = Work(plan=planned, model=model, key=key, origin={**origin, "scored_at": datetime.now(UTC)})
    write = writer_for(planned)
    try:
        unseen = count_unseen(planned.rows, model.schema)
        committed = commit.after(
            planned.newest,
            table=predicted,
            mode=planned.mode,
            made_of=made_of,
            made_by=made_by,
            write=lambda folder: write(work, folder),
        )
    except MlflowException as err:
        raise unfit(table, model.schema, err.message) from err
    scored = planned.rows.row_count if planned.earlier is None else _rows_scored_by(made_by["run_id"], committed.table)
    return Result(table=table, committed=committed, plan=planned, scored=scored, unseen=unseen)


def writer_for(plan: Plan) -> Callable[[Work, str], None]:
    """What writes the predictions of a plan: this process, or Spark's workers when it is too large for one."""
    if not plan.is_for_workers:
        return local_inference.write
    from steps.core.models import spark_inference  # PySpark takes half a second, which small tables do not pay

    return spark_inference.write


def _rows_scored_by(run_id: str, table: Snapshot) -> int:
    """How many rows of a version of predictions a run has scored."""
    return sum(pc.sum(pc.equal(batch["run_id"], run_id)).as_py() or 0 for batch in table.batches(["run_id"]))


def unfit(table: Snapshot, schema: scorer.Schema, reason: str) -> TableUnfit:
    """The error for a table that the model cannot score, with the columns that it needs."""
    return TableUnfit(
        str(table),
        [reason],
        expected=", ".join(f"{feature.name} {feature.type}" for feature in schema.features),
        next="ingest it with the config that the model was trained by, or pass another table or model",
    )


def _run(predicted: Snapshot) -> str:
    run_id = predicted.commit.metadata.get("run_id", "")
    return f" (run {run_id[:8]})" if run_id else ""
