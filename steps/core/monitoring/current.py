"""Which rows are looked at: those of a pinned version that were scored in a time, or that came since training."""

from collections.abc import Sequence
from dataclasses import dataclass

from steps.core.config import PREDICTION_COLUMNS, Monitor
from steps.core.monitoring import bins as bins_of
from steps.core.monitoring.bins import Bins
from steps.core.monitoring.errors import NothingToWatch
from steps.core.monitoring.findings import Finding
from steps.core.monitoring.reference import Reference, Watched
from steps.core.monitoring.windows import Windows
from steps.core.tables import data_files, location, snapshot
from steps.core.tables.data_files import DataFiles
from steps.core.tables.location import TableUri
from steps.core.tables.snapshot import Snapshot

TABLES = {"predictions": "_predictions", "requests": "_requests", "table": ""}  # by the ends of their names
SCORED_AT, DELETED_AT, MODEL_URI = "scored_at", "deleted_at", "model_uri"
REQUEST_ID = "request_id"
OF_REQUESTS = (REQUEST_ID, "row")
FIRST_STEPS = {
    "predictions": "run `mlflow run . -e infer`, or look at the rows of the table with -P current=table",
    "requests": "serve the model with `mlflow run . -e serve -P log=true`, or pass another -P current=",
    "table": "run `mlflow run . -e ingest`, or pass another -P current=",
}


@dataclass(frozen=True, kw_only=True)
class Current:
    """`rows` of `table`, parted into `windows`; `which` says after the word "rows" which these are. Of requests only
    those count that `answered_by` has answered, a model's URI; "" for all rows."""

    table: Snapshot
    rows: Snapshot | DataFiles
    windows: Windows
    which: str
    answered_by: str = ""

    def columns(self, bins: Sequence[Bins], reference: Reference) -> list[str]:
        """Those that have to be read to count by these bins."""
        group = [reference.grouping.column] if reference.grouping else []
        model = [MODEL_URI] if self.answered_by else []
        names = [*(one.name for one in bins), *group, self.windows.column, DELETED_AT, *model]
        return [name for name in dict.fromkeys(names) if name in self.table.schema.names]


def open_table(current: str, *, lake_root: str, name: str) -> Snapshot:
    """The newest version of what `current` names (one of TABLES, or a URI), or the version that it pins.

    NothingToWatch when there is no such table yet.
    """
    if current not in TABLES:
        return snapshot.open(location.parse_table(current))
    table = snapshot.find(TableUri(f"{lake_root}/{name}{TABLES[current]}"))
    if table is None:
        raise NothingToWatch(
            f"there are no {current} yet: {lake_root}/{name}{TABLES[current]} does not exist"
            if current != "table"
            else f"there is no table {lake_root}/{name} yet",
            expected="rows to compare with those that the model was trained on",
            next=FIRST_STEPS[current],
        )
    return table


def rows_of(table: Snapshot, watched: Watched, settings: Monitor) -> Current:
    """The rows of predictions, and of requests those that this version has answered, by when they were scored; of any
    other table those that came since the version that the model was trained on.

    NothingToWatch when `settings` ask for times that the rows do not have.
    """
    has_times = SCORED_AT in table.schema.names
    asked = {name: value for name in ("since", "window") if (value := getattr(settings, name))}
    if asked and not has_times:
        raise NothingToWatch(
            f"{', '.join(f'{name}={value}' for name, value in asked.items())} for {table}, whose rows have no times",
            expected=f"a table with a column {SCORED_AT!r}, as predictions and requests have it",
            next="leave since and window out: of a table, those rows are looked at that came since training",
        )
    windows = Windows.of(
        SCORED_AT if has_times else "", written_at=table.commit.when, since=settings.since, window=settings.window
    )
    if has_times:
        which = f"scored in the {settings.since} before it was written" if settings.since else "of any time"
        own = watched.uri if REQUEST_ID in table.schema.names else ""
        return Current(table=table, rows=table, windows=windows, which=which, answered_by=own)
    before = watched.table if watched.is_of(table) else None
    added = data_files.added_since(before, table) if before else None
    if before is None or added is None:
        return Current(table=table, rows=table, windows=windows, which="of this version")
    which = f"that came since version {before.version}, which the model was trained on"
    return Current(table=table, rows=added, windows=windows, which=which)


def readable(watched: Watched, table: Snapshot) -> tuple[list[Bins], list[Finding]]:
    """The features whose values can be counted in a table, and those of which its columns have none any more."""
    types = {column.name: column.type for column in table.schema}
    kept, findings = [], []
    for feature in watched.reference.features:
        bins = feature.bins
        if bins.name not in types and not bins.optional:
            reason = f"the column is gone, and the model takes no rows without it (it was {bins.type})"
            findings.append(Finding(level="alert", subject=bins.name, reason=reason))
        elif bins.name in types and not bins_of.is_readable(types[bins.name], bins.type):
            reason = f"the column has the type {types[bins.name]} now; the model takes {bins.type}, and no other"
            findings.append(Finding(level="alert", subject=bins.name, reason=reason))
        else:
            kept.append(bins)
    return kept, findings


def new_columns(table: Snapshot, reference: Reference) -> dict[str, str]:
    """The columns that came since training, with their types."""
    known = {*reference.columns, *PREDICTION_COLUMNS, *OF_REQUESTS}
    return {column.name: str(column.type) for column in table.schema if column.name not in known}
