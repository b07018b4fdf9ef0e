"""Baseline: score a Delta table by mlflow.pyfunc.spark_udf, the usual way.

Reads   a Delta table, and a model that mlflow.xgboost has saved in a folder
Writes  <lake>/predictions: the columns of the table and prediction
"""

import argparse

import mlflow
from delta import configure_spark_with_delta_pip
from pyspark.sql import SparkSession
from pyspark.sql import functions as F


def main() -> None:
    parser = argparse.ArgumentParser(description="Score a Delta table.")
    parser.add_argument("--table", required=True, help="its folder")
    parser.add_argument("--model", required=True, help="the model's folder")
    parser.add_argument("--lake", required=True, help="folder under which the predictions lie")
    args = parser.parse_args()

    builder = (
        SparkSession.builder.appName("score")
        .master("local[*]")
        .config("spark.driver.memory", "4g")
        .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
        .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
    )
    spark = configure_spark_with_delta_pip(builder).getOrCreate()
    rows = spark.read.format("delta").load(args.table)
    predict = mlflow.pyfunc.spark_udf(spark, args.model, result_type="double")
    features = [name for name in rows.columns if name != "label"]
    scored = rows.withColumn("prediction", predict(F.struct(*features)))
    scored.write.format("delta").save(f"{args.lake}/predictions")
    spark.stop()


if __name__ == "__main__":
    main()
