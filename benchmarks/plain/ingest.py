"""Baseline: Iris from scikit-learn into a Delta table, the usual way.

Reads   the Iris data set of scikit-learn: 150 flowers, lengths in cm
Writes  <lake>/iris: four lengths as double, species as text
"""

import argparse

from delta import configure_spark_with_delta_pip
from pyspark.sql import SparkSession
from sklearn.datasets import load_iris


def main() -> None:
    parser = argparse.ArgumentParser(description="Write Iris to a Delta table.")
    parser.add_argument("--lake", required=True, help="folder under which the tables lie")
    args = parser.parse_args()

    builder = (
        SparkSession.builder.appName("ingest")
        .master("local[*]")
        .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
        .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
    )
    spark = configure_spark_with_delta_pip(builder).getOrCreate()

    iris = load_iris(as_frame=True)
    flowers = iris.data.rename(
        columns={
            "sepal length (cm)": "sepal_length",
            "sepal width (cm)": "sepal_width",
            "petal length (cm)": "petal_length",
            "petal width (cm)": "petal_width",
        }
    )
    flowers["species"] = [str(iris.target_names[code]) for code in iris.target]

    table = spark.createDataFrame(flowers)
    table.write.format("delta").mode("overwrite").save(f"{args.lake}/iris")
    print(f"wrote {len(flowers)} flowers to {args.lake}/iris")
    spark.stop()


if __name__ == "__main__":
    main()
