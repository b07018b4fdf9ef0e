"""The jars that Spark needs beyond its own, downloaded once a machine, and the archive of their classes."""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pyspark

from steps.core.spark import java

# What these ask for and Spark has already; older copies of it would hide Spark's own.
IN_SPARK = ("com.*", "javax.*", "commons-*", "io.airlift", "io.netty")
IN_SPARK_TOO = (
    *("org.apache.httpcomponents", "org.apache.logging.log4j", "org.apache.parquet", "org.locationtech.jts"),
    *("org.roaringbitmap", "org.slf4j", "org.wildfly.openssl", "org.xerial.snappy"),
)
HADOOP, AWS_SDK = "3.5.0", "2.35.4"  # Hadoop's as in Spark, and the SDK that this Hadoop is built with


@dataclass(frozen=True, kw_only=True)
class JarSet:
    """`packages` and `excludes` as Spark's settings take them."""

    packages: str
    excludes: str

    @property
    def folder(self) -> Path:
        """Where this set alone is kept, so that no jar of another is put beside its own."""
        digest = hashlib.sha256(f"{self.packages} {self.excludes}".encode()).hexdigest()
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return cache / "tabular-workflow" / f"jars-{digest[:16]}"

    @contextlib.contextmanager
    def first_download(self) -> Iterator[list[Path]]:
        """The jars, or [] the first time: Spark then downloads them, one process at a time."""
        if jars := self.downloaded():
            yield jars
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self.downloaded()
            self._done.touch()

    def downloaded(self) -> list[Path]:
        """The jars, [] as long as not all are there."""
        return sorted((self.folder / "jars").glob("*.jar")) if self._done.exists() else []

    def settings(self, jars: list[Path]) -> dict[str, str]:
        """Spark's settings for `jars`, or for downloading them."""
        if jars:  # on the class path itself: no copy into each session, and the class archive covers them
            return {"spark.driver.extraClassPath": os.pathsep.join(map(str, jars))}
        return {
            "spark.jars.packages": self.packages,
            "spark.jars.excludes": self.excludes,
            "spark.jars.ivy": str(self.folder),
        }

    def class_archive(self, jars: list[Path]) -> Path:
        """Where the JVM's class-data archive for these jars and this Java lies; it halves a small job's Spark time.

        The JVM takes none that was made of older files, and does not say so: their times are in its name.
        """
        files = [*sorted(Path(pyspark.__file__).parent.glob("jars/*.jar")), *jars]
        parts = [java.check(), *(f"{file} {file.stat().st_mtime_ns}" for file in files)]
        return self.folder / f"classes-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:16]}.jsa"

    def is_prepared(self) -> bool:
        """Whether the jars are there, and their class archive for this Java."""
        jars = self.downloaded()
        return bool(jars) and self.class_archive(jars).exists()

    @property
    def _done(self) -> Path:
        return self.folder / "done"


def needed(*, remote: bool) -> JarSet:
    """Those for tables at s3://, or for tables in folders alone."""
    return for_object_stores() if remote else for_folders()


def for_folders() -> JarSet:
    """Delta's."""
    return JarSet(packages=_delta(), excludes=",".join(f"{each}:*" for each in (*IN_SPARK, "org.*")))


def for_object_stores() -> JarSet:
    """Delta's, and Hadoop's S3 client with those parts of the AWS SDK that it uses: the whole SDK would be 600 MB."""
    aws = ("s3", "s3-transfer-manager", "sts", "apache-client", "netty-nio-client")
    packages = [_delta(), f"org.apache.hadoop:hadoop-aws:{HADOOP}"]
    packages += [f"software.amazon.awssdk:{part}:{AWS_SDK}" for part in aws]
    excludes = [f"{each}:*" for each in (*IN_SPARK, *IN_SPARK_TOO)]
    excludes += ["org.apache.hadoop:hadoop-c*", "software.amazon.awssdk:bundle"]
    return JarSet(packages=",".join(packages), excludes=",".join(excludes))


def _delta() -> str:
    return f"io.delta:delta-spark_{pyspark.__version__.rpartition('.')[0]}_2.13:{version('delta-spark')}"
