"""Baseline: a CSV file into a Delta table by Spark alone: types inferred by nobody, nothing checked.

Reads   a CSV file whose columns are numbers, but for a last one of text
Writes  <lake>/copy
"""

import argparse
import csv

from delta import configure_spark_with_delta_pip
from pyspark.sql import SparkSession


def main() -> None:
    parser = argparse.ArgumentParser(description="Copy a CSV file into a Delta table.")
    parser.add_argument("--source", required=True, help="the CSV file")
    parser.add_argument("--lake", required=True, help="folder under which the table lies")
    args = parser.parse_args()

    builder = (
        SparkSession.builder.appName("copy")
        .master("local[*]")
        .config("spark.driver.memory", "4g")
        .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
        .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
    )
    spark = configure_spark_with_delta_pip(builder).getOrCreate()

    with open(args.source, newline="", encoding="utf-8") as file:
        *numbers, label = next(csv.reader(file))
    schema = ", ".join([*(f"{name} double" for name in numbers), f"{label} string"])
    rows = spark.read.schema(schema).option("header", True).csv(args.source)
    rows.write.format("delta").mode("overwrite").save(f"{args.lake}/copy")
    spark.stop()


if __name__ == "__main__":
    main()
