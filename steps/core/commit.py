"""Commit rows to a Delta table: one writer after the other, and once for what the rows are made of."""

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame

from steps.core import lake, lease, lifetime, machine, spark, storage

ATTEMPTS = 10  # against writers on other machines, whom the lock does not hold; each that is lost, another has won
# What Delta says of a commit that lost against another writer's.
CONFLICTS = ("DELTA_CONCURRENT_", "DELTA_METADATA_CHANGED", "DELTA_PROTOCOL_CHANGED")


@dataclass(frozen=True, kw_only=True)
class Committed:
    """The pinned version, and whether it was written now or was there already."""

    table: lake.TableUri
    written: bool


def once(
    table: lake.TableUri,
    *,
    made_of: Mapping[str, str],
    made_by: Mapping[str, str],
    write: Callable[[str], None],
) -> Committed:
    """Let `write` commit with the metadata that it is handed, unless the newest commit is made of the same.

    `made_by` goes into the metadata too; its `run_id` is one that no other commit has.
    """
    for attempt in range(1, ATTEMPTS + 1):
        with _turn(table, run_id=made_by["run_id"]):
            newest = lake.newest_whole(table)
            if newest and made_of.items() <= newest.metadata.items():
                return Committed(table=lake.TableUri(table.path, newest.version), written=False)
            try:
                write(json.dumps({**made_of, **made_by}))
            except lifetime.Interrupted:
                spark.hang_up(server_may_be_gone=True)  # what the server is at is cancelled before another's turn
                raise
            except PySparkException as err:
                if attempt == ATTEMPTS or not (err.getCondition() or "").startswith(CONFLICTS):
                    raise
                continue
            if written := lake.committed_by(made_by["run_id"], table):
                return Committed(table=written, written=True)
            # another's commit has replaced ours
    raise RuntimeError(f"{ATTEMPTS} commits to {table} were replaced by others")


def overwrite(rows: DataFrame, table: lake.TableUri, *, metadata: str) -> None:
    """`rows` as the newest version of `table`, whatever its columns were."""
    writer = rows.write.format("delta").mode("overwrite").option("overwriteSchema", True)
    writer.options(**lake.KEPT).option("userMetadata", metadata).save(storage.for_spark(table.path))


def _turn(table: lake.TableUri, *, run_id: str) -> AbstractContextManager[None]:
    """A block in which no other of our processes writes the table."""
    if storage.is_remote(table.path):
        return lease.held(table.path, run_id=run_id)
    return machine.alone("table", table.path)  # on a local disk Delta's own check and rename are two steps
