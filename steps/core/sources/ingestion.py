"""Bring a source through the contract in one pass: good rows into Parquet files, the others into files of rejects.

A source of ordinary size is read by this process, a large one by Spark's workers, by the same functions (job.py).
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from steps.core.errors import ContractBroken, SourceChanged, SourceUnlabelled
from steps.core.process import progress
from steps.core.sources import contract
from steps.core.sources.job import Bundle, Job, Result
from steps.core.sources.rows import Part, RawRows
from steps.core.sources.source import Source
from steps.core.storage import filesystem
from steps.core.tables import row_hash
from steps.core.tables.repeated_rows import repeated_rows
from steps.core.tables.snapshot import Snapshot

REPEATED_KEY, STORED_KEY = "have the key of another row", "have a key that is in the table already"  # rules
BUNDLE_BYTES = 64 * 2**20  # of a source's files that one worker reads together, and writes into the same files
MOST_BUNDLES = 2_000  # about: a task each, which sends back a megabyte or two, and a file each


def run(source: Source, job: Job, *, files: Collection[str] | None = None, beside: Snapshot | None = None) -> Result:
    """The rows of a source that keep the contract in files in job.folder, the others in job.rejects_folder.

    `files` are those of the source's files that are read, None for all; `beside` is a table to which the rows are to be
    added.

    Rows that share a key are rejects, all of them, since nothing tells which of them is right, and so is a row whose
    key the table has; the source is read again for that. Whether it was written to meanwhile, has_changed() tells;
    SourceChanged where nothing but its rows would, and they have other such keys then.
    """
    result = _run(source, job, files)
    if not (refused := _refused_keys(result, job, beside)):
        return result
    for folder, names in ((job.folder, result.files), (job.rejects_folder, result.reject_files)):
        if names:
            filesystem.remove_folder(folder)
    again = _run(source, replace(job, refused_keys=refused), files)
    if source.fingerprint() is None and _refused_keys(again, job, beside):
        raise SourceChanged(source.uri)
    return again


def _run(source: Source, job: Job, files: Collection[str] | None) -> Result:
    try:
        if source.needs_spark:
            from steps.core.sources import (
                spark_ingestion,
            )  # PySpark takes half a second, which small sources do not pay

            return spark_ingestion.run_rows(source, job)
        parts = [part for part in source.parts(job.columns) if files is None or part.file in files]
    except ContractBroken as err:
        if list(err.missing) != [job.target]:
            raise
        reason = f"it has no column {err.missing[job.target]!r}, the target"
        raise SourceUnlabelled(source.uri, reason, table=job.table) from err
    total_bytes = sum(part.size_bytes for part in parts)
    if not source.is_for_spark(total_bytes):
        with progress.shown() as shown:
            return job(_CountedPart(part, shown, total_bytes=total_bytes) for part in parts)
    from steps.core.sources import spark_ingestion

    return spark_ingestion.run(source, list(bundles(parts)), job, total_bytes=total_bytes)


def bundles(parts: Sequence[Part]) -> Iterator[Bundle]:
    """The parts, in their order, those of small files together, and of a huge source as many as are left together."""
    most_bytes = max(BUNDLE_BYTES, sum(part.size_bytes for part in parts) // MOST_BUNDLES)
    bundle: list[Part] = []
    size_bytes = 0
    for part in parts:
        if bundle and size_bytes + part.size_bytes > most_bytes:
            yield Bundle(bundle)
            bundle, size_bytes = [], 0
        bundle.append(part)
        size_bytes += part.size_bytes
    if bundle:
        yield Bundle(bundle)


class _CountedPart(Part):
    """A part whose rows are counted as they are read, and its bytes when all of them are."""

    def __init__(self, part: Part, shown: progress.Progress, *, total_bytes: int) -> None:
        self.file, self.size_bytes = part.file, part.size_bytes
        self._part, self._shown, self._total_bytes = part, shown, total_bytes

    def read(self) -> Iterator[RawRows]:
        for raw in self._part.read():
            yield raw
            self._shown.add("rows_read", len(raw.columns) + len(raw.malformed))
        self._shown.add("bytes_read", self.size_bytes, total=self._total_bytes)


def _refused_keys(result: Result, job: Job, beside: Snapshot | None) -> dict[str, pa.Table]:
    """The keys of good rows that they must not have, by the rule that they break."""
    if not job.key:
        return {}
    found = {
        REPEATED_KEY: repeated_keys(result, job.key, _keys(result, job)),
        STORED_KEY: stored_keys(result, job, beside) if beside else None,
    }
    return {rule: keys for rule, keys in found.items() if keys is not None}


def stored_keys(result: Result, job: Job, table: Snapshot) -> pa.Table | None:
    """The keys of a table that good rows may have too, by their hashes; None when there is none.

    Only its key columns are read, some rows at a time. One of another type has no equal keys; the commit refuses it.
    """
    if not {*job.key} <= {*table.schema.names}:
        return None
    hashes = np.unique(np.concatenate(result.key_hashes)) if result.key_hashes else np.empty(0, np.uint64)
    schema = contract.schema_of({name: job.columns[name] for name in job.key})
    found = [schema.empty_table()]
    for batch in table.batches(list(job.key)):
        try:
            rows = pa.Table.from_batches([batch]).cast(schema)
        except pa.ArrowInvalid:
            return None
        of_rows = row_hash.first_hash(rows)
        found.append(rows.filter(pa.array(row_hash.are_among(of_rows, hashes))))
    keys = pa.concat_tables(found)
    return keys if len(keys) else None


def _keys(result: Result, job: Job) -> Iterator[pa.Table]:
    """The key columns of the good rows, file by file."""
    for name in result.files:
        content = filesystem.read(f"{job.folder}/{name}")
        yield pq.read_table(pa.BufferReader(content), columns=list(job.key))


def repeated_keys(result: Result, key: Sequence[str], files: Iterable[pa.Table]) -> pa.Table | None:
    """The keys that more than one good row has; None when there is none. `files` are the key columns of good rows.

    The hashes of the keys tell which may be repeated, so that only those are held in memory.
    """
    hashes = np.concatenate(result.key_hashes) if result.key_hashes else np.empty(0, np.uint64)
    values, counts = np.unique(hashes, return_counts=True)
    suspected = values[counts > 1]
    if not len(suspected):
        return None
    found = []
    for rows in files:
        of_rows = row_hash.first_hash(rows)
        found.append(rows.filter(pa.array(row_hash.are_among(of_rows, suspected))))
    repeated = repeated_rows(pa.concat_tables(found).select(list(key)))
    return repeated if len(repeated) else None
