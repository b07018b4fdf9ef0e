"""Upsert rows into a Delta table by their key, by delta-rs's MERGE: equal keys are replaced, the others are kept.

MERGE reads the key, rewrites those data files only that hold a row that changes, without deletion vectors, and commits
once on condition, as everything in commit.py. A row that is there as it is counts as unchanged; where no row changes
there is no new version. Memory grows with the source, not with the table.
"""

from collections.abc import Collection, Mapping, Sequence

import pyarrow as pa
from deltalake import CommitProperties

from steps.core.errors import TableUnfit, UpsertTooLarge
from steps.core.process import memory
from steps.core.tables import commit, conditional, in_memory
from steps.core.tables.conditional import Committed, Write
from steps.core.tables.location import TableUri
from steps.core.tables.repeated_rows import repeated_rows
from steps.core.tables.snapshot import Snapshot
from steps.core.tables.staged import Staged

COPIES = 5  # about, of its rows that MERGE holds in memory
KEY_COPIES = 2  # about, of their keys that are held to find those that are repeated
SHOWN_KEYS = 3  # of those that are repeated, in a message


def upsert(
    table: TableUri,
    *,
    key: Sequence[str],
    made_of: Mapping[str, str],
    made_by: Mapping[str, str],
    write: Write,
    files: Collection[str] = (),
    required: Collection[str] = (),
) -> Committed:
    """Commit the Parquet files that `write` puts into a folder: in place of the rows with the same `key`, or beside.

    Nothing is written when the commit of the newest version has `made_of` in its metadata, or no row changes. `files`
    are digests of the source's files, of which append() then knows. `required` are columns without nulls. Raises what
    commit.append() raises, but for source files; TableUnfit when a key is repeated or missing in the rows, which the
    contract has made sure of; UpsertTooLarge.
    """

    def is_there(newest: Snapshot) -> bool:
        return conditional.is_made_of(newest, made_of)

    def put(newest: Snapshot | None) -> bool:
        properties = conditional.properties({**made_of, **made_by}, commit.ingested(files, newest))
        if newest is None or not newest.row_count:
            conditional.add(newest, rows, properties, table=table, mode="append")
            return True
        return _merge(newest, rows, key, properties)

    def prepare(newest: Snapshot) -> bool:
        _check_key_is_there(newest, key)
        if newest.row_count:
            _check_memory(table, rows, needed_bytes=_merge_bytes(rows))
        return conditional.evolve(newest, rows.schema, made_by=made_by, required=required)

    if done := conditional.already(table, is_there, run_id=made_by["run_id"]):
        return done
    rows = conditional.stage(table, made_by["run_id"], write)
    with conditional.removing_refused(table, made_by["run_id"]):
        _check_memory(table, rows, needed_bytes=_key_bytes(rows, key))
        _check_key(table, rows.read([*key]))
    committed = conditional.commit(table, metadata={**made_of, **made_by}, is_there=is_there, prepare=prepare, put=put)
    _remove_merged(committed, rows, run_id=made_by["run_id"])
    return committed


def _merge(newest: Snapshot, rows: Staged, key: Sequence[str], properties: CommitProperties) -> bool:
    """Whether any row has changed, by a version after `newest`."""
    merge = newest.delta_table.merge(
        rows.rows(),
        " AND ".join(f"old.{_quoted(name)} = new.{_quoted(name)}" for name in key),
        source_alias="new",
        target_alias="old",
        commit_properties=properties,
    )
    if others := [name for name in newest.schema.names if name not in key]:
        merge = merge.when_matched_update_all(predicate=_differs(others))
    counts = merge.when_not_matched_insert_all().execute()
    return bool(counts["num_target_rows_updated"] or counts["num_target_rows_inserted"])


def _differs(columns: Sequence[str]) -> str:
    """Whether a row changes: nulls are equal, and so is NaN to NaN.

    Halves in brackets, not one chain: planning a chain takes the square of its length (600 columns: 12 s, not 1.5).
    """
    if len(columns) == 1:
        return f"old.{_quoted(columns[0])} IS DISTINCT FROM new.{_quoted(columns[0])}"
    middle = len(columns) // 2
    return f"({_differs(columns[:middle])}) OR ({_differs(columns[middle:])})"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _check_key(table: TableUri, keys: pa.Table) -> None:
    """TableUnfit for rows of which one would replace the other, or none could ever be replaced."""
    repeated = repeated_rows(keys)
    missing = [name for name in keys.column_names if keys[name].null_count]
    mistakes = [f"rows without a value for {name!r}, of the key" for name in missing]
    mistakes += [f"more than one row has the key {row}" for row in repeated.slice(0, SHOWN_KEYS).to_pylist()]
    if mistakes:
        raise TableUnfit(
            table.path,
            mistakes,
            expected="one row of the source for each key, which replaces the row that the table has for it",
            next="correct the source, or the key in the config",
        )


def _check_memory(table: TableUri, rows: Staged, *, needed_bytes: int) -> None:
    """UpsertTooLarge, with what all of it takes, where what is next would let the kernel end this process."""
    if needed_bytes > (free := memory.available_bytes()):
        most = memory.in_words(_merge_bytes(rows))
        raise UpsertTooLarge(table.path, rows=rows.row_count, needed=most, memory=memory.in_words(free))


def _merge_bytes(rows: Staged) -> int:
    estimated = in_memory.estimated_bytes(pa.schema(rows.schema.to_arrow()), rows=rows.row_count)
    return COPIES * max(estimated, rows.uncompressed_bytes)  # which is more for long texts


def _key_bytes(rows: Staged, key: Sequence[str]) -> int:
    schema = pa.schema(rows.schema.to_arrow())
    return KEY_COPIES * in_memory.estimated_bytes(pa.schema([schema.field(name) for name in key]), rows=rows.row_count)


def _check_key_is_there(newest: Snapshot, key: Sequence[str]) -> None:
    if missing := [name for name in key if name not in newest.schema.names]:
        raise TableUnfit(
            str(newest),
            [f"has no column {name!r}, of the key" for name in missing],
            expected="rows whose key tells which of them new ones replace",
            next="set `mode: replace` and ingest a source that has all rows; or another `key` or `name`",
        )


def _remove_merged(committed: Committed, rows: Staged, *, run_id: str) -> None:
    """The staged files, whose rows MERGE has copied; unless they are files of the table."""
    staged = {file.path for file in rows.files}
    if not committed.written or not staged & committed.table.data_files.keys():
        conditional.remove_staged(committed.table.uri, run_id)
