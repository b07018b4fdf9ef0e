"""Prepare Spark once for a machine, for faster starts: download its jars, and archive the classes of a small workflow.

`python -m steps.core.spark.prepare` does so for the lake at LAKE_URI.
"""

import contextlib
import os
import secrets
import shutil
import sys
import time
from pathlib import Path

from pyspark.sql import SparkSession

from steps.core.errors import UserError
from steps.core.process import scratch
from steps.core.spark import connect_server, jars, java, session
from steps.core.storage import filesystem

UNUSED_SECONDS = 30 * 86_400


def prepare(*paths: str) -> None:
    """Download the jars and archive the classes, if that was not done before.

    `paths` are those of the lake: at s3:// Spark needs more jars.
    """
    remote = any(map(filesystem.is_remote, paths))
    jar_set = jars.needed(remote=remote)
    if jar_set.is_prepared():
        return
    java.check()
    with scratch.scratch_folder("workflow-spark-") as folder:
        draft = folder / "classes.jsa"
        os.environ[connect_server.TOKEN_VARIABLE] = secrets.token_hex(16)
        server = connect_server.Server(folder, small=True, remote=remote, archive_to=draft)
        server.start()
        try:
            _load_classes(session.connect(session.Channel(connect_server.wait_for_address(folder))), folder)
        finally:
            server.stop()
        if draft.exists():
            install(draft, jar_set.class_archive(jar_set.downloaded()))


def _load_classes(connection: SparkSession, folder: Path) -> None:
    """Do what steps do: aggregate the rows of a CSV file, and write them as Parquet."""
    source = folder / "rows.csv"
    source.write_text("number,text\n1.0,a\n2.0,b\n")
    rows = connection.read.option("header", True).csv(str(source)).localCheckpoint(eager=False)
    rows.selectExpr("count(*)", "sum(cast(xxhash64(to_json(struct(*))) as decimal(20, 0)))", "min(number)").collect()
    rows.selectExpr("try_cast(number as double)", "text").write.parquet(str(folder / "table"))
    connection.stop()


def install(draft: Path, archive: Path) -> None:
    """Put the archive in its place at once: a JVM that starts now sees a whole one or none. Those that no JVM has used
    for a month go, as each environment has its own, of 200 MB, and leaves it behind."""
    copy = archive.with_suffix(f".{os.getpid()}")  # on the same disk
    shutil.copyfile(draft, copy)
    copy.replace(archive)
    for other in archive.parent.glob("classes-*"):
        with contextlib.suppress(OSError):  # another process removes them, too, or another user
            if other.stat().st_mtime < time.time() - UNUSED_SECONDS:
                other.unlink()


if __name__ == "__main__":
    try:
        prepare(os.environ.get("LAKE_URI", "").replace("s3a:", "s3:", 1))
    except UserError as err:
        sys.exit(str(err))
