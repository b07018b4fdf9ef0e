"""Prepare Spark once a machine: download the jars, and archive the classes that a small workflow loads."""

import os
import secrets
import sys
from pathlib import Path

from pyspark.sql import SparkSession

from steps.core.errors import UserError
from steps.core.process import scratch
from steps.core.spark import jars, server, session
from steps.core.storage import filesystem


def prepare(*paths: str) -> None:
    """Once a machine: download the jars and archive the classes that a small workflow loads, for faster starts.

    `paths` are those of the lake: at s3:// Spark needs more jars.
    """
    remote = any(map(filesystem.is_remote, paths))
    jar_set = jars.needed(remote=remote)
    if jar_set.is_prepared():
        return
    with scratch.scratch_folder("workflow-spark-") as folder:
        with session.spark_session(*paths, data_bytes=0):
            pass
        archive = jar_set.class_archive(jar_set.downloaded())
        draft = folder / "classes.jsa"
        os.environ[server.TOKEN] = secrets.token_hex(16)
        connect_server = server.Server(folder, small=True, remote=remote, archive_to=draft)
        connect_server.start()
        try:
            _exercise(session.connect(session.Channel(server.address_of(folder))), folder)
        finally:
            connect_server.stop()
        if draft.exists():
            os.replace(_moved_beside(draft, archive), archive)


def _moved_beside(draft: Path, archive: Path) -> Path:
    beside = archive.with_suffix(f".{os.getpid()}")
    beside.write_bytes(draft.read_bytes())
    return beside


def _exercise(connection: SparkSession, folder: Path) -> None:
    """Load the classes that steps will need: an aggregate over a CSV file, and its rows written as Parquet."""
    source = folder / "rows.csv"
    source.write_text("number,text\n1.0,a\n2.0,b\n")
    rows = connection.read.option("header", True).csv(str(source)).localCheckpoint(eager=False)
    rows.selectExpr("count(*)", "sum(cast(xxhash64(to_json(struct(*))) as decimal(20, 0)))", "min(number)").collect()
    rows.selectExpr("try_cast(number as double)", "text").write.parquet(str(folder / "table"))
    connection.stop()


if __name__ == "__main__":
    try:
        prepare(os.environ.get("LAKE_URI", "").replace("s3a:", "s3:", 1))
    except UserError as err:
        sys.exit(str(err))
