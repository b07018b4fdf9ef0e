"""Labels that come late: each is that of one prediction, by its key or by its request, in whatever window that was.

Of a label, two hashes of its key and its value are kept, 24 bytes. Keys are equal when both hashes are, as in infer.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from steps.core.errors import TableUnfit
from steps.core.metrics import Labels as Classes
from steps.core.monitoring.errors import LabelsContradictory, LabelsUnusable
from steps.core.monitoring.label_source import LabelSource
from steps.core.sources import contract
from steps.core.tables import row_hash
from steps.core.wording import listed

NO_LABEL = -1  # in place of a class's code; of a regression nan
SHOWN = 3  # keys or labels, in a message
FEWEST_TO_DOUBT = 10  # labels; of fewer, all may be of a new class
MOST_UNKNOWN = 100  # labels that are no class of the model and have a code each; all others share one more


@dataclass(frozen=True, kw_only=True)
class TruthReader:
    """Target values as they are scored, (n,): of a classification the codes of these `classes` (from len(classes) on
    for labels that are none of them, NO_LABEL where there is none), of a regression, which has no classes, float64.
    `unknown` has the codes of the labels that are no class, as far as they have come."""

    classes: Classes
    unknown: dict[str, int] = field(default_factory=dict)

    def read(self, values: pa.Array | pa.ChunkedArray) -> np.ndarray:
        """True values as codes of the classes or, of a regression, as numbers, (n,)."""
        array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
        if not self.classes:
            numbers: np.ndarray = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
            return numbers
        positions = {str(label): code for code, label in enumerate(self.classes)}
        encoded = array.dictionary_encode()
        labels = map(str, encoded.dictionary.to_pylist())
        codes = [positions[label] if label in positions else self._unknown_code(label) for label in labels]
        places = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        truth: np.ndarray = np.array([*codes, NO_LABEL])[places]
        return truth

    def is_class(self, truth: np.ndarray) -> np.ndarray:
        """Where there is a label that a prediction can be scored by, (n,) bool."""
        mask: np.ndarray = has_label(truth) & ~self.is_unknown(truth)
        return mask

    def is_unknown(self, truth: np.ndarray) -> np.ndarray:
        """Where a label is no class of the model, (n,) bool."""
        mask: np.ndarray = truth >= len(self.classes) if self.classes else np.zeros(len(truth), dtype=bool)
        return mask

    def told_unknown(self, counts: Counter[int], labels: int) -> str:
        """What is to be said of labels that are no class of the model, by the `counts` of their codes, of so many
        `labels`."""
        names = {code: repr(label) for label, code in self.unknown.items()}
        frequent = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
        often = listed([f"{names.get(code, 'others')} ({count:,})" for code, count in frequent], SHOWN)
        return (
            f"{counts.total():,} of {labels:,} labels are no class of the model: {often}; they count in no "
            "score: correct them, or train on rows that have them"
        )

    def _unknown_code(self, label: str) -> int:
        if label not in self.unknown and len(self.unknown) < MOST_UNKNOWN:
            self.unknown[label] = len(self.classes) + len(self.unknown)
        return self.unknown.get(label, len(self.classes) + MOST_UNKNOWN)


def has_label(truth: np.ndarray) -> np.ndarray:
    """Where TruthReader.read() gave a value, (n,) bool."""
    mask: np.ndarray = ~np.isnan(truth) if truth.dtype.kind == "f" else truth != NO_LABEL
    return mask


class LabelIndex:
    """All labels of a source, by their keys. `missing` rows have no label yet, `repeated` ones are there again with
    the same label."""

    def __init__(self, source: LabelSource, reader: TruthReader) -> None:
        """LabelsUnusable, also where no label is a class of the model's, or LabelsContradictory where one key has
        several labels."""
        self._source, self._reader = source, reader
        self._schema = contract.schema_of({name: source.columns[name] for name in source.key})
        self.rows = self.missing = 0
        firsts, seconds, truths = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)], [self._no_truth()]
        for first, second, truth in self._hashed(source.batches()):
            is_there = has_label(truth)
            self.rows += len(truth)
            self.missing += int((~is_there).sum())
            for parts, values in ((firsts, first), (seconds, second), (truths, truth)):
                parts.append(values[is_there])
        self._first, self._second, self._truth = map(np.concatenate, (firsts, seconds, truths))
        if len(self._truth) >= FEWEST_TO_DOUBT and reader.is_unknown(self._truth).all():
            raise self._no_known_class()
        self.repeated = self._sort()
        self._is_used = np.zeros(len(self._first), dtype=bool)
        self._most_alike = _longest_run(self._first)

    def of(self, rows: pa.Table) -> np.ndarray:
        """The labels of predictions, (n,), as TruthReader has them: NO_LABEL or nan where none has come.

        `rows` has the columns that tell a row. TableUnfit when these are of other types.
        """
        first, second = row_hash.two_hashes(self._keys(rows))
        places = np.searchsorted(self._first, first)
        truth = self._no_truth(len(rows))
        for offset in range(self._most_alike):
            at = np.minimum(places + offset, len(self._first) - 1)
            is_same = (self._first[at] == first) & (self._second[at] == second)
            truth[is_same] = self._truth[at[is_same]]
            self._is_used[at[is_same]] = True
        return truth

    @property
    def count(self) -> int:
        """The labels: one for each key that has one."""
        return len(self._first)

    @property
    def unknown(self) -> int:
        """How many are of no prediction that of() was asked for."""
        return int((~self._is_used).sum())

    def lines(self) -> list[str]:
        """What the user is told of labels that count for nothing, when all predictions were asked for."""
        uri = self._source.uri
        told = {
            f"{self.unknown:,} of {self.count:,} labels are of no prediction that is watched": self.unknown,
            f"{self.missing:,} of {self.rows:,} rows have no label yet": self.missing,
            f"{self.repeated:,} rows repeat the label of another row, and count once": self.repeated,
        }
        lines = [f"labels {uri}: {line}" for line, count in told.items() if count]
        if unknown := Counter(self._truth[self._reader.is_unknown(self._truth)].tolist()):
            lines.append(f"labels {uri}: {self._reader.told_unknown(unknown, self.count)}")
        source_rows = self.rows + self._source.rejected_rows
        rules = contract.violations(self._source.rejected, self._source.examples, source_rows)
        return [*lines, *(f"labels {uri}: {line}, and count for nothing" for line in rules)]

    def _hashed(self, batches: Iterator[pa.Table]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Two hashes of the key of each row, and its label."""
        for rows in batches:
            yield (
                *row_hash.two_hashes(rows.select(list(self._source.key))),
                self._reader.read(rows[self._source.target]),
            )

    def _sort(self) -> int:
        """Order by hashes, each key once; how many rows repeat another. LabelsContradictory for other labels."""
        order = np.lexsort((self._truth, self._second, self._first))
        first, second, truth = self._first[order], self._second[order], self._truth[order]
        is_repeated, is_other = np.zeros((2, len(order)), dtype=bool)
        is_repeated[1:] = (first[1:] == first[:-1]) & (second[1:] == second[:-1])
        is_other[1:] = is_repeated[1:] & (truth[1:] != truth[:-1])
        if is_other.any():
            raise self._contradiction(first[is_other])
        self._first, self._second, self._truth = first[~is_repeated], second[~is_repeated], truth[~is_repeated]
        return int(is_repeated.sum())

    def _no_known_class(self) -> LabelsUnusable:
        """Words that are written in another way would leave no label to score by."""
        labels = list(self._reader.unknown), self._reader.classes
        given, known = (", ".join(map(repr, some[:SHOWN])) for some in labels)
        reason = f"none of its {len(self._truth):,} labels, such as {given}, is a class of the model, such as {known}"
        return LabelsUnusable(self._source.uri, [reason])

    def _contradiction(self, hashes: np.ndarray) -> LabelsContradictory:
        """The labels are read once more, to show some of these keys with what they have."""
        shown, labels = np.unique(hashes)[:SHOWN], dict[str, list[str]]()
        key, target = list(self._source.key), self._source.target
        for rows in self._source.batches():
            first, _ = row_hash.two_hashes(rows.select(key))
            for row in rows.filter(pa.array(np.isin(first, shown))).filter(pc.field(target).is_valid()).to_pylist():
                name = ", ".join(f"{column} {row[column]}" for column in key)
                labels.setdefault(name, []).append(str(row[target]))
        examples = [f"{name} has {' and '.join(dict.fromkeys(values))}" for name, values in labels.items()]
        return LabelsContradictory(self._source.uri, keys=len(np.unique(hashes)), examples=examples)

    def _keys(self, rows: pa.Table) -> pa.Table:
        try:
            return rows.select(list(self._source.key)).cast(self._schema)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as err:
            raise TableUnfit(
                "the predictions",
                [f"{', '.join(self._source.key)} is not of the types of the config: {err}"],
                expected=f"{', '.join(map(str, self._schema.types))}, by which labels are joined",
                next="correct the key in the config, or run `mlflow run . -e infer` again",
            ) from err

    def _no_truth(self, rows: int = 0) -> np.ndarray:
        return np.full(rows, NO_LABEL, dtype=np.int64) if self._reader.classes else np.full(rows, np.nan)


def in_predictions(rows: pa.Table, target: str, reader: TruthReader) -> np.ndarray:
    """The labels that predictions have themselves, as infer keeps the target of a table that has it, (n,)."""
    return reader.read(rows[target])


def _longest_run(ascending: np.ndarray) -> int:
    """How often the most frequent of these values is there; 0 of none."""
    return int(np.unique(ascending, return_counts=True)[1].max(initial=0))
