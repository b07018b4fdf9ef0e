"""The jars that Spark needs beyond its own, downloaded once for a machine, and the archive of their classes."""

import contextlib
import hashlib
import os
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pyspark

from steps.core.spark import java

# Dependencies of the jars that Spark has already; older copies would hide Spark's own.
IN_SPARK = ("com.*", "javax.*", "commons-*", "io.airlift", "io.netty")
IN_SPARK_TOO = (
    *("org.apache.httpcomponents", "org.apache.logging.log4j", "org.apache.parquet", "org.locationtech.jts"),
    *("org.roaringbitmap", "org.slf4j", "org.wildfly.openssl", "org.xerial.snappy"),
)
POSTGRESQL = "42.7.14"  # its JDBC driver
HADOOP, AWS_SDK = "3.5.0", "2.35.4"  # Hadoop as in Spark, and the SDK that this Hadoop is built with


@dataclass(frozen=True, kw_only=True)
class JarSet:
    """`packages` and `excludes` as Spark's --packages and --exclude-packages take them."""

    packages: str
    excludes: str

    @property
    def folder(self) -> Path:
        """The folder of this set alone: no jar of another set is put beside its own."""
        digest = hashlib.sha256(f"{self.packages} {self.excludes}".encode()).hexdigest()
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return cache / "tabular-workflow" / f"jars-{digest[:16]}"

    def downloaded(self) -> list[Path]:
        """The jars, [] until mark_downloaded()."""
        return sorted((self.folder / "jars").glob("*.jar")) if self._done.exists() else []

    def mark_downloaded(self) -> None:
        """All jars are there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._done.touch()

    def settings(self, jars: list[Path]) -> dict[str, str]:
        """Spark's settings for these jars."""
        # on the class path itself: no copy for each session, and the class archive covers them
        return {"spark.driver.extraClassPath": os.pathsep.join(map(str, jars))}

    def class_archive(self, jars: list[Path]) -> Path:
        """The path of the JVM's class-data archive for these jars and this Java. It halves a small job's Spark time.

        The JVM silently ignores an archive of older files, so their times are part of the name.
        """
        files = [*sorted(Path(pyspark.__file__).parent.glob("jars/*.jar")), *jars]
        parts = [java.check(), *(f"{file} {file.stat().st_mtime_ns}" for file in files)]
        return self.folder / f"classes-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:16]}.jsa"

    def archive_to_use(self, jars: list[Path]) -> Path | None:
        """The archive where there is one, noted as used now: prepare.install() removes those that nobody uses."""
        archive = self.class_archive(jars)
        with contextlib.suppress(OSError):  # there is none, or it is another user's
            os.utime(archive)
        return archive if archive.exists() else None

    def is_prepared(self) -> bool:
        """Whether the jars are there, and their class archive for this Java."""
        jars = self.downloaded()
        return bool(jars) and self.class_archive(jars).exists()

    @property
    def _done(self) -> Path:
        return self.folder / "done"


def needed(*, remote: bool, database: bool = False) -> JarSet:
    """The jars for tables at s3:// (`remote`), or in folders alone; and the driver for a source in a `database`."""
    jar_set = for_object_stores() if remote else for_folders()
    return with_driver(jar_set) if database else jar_set


def for_folders() -> JarSet:
    """Delta's jars."""
    return JarSet(packages=_delta(), excludes=",".join(f"{group}:*" for group in (*IN_SPARK, "org.*")))


def for_object_stores() -> JarSet:
    """Delta's jars, and Hadoop's S3 client with the parts of the AWS SDK that it uses: the whole SDK is 600 MB."""
    aws = ("s3", "s3-transfer-manager", "sts", "apache-client", "netty-nio-client")
    packages = [_delta(), f"org.apache.hadoop:hadoop-aws:{HADOOP}"]
    packages += [f"software.amazon.awssdk:{part}:{AWS_SDK}" for part in aws]
    excludes = [f"{group}:*" for group in (*IN_SPARK, *IN_SPARK_TOO)]
    excludes += ["org.apache.hadoop:hadoop-c*", "software.amazon.awssdk:bundle"]
    return JarSet(packages=",".join(packages), excludes=",".join(excludes))


def with_driver(jar_set: JarSet) -> JarSet:
    """A set with PostgreSQL's driver, which is all that there is in its group."""
    groups = jar_set.excludes.replace("org.*:*", "org.[^p]*:*")  # Spark excludes what it is asked for as well
    return JarSet(
        packages=f"{jar_set.packages},org.postgresql:postgresql:{POSTGRESQL}",
        excludes=f"{groups},org.checkerframework:*",
    )


def _delta() -> str:
    return f"io.delta:delta-spark_{pyspark.__version__.rpartition('.')[0]}_2.13:{version('delta-spark')}"
