"""Download the jars that steps/core/spark/jars.py names and put them among Spark's own, for all who use this image."""

import shutil
from pathlib import Path

import pyspark
from pyspark.conf import SparkConf
from pyspark.java_gateway import launch_gateway

from steps.core.spark.jars import for_object_stores


def main() -> None:
    jars = for_object_stores()
    gateway = launch_gateway(SparkConf(loadDefaults=False).setAll(list(jars.settings([]).items())))
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait()
    spark = Path(pyspark.__file__).parent / "jars"
    for jar in (jars.folder / "jars").glob("*.jar"):
        shutil.move(jar, spark / jar.name)


if __name__ == "__main__":
    main()
