"""Delete data files of Delta tables by Delta's own VACUUM, which also checks that the newest version needs none."""

import os
from collections.abc import Mapping
from urllib.parse import quote

import pyarrow as pa
from pyspark.sql import SparkSession

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

    Spark is started where there is something to delete. What the newest version needs stays.
    """
    files_of = {path: files for path, files in files_of.items() if files}
    if not files_of:
        return
    with spark_session(*files_of, data_bytes=0) as session:
        for name, value in SETTINGS.items():
            session.conf.set(name, value)
        for path, files in files_of.items():
            _vacuum(path, files, session)


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
        raise RuntimeError(f"Delta's VACUUM left {', '.join(sorted(left))} of {path}")
    for folder in {os.path.dirname(name) for name in files} - {""}:
        filesystem.remove_if_empty(f"{path}/{folder}")
