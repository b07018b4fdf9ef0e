"""Baseline: score the Delta table with the registered model, the usual way.

Reads   <lake>/iris and models:/iris_plain@staging; MLFLOW_TRACKING_URI from the environment
Writes  <lake>/iris_predictions: the columns of iris and prediction, the species as text
"""

import argparse

import mlflow
from delta import configure_spark_with_delta_pip
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

FEATURES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]  # cm
MODEL_URI = "models:/iris_plain@staging"


def main() -> None:
    parser = argparse.ArgumentParser(description="Score <lake>/iris into <lake>/iris_predictions.")
    parser.add_argument("--lake", required=True, help="folder under which the tables lie")
    args = parser.parse_args()

    builder = (
        SparkSession.builder.appName("infer")
        .master("local[*]")
        .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
        .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
    )
    spark = configure_spark_with_delta_pip(builder).getOrCreate()

    flowers = spark.read.format("delta").load(f"{args.lake}/iris")
    predict = mlflow.pyfunc.spark_udf(spark, MODEL_URI, result_type="long")
    metadata = mlflow.models.get_model_info(MODEL_URI).metadata or {}
    names = F.array(*[F.lit(name) for name in metadata["species"]])
    predictions = flowers.withColumn("prediction", F.get(names, predict(F.struct(*FEATURES))))

    predictions.write.format("delta").mode("overwrite").save(f"{args.lake}/iris_predictions")
    print(f"wrote predictions of {MODEL_URI} to {args.lake}/iris_predictions")
    spark.stop()


if __name__ == "__main__":
    main()
