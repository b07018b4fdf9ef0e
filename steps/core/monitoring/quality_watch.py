"""The quality of a watched model beside the drift of its features, by one more pass over its predictions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from steps.core.config import Config, Monitor
from steps.core.models import split
from steps.core.models.grouping import grouping_of
from steps.core.models.scorer import Schema
from steps.core.monitoring import current, drift, label_source, watched_quality
from steps.core.monitoring.errors import LabelsUnusable
from steps.core.monitoring.findings import Finding
from steps.core.monitoring.gate_reference import GateReference
from steps.core.monitoring.label_source import LabelSource
from steps.core.monitoring.labels import LabelIndex
from steps.core.monitoring.reference import Watched
from steps.core.monitoring.trained_on import TABLE_URI, TrainedOn
from steps.core.monitoring.watched_quality import LEFT_OUT, NEEDED, CountedQuality, Predicted
from steps.core.monitoring.watching import Watch, WatchedWindow
from steps.core.process import progress
from steps.core.tables.snapshot import Snapshot


@dataclass(frozen=True, kw_only=True)
class WithQuality:
    """`watch` has what was found in its windows; `lines` tell the user of rows and labels that count for nothing."""

    watch: Watch
    lines: Sequence[str] = ()


def open_labels(uri: str, settings: Config, table: Snapshot) -> LabelSource | None:
    """The labels at `uri` of the rows of a table; None for "". LabelsUnusable, also where rows have no predictions."""
    if uri and not _has_predictions(table, settings):
        raise LabelsUnusable(
            uri,
            [f"the rows of {table} have no predictions, to which labels belong"],
            next="leave labels out, or look at predictions or requests with -P current=",
        )
    return label_source.find(uri, settings, predictions=table.schema.names) if uri else None


def add(
    watch: Watch, settings: Config, *, reference: GateReference | None, labels: LabelSource | None = None
) -> WithQuality:
    """What the predictions of `watch` say of the model's quality beside what the gate saw, by `labels` or by those that
    the rows have themselves; as it is where its rows have no predictions. Raises what LabelIndex does."""
    table = watch.current.table
    if not _has_predictions(table, settings):
        return WithQuality(watch=watch)
    if other := _other_question(watch.watched.schema, settings):
        return WithQuality(watch=watch, lines=[f"quality: {other}, so that nothing is said of it"])
    has_labels = labels is not None or settings.target in table.schema.names
    predicted = Predicted.by(
        watch.watched.uri,
        reference,
        classes=watch.watched.schema.classes,
        target=settings.target,
        trained_on=_trained_on(watch.watched, settings, table),
        bins=current.readable(watch.watched, table)[0] if has_labels else (),
        grouping=watch.watched.reference.grouping or grouping_of(settings),
    )
    index = LabelIndex(labels, predicted.reader) if labels else None
    counted = _count(watch, predicted, index, key=labels.key if labels else ())
    windows = list(_windows(watch, predicted, reference, counted, settings, has_labels=has_labels))
    lines = [*counted.lines(predicted), *(index.lines() if index else [])]
    return WithQuality(watch=replace(watch, windows=windows), lines=lines)


def _has_predictions(table: Snapshot, settings: Config) -> bool:
    needed = (*NEEDED, *(["probabilities"] if settings.task == "classification" else []))
    return all(name in table.schema.names for name in needed)


def _other_question(schema: Schema, settings: Config) -> str:
    """What the model answers, where the config asks for something else; "" where it does not."""
    if (schema.task, schema.target) == (settings.task, settings.target):
        return ""
    asked = f"the config asks for a {settings.task} of {settings.target}"
    return f"the model is a {schema.task} of {schema.target}, and {asked}"


def _trained_on(watched: Watched, settings: Config, table: Snapshot) -> TrainedOn:
    recorded = _split_of(watched.schema)
    if TABLE_URI not in table.schema.names:  # requests are new rows
        return TrainedOn(columns=(), hashes=None, split=recorded)
    columns = settings.key or settings.features
    return TrainedOn.find(watched.table, columns, recorded, target=watched.schema.target, schema=table.schema)


def _split_of(schema: Schema) -> split.SplitSettings:
    return split.recorded(schema.split, {feature.name: feature.type for feature in schema.features})


def _count(watch: Watch, predicted: Predicted, index: LabelIndex | None, *, key: Sequence[str]) -> CountedQuality:
    """In the windows of `watch`: rows that were deleted since may be of any number of earlier ones."""
    windows, rows = watch.current.windows, watch.current.rows
    time, first = windows.column, _first_window(watch)
    columns = predicted.columns(rows.schema.names, [*key, *([time] if time else [])])

    def window_of(rows: pa.Table) -> np.ndarray:
        numbers = windows.numbers(rows[time])[0] if time else np.zeros(len(rows), dtype=np.int64)
        return np.where(numbers < first, LEFT_OUT, numbers)

    batches = progress.counted(rows.batches(columns), "rows_read", total=rows.row_count)
    return watched_quality.count(batches, predicted, window_of=window_of, labels=index)


def _windows(
    watch: Watch,
    predicted: Predicted,
    reference: GateReference | None,
    counted: CountedQuality,
    settings: Config,
    *,
    has_labels: bool,
) -> Iterator[WatchedWindow]:
    """Each window with what its predictions say; one without any as it is. Windows with too few rows to say anything
    are none of those that are looked at together."""
    monitor, quality = settings.monitor, settings.monitor.quality
    with_labels = sum(one.labelled.rows >= quality.labels_at_least for one in counted.windows.values())
    with_predictions = sum(one.rows >= quality.predictions_at_least for one in counted.windows.values())
    moved = _drift_of_labelled(watch, counted, monitor)
    for number, window in enumerate(watch.windows, _first_window(watch)):
        if number not in counted.windows:
            yield window
            continue
        found = watched_quality.findings(
            counted.windows[number],
            predicted,
            reference,
            metric=settings.gate.metric,
            has_labels=has_labels,
            features=moved.get(number, ()),
            settings=quality,
            windows=max(1, with_labels),
            significance=monitor.significance / max(1, with_predictions),
        )
        yield replace(window, quality=found)


def _first_window(watch: Watch) -> int:
    return watch.current.windows.last + 1 - len(watch.windows)


def _drift_of_labelled(watch: Watch, counted: CountedQuality, settings: Monitor) -> dict[int, list[Finding]]:
    """Whether the features of the labelled rows moved, by which quality is told: those of all rows may not tell it."""
    _, unreadable = current.readable(watch.watched, watch.current.table)
    summaries = {number: one.features for number, one in counted.windows.items() if one.features.rows}
    drifts = drift.drifts(watch.watched.reference, summaries, settings)
    return {
        number: [*unreadable, *(one.finding(settings.significance) for one in features)]
        for number, features in drifts.items()
    }
