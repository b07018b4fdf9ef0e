"""Baseline: a Delta table copied by Spark: what reading and writing the rows costs, without a prediction.

Reads   a Delta table
Writes  <lake>/copy
"""

import argparse

from delta import configure_spark_with_delta_pip
from pyspark.sql import SparkSession


def main() -> None:
    parser = argparse.ArgumentParser(description="Copy a Delta table.")
    parser.add_argument("--table", required=True, help="its folder")
    parser.add_argument("--lake", required=True, help="folder under which the copy lies")
    args = parser.parse_args()

    builder = (
        SparkSession.builder.appName("copy")
        .master("local[*]")
        .config("spark.driver.memory", "4g")
        .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
        .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
    )
    spark = configure_spark_with_delta_pip(builder).getOrCreate()
    spark.read.format("delta").load(args.table).write.format("delta").save(f"{args.lake}/copy")
    spark.stop()


if __name__ == "__main__":
    main()
