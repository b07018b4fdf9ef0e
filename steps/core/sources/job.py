"""What is done with the parts of a source, and what became of their rows: the same here and in Spark's workers.

Memory is bounded by a batch of rows, a file's buffer and the profile's sample, not by the size of the source.
"""

import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa

from steps.core import float32_loss
from steps.core.columns import Column
from steps.core.sources import contract
from steps.core.sources.contract import Checked, Rule
from steps.core.sources.profile import Profile
from steps.core.sources.rows import Part
from steps.core.tables import row_hash
from steps.core.tables.parquet_folder import ParquetFolder


@dataclass(kw_only=True)
class Result:
    """What became of some rows of a source. Results of its parts add up, in any order."""

    profile: Profile
    rows: int = 0  # that keep the contract
    rejected: int = 0
    malformed: int = 0  # of `rejected`: rows that have no columns
    fingerprint: int = 0  # order-free sum of the rows' hashes
    unlabelled: int = 0  # of `rows` and `rejected`: without a value in the target
    broken: Counter[Rule] = field(default_factory=Counter)  # rejected rows by rule; a row may break several
    examples: dict[Rule, str] = field(default_factory=dict)  # a value that breaks each rule
    rounded: Counter[str] = field(default_factory=Counter)  # whole numbers that float32 does not hold, by column
    rows_read: Counter[str] = field(default_factory=Counter)  # good and bad, by file
    key_hashes: list[np.ndarray] = field(default_factory=list)
    files: list[str] = field(default_factory=list)  # of good rows, by their names
    reject_files: list[str] = field(default_factory=list)
    rejects_fingerprint: int = 0  # order-free, as `fingerprint`
    blank: int = 0  # rows that are separators and nothing else, which count as none

    def fingerprint_of(self, columns: Mapping[str, Column]) -> str:
        """Equal for two results whose rows and columns are the same, in whatever order."""
        units = {name: f" in {column.unit}" for name, column in columns.items() if column.unit}
        types = ",".join(f"{name}:{column.type}{units.get(name, '')}" for name, column in columns.items())
        return f"{types}|{self.rows}|{self.fingerprint}"

    @property
    def source_rows(self) -> int:
        """How many rows the source had: those of the table and the rejects."""
        return self.rows + self.rejected

    def merge(self, other: "Result") -> None:
        """Add another part's result to this one."""
        self.profile.merge(other.profile)
        self.rows += other.rows
        self.rejected += other.rejected
        self.malformed += other.malformed
        self.fingerprint += other.fingerprint
        self.unlabelled += other.unlabelled
        self.blank += other.blank
        self.broken.update(other.broken)
        self.rounded.update(other.rounded)
        self.rows_read.update(other.rows_read)
        self.examples = {**other.examples, **self.examples}
        self.key_hashes += other.key_hashes
        self.files += other.files
        self.reject_files += other.reject_files
        self.rejects_fingerprint += other.rejects_fingerprint

    def add(self, checked: Checked, *, file: str, features: Mapping[str, Column], key: Sequence[str]) -> None:
        """Count rows of a file that were checked; `features` are columns that a model may see."""
        hashes = row_hash.column_hashes(checked.rows)
        self.profile.add(checked.rows, hashes)
        self.rows += len(checked.rows)
        self.rejected += len(checked.rejects)
        self.fingerprint += row_hash.fingerprint_sum(row_hash.row_hashes(hashes))
        self.broken.update(checked.broken)
        self.rejects_fingerprint += row_hash.fingerprint_sum(_text_hashes(checked.rejects))
        self.examples = {**checked.examples, **self.examples}
        self.rounded.update(float32_loss.rounded_counts(checked.rows, features))
        self.rows_read[file] += len(checked.rows) + len(checked.rejects)
        if key:
            positions = [checked.rows.column_names.index(name) for name in key]
            self.key_hashes.append(row_hash.row_hashes(hashes[:, positions]))


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is done with each part of a source, here or by a worker. Pickled with its arguments."""

    columns: Mapping[str, Column]
    key: tuple[str, ...]
    target: str  # "" where rows have none
    folder: str  # of the good rows' Parquet files
    rejects_folder: str
    table: str  # that they are for
    refused_keys: Mapping[str, pa.Table] = field(default_factory=dict)  # keys that no row may have, by the rule

    def __call__(self, parts: Iterable[Part]) -> Result:
        result = Result(profile=Profile(contract.schema_of(self.columns)))
        rows = ParquetFolder(self.folder, contract.schema_of(self.columns), writer=(writer := str(uuid.uuid4())))
        rejects = ParquetFolder(self.rejects_folder, contract.REJECTS_SCHEMA, writer=writer)
        unseen = {*self.key, self.target}
        features = {name: column for name, column in self.columns.items() if column.feature and name not in unseen}
        for part in parts:
            for raw in part.read():
                checked = contract.check(
                    raw, self.columns, file=part.file, key=self.key, refused_keys=self.refused_keys
                )
                result.add(checked, file=part.file, features=features, key=self.key)
                result.unlabelled += checked.missing(self.target)
                result.blank += raw.blank_count
                result.malformed += len(raw.malformed)
                rows.write(checked.rows)
                rejects.write(checked.rejects)
        result.files, result.reject_files = rows.close(), rejects.close()
        return result


@dataclass(frozen=True)
class Bundle:
    """Parts that one worker reads together."""

    parts: list[Part]

    @property
    def size_bytes(self) -> int:
        return sum(part.size_bytes for part in self.parts)

    def __iter__(self) -> Iterator[Part]:
        return iter(self.parts)


def _text_hashes(rows: pa.Table) -> np.ndarray:
    texts = np.array([str(row) for row in rows.to_pylist()], dtype=object)
    return pd.util.hash_array(texts) if len(texts) else np.empty(0, np.uint64)
