"""What is plainly wrong with rows for learning: told early, where it stops nothing.

A feature that tells the target alone is found by its neighbours: how often the other rows with its value, or the
nearest one, have the same target. A feature of chance or of overlapping classes does badly by that, the number of a
row in a file sorted by its labels, or a code that is written after the outcome, all but perfectly.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from steps.core.wording import listed

TELLS_ALONE = 0.97  # of what is above chance: Iris's best feature reaches 0.93
FEWEST_ROWS = 40  # below it a feature may tell a target by chance
FEWEST_OF_A_CLASS = 3  # one for each part
FEW_DIFFERENT = 0.1  # share of different rows of features, below which a split is by few of them
FEWEST_TO_TEST = 14  # of which a test part of a fifth has none with a probability of 0.8^14, a twentieth
RARE = 0.05  # share of the rows below which a class is rare
SHOWN = 10  # columns in a line


def warnings(
    sample: pa.Table,
    profile: Mapping[str, Any],
    *,
    target: str,
    task: str,
    labels: Mapping[Any, int] | None = None,
    features: Sequence[str],
    key: Sequence[str],
    are_all: bool = True,
) -> list[str]:
    """A line for each; `sample` are some of the rows, `profile` is of all, target "" where rows have none. `task` is
    that of the config. `labels` is how many rows have each value of the target, None where too many are different.
    Unless they `are_all` rows of their table, nothing is said of what rows they are too few of."""
    columns = profile["columns"]
    lines = list(_useless(columns, features, rows=profile["rows"]))
    lines += _unique(columns, features, rows=profile["rows"])
    if not target or len(sample) < 2:
        return lines
    if task == "classification":
        lines += _labels(labels or {}, target, are_all=are_all)
    varying = [name for name in features if columns[name]["distinct"] > 1]
    lines += _equal_features(sample, varying)
    if len(sample) >= FEWEST_ROWS:
        lines += _telling(sample, varying, target, task=task)
    lines += _repeated(sample, features, target, task=task, has_key=bool(key))
    return lines


def _useless(columns: Mapping[str, Any], features: Sequence[str], *, rows: int) -> list[str]:
    empty = [name for name in features if rows and columns[name]["missing"] == rows]
    constant = [name for name in features if columns[name]["distinct"] == 1 and not columns[name]["missing"]]
    lines = []
    if empty:
        lines.append(f"{listed(empty, SHOWN)}: all values are missing; say `feature: false`, or correct the source")
    if constant:
        lines.append(
            f"{listed(constant, SHOWN)}: the same value in all rows, which no model learns from; say `feature: false`"
        )
    return lines


def _unique(columns: Mapping[str, Any], features: Sequence[str], *, rows: int) -> list[str]:
    """Texts and whole numbers that differ in each row: names or numbers of rows."""
    unique = [
        name
        for name in features
        if rows >= FEWEST_ROWS and columns[name]["distinct"] >= 0.98 * rows and _counts_or_names(columns[name], rows)
    ]
    if not unique:
        return []
    return [
        f"{listed(unique, SHOWN)}: (nearly) all values are different, as of a key; make it the `key`, or say "
        "`feature: false`"
    ]


def _counts_or_names(column: Mapping[str, Any], rows: int) -> bool:
    """Whether it is text, or whole numbers about as many as there are rows: others may well differ by chance."""
    if column["type"] in ("int32", "int64"):
        return bool(column["max"] - column["min"] <= 2 * rows)
    return bool(column["type"] == "string")


def _labels(counts: Mapping[Any, int], target: str, *, are_all: bool) -> list[str]:
    lines = []
    rows = sum(counts.values())
    few = {label: count for label, count in counts.items() if count < FEWEST_OF_A_CLASS}
    rare = {
        label: count for label, count in counts.items() if count < min(FEWEST_TO_TEST, RARE * rows) and label not in few
    }
    if few and are_all:
        lines.append(
            f"{target}: fewer rows than parts of the split have {_counted(few)}; train may not see it; ingest more of "
            "them, or leave them out by `allowed`"
        )
    if rare and are_all:
        lines.append(
            f"{target}: of {rows:,} rows so few have {_counted(rare)} that the test part may have none, and then "
            "tells nothing of it; ingest more of them, or say a larger `split.test`, or another `split.seed`"
        )
    alike: dict[str, list[str]] = {}
    for label in counts:
        alike.setdefault(_without_marks(str(label)), []).append(str(label))
    for labels in alike.values():
        if len(labels) > 1:
            looks_alike = len({unicodedata.normalize("NFC", label) for label in labels}) < len(labels)
            shown = ", ".join(map(ascii if looks_alike else repr, labels))
            lines.append(f"{target}: {shown} differ by case or a mark only; say which under `allowed`")
    return lines


def _counted(counts: Mapping[Any, int]) -> str:
    return listed([f"{label!r} ({count})" for label, count in counts.items()], SHOWN)


def _without_marks(label: str) -> str:
    """A label without case, marks around it, letters that nobody sees, and another way that Unicode has to write it."""
    plain = "".join(letter for letter in label if unicodedata.category(letter) != "Cf")
    return unicodedata.normalize("NFKC", plain).casefold().strip(" .,;:!'\"")


def _equal_features(sample: pa.Table, features: Sequence[str]) -> list[str]:
    """Features with the same values in all rows."""
    seen: dict[tuple[str, int], list[str]] = {}
    lines = []
    for name in features:
        column = sample[name].combine_chunks()
        alike = seen.setdefault((str(column.type), hash(tuple(column.to_pylist()))), [])
        if other := next((earlier for earlier in alike if sample[earlier].combine_chunks().equals(column)), None):
            lines.append(f"{name}: the same as {other} in all rows; one of them is enough")
        else:
            alike.append(name)
    return lines[:SHOWN]


def _telling(sample: pa.Table, features: Sequence[str], target: str, *, task: str) -> list[str]:
    labelled = sample.filter(pc.is_valid(sample[target]))
    labels = labelled[target].combine_chunks()
    truth = _codes(labels) if task == "classification" else labels.cast(pa.float64(), safe=False).to_numpy()
    if len(truth) < FEWEST_ROWS or len(np.unique(truth)) < 2:
        return []
    if task != "classification":
        truth = truth / np.abs(truth).max()  # squares of what is huge would be infinite
    lines = []
    for name in features:
        score = _score(labelled[name].combine_chunks(), truth, task=task)
        if score >= TELLS_ALONE:
            lines.append(
                f"{name}: tells {target} alone ({score:.0%} of what is above chance); is it known before {target} is? "
                "Else say `feature: false`"
            )
    return lines[:SHOWN]


def _codes(values: pa.Array) -> np.ndarray:
    codes: np.ndarray = values.dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return codes


def _score(values: pa.Array, truth: np.ndarray, *, task: str) -> float:
    """How much of what is above chance a feature tells of each row by the others; 1 is all."""
    is_text = pa.types.is_string(values.type) or pa.types.is_boolean(values.type)
    numbers = _codes(values).astype(np.float64) if is_text else _numbers(values)
    if task != "classification":
        return float(1 - np.mean((truth - _expected(numbers, truth, is_exact=is_text)) ** 2) / np.var(truth))
    most_frequent = np.bincount(truth).max() / len(truth)
    is_right = _is_told(numbers, truth, is_exact=is_text)
    return float((is_right.mean() - most_frequent) / (1 - most_frequent))


def _numbers(values: pa.Array) -> np.ndarray:
    plain = values.cast(pa.int64()) if pa.types.is_temporal(values.type) and values.type != pa.date32() else values
    plain = plain.cast(pa.int32()) if plain.type == pa.date32() else plain
    numbers: np.ndarray = plain.cast(pa.float64(), safe=False).fill_null(np.inf).to_numpy(zero_copy_only=False)
    return numbers


def _is_told(numbers: np.ndarray, truth: np.ndarray, *, is_exact: bool) -> np.ndarray:
    """Whether each row has the most frequent label of the others with its value, or where there are none, of the
    nearest one: either of two at the same distance."""
    distinct, places = np.unique(numbers, return_inverse=True)
    class_count = int(truth.max()) + 1
    pairs, pair_of_row, counts = np.unique(places * class_count + truth, return_inverse=True, return_counts=True)
    pair_places, pair_labels = np.divmod(pairs, class_count)
    by_count = np.lexsort((pair_labels, -counts, pair_places))  # the most frequent label of each value first
    first = by_count[np.searchsorted(pair_places[by_count], np.arange(len(distinct)))]
    next_count = np.zeros(len(distinct), dtype=counts.dtype)  # of the label that comes second, 0 where there is one
    is_first = np.isin(np.arange(len(pairs)), first)
    np.maximum.at(next_count, pair_places[~is_first], counts[~is_first])
    most_others = np.where(is_first[pair_of_row], next_count[places], counts[first][places])  # of another label
    has_others = np.bincount(places)[places] > 1
    is_told: np.ndarray = has_others & (counts[pair_of_row] - 1 >= most_others)
    if is_exact:
        return is_told
    with np.errstate(over="ignore"):  # from one end of the doubles to the other is infinitely far
        labels, gaps = pair_labels[first], np.concatenate([[np.inf], np.diff(distinct), [np.inf]])
    nearest = np.minimum(gaps[:-1], gaps[1:])
    for step, gap in ((-1, gaps[:-1]), (1, gaps[1:])):
        neighbour = (np.arange(len(distinct)) + step).clip(0, len(distinct) - 1)
        is_near = (gap == nearest) & np.isfinite(gap)
        is_told |= ~has_others & is_near[places] & (labels[neighbour][places] == truth)
    return is_told


def _expected(numbers: np.ndarray, truth: np.ndarray, *, is_exact: bool) -> np.ndarray:
    """For each row the mean target of the others with its value, or where there are none, between its neighbours."""
    distinct, places = np.unique(numbers, return_inverse=True)
    counts, sums = np.bincount(places), np.bincount(places, weights=truth)
    means = sums / counts
    between = np.full(len(distinct), truth.mean())
    if not is_exact and len(distinct) > 2:
        between = np.concatenate([means[1:2], (means[:-2] + means[2:]) / 2, means[-2:-1]])
    with np.errstate(divide="ignore", invalid="ignore"):
        others = (sums[places] - truth) / (counts[places] - 1)
    expected: np.ndarray = np.where(counts[places] > 1, others, between[places])
    return expected


def _repeated(sample: pa.Table, features: Sequence[str], target: str, *, task: str, has_key: bool) -> list[str]:
    """Rows whose features are equal: few different ones, or of different classes."""
    if not features:
        return []
    numbers = [str(number) for number in range(len(features))]
    rows = sample.select([*features, target]).rename_columns([*numbers, "target"])
    different = rows.group_by(numbers).aggregate([("target", "count_distinct"), ([], "count_all")])
    lines = []
    if len(sample) >= FEWEST_ROWS and len(different) < FEW_DIFFERENT * len(sample) and not has_key:
        lines.append(
            f"{len(sample):,} rows have only {len(different):,} different sets of features, and equal ones are in the "
            "same part: say a `key`, or `split.group`, to split by that"
        )
    mixed = different.filter(pc.greater(different["target_count_distinct"], 1))
    if len(mixed) and task == "classification":
        count = pc.sum(mixed["count_all"]).as_py()
        lines.append(f"{count:,} of {len(sample):,} rows have the same features as another and another {target}")
    return lines
