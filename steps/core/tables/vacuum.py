"""Delete data files of Delta tables by Delta's own VACUUM, which also checks that the newest version needs none."""

import os
from collections.abc import Mapping
from urllib.parse import quote

import pyarrow as pa
from pyspark.sql import SparkSession

from steps.core.errors import DiskUnusable
from steps.core.spark.session import spark_session
from steps.core.storage import filesystem

# Delta's own check goes by age alone; who needs a version is known already. Its record of a vacuum would be two new
# versions of the table.
SETTINGS = {
    "spark.databricks.delta.retentionDurationCheck.enabled": "false",
    "spark.databricks.delta.vacuum.logging.enabled": "false",
}


def delete_files(files_of: Mapping[str, Mapping[str, int]]) -> None:
    """Delete files of tables: by the table's path, the size in bytes of each by its name relative to the table.

    Spark is started where there is something to delete. What the newest version needs stays. DiskUnusable, before any
    file is deleted, for a folder of which this user may delete none; and afterwards where a file is still there.
    """
    files_of = {path: files for path, files in files_of.items() if files}
    if not files_of:
        return
    _check_rights(files_of)
    with spark_session(*files_of, data_bytes=0) as session:
        for name, value in SETTINGS.items():
            session.conf.set(name, value)
        for path, files in files_of.items():
            _vacuum(path, files, session)


def _check_rights(files_of: Mapping[str, Mapping[str, int]]) -> None:
    folders = {os.path.dirname(f"{path}/{name}") for path, files in files_of.items() for name in files}
    for folder in sorted(folders):
        is_there = not filesystem.is_remote(folder) and os.path.exists(folder)
        if is_there and not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
            reason = "this user may not delete files in it; no file was deleted"
            raise DiskUnusable(folder, reason, next="give the right to write there, and run it again")


def _vacuum(path: str, files: Mapping[str, int], session: SparkSession) -> None:
    spark_path = filesystem.for_spark(path)
    root = spark_path if filesystem.is_remote(path) else f"file:{spark_path}"
    inventory = {
        "path": [f"{root}/{quote(name)}" for name in files],
        "length": list(files.values()),
        "isDir": [False] * len(files),
        "modificationTime": [0] * len(files),  # older than any limit: whether a file is old enough is decided already
    }
    session.createDataFrame(pa.table(inventory)).createOrReplaceTempView("unneeded")
    quoted = spark_path.replace("`", "``")
    # Of any other number of hours Delta 4.4 takes the table's own retention in its place.
    session.sql(f"VACUUM delta.`{quoted}` USING INVENTORY (SELECT * FROM unneeded) RETAIN 0 HOURS").collect()
    if left := files.keys() - filesystem.missing(path, files):
        reason = f"{len(left)} of {len(files)} files that were to be deleted are still there, such as {min(left)}"
        raise DiskUnusable(path, reason, next="see whether it can be deleted by this user, and run it again")
    for folder in {os.path.dirname(name) for name in files} - {""}:
        filesystem.remove_if_empty(f"{path}/{folder}")
