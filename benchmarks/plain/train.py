"""Baseline: train and register an XGBoost classifier on the Delta table, the usual way.

Reads   <lake>/iris; MLFLOW_TRACKING_URI from the environment
Writes  one MLflow run, a new version of the model iris_plain, the alias "staging" on it
"""

import argparse

import mlflow
import pandas as pd
from delta import configure_spark_with_delta_pip
from mlflow.models import infer_signature
from pyspark.sql import SparkSession
from sklearn.metrics import accuracy_score, f1_score, log_loss
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import LabelEncoder
from xgboost import XGBClassifier

FEATURES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]  # cm
MODEL_NAME = "iris_plain"
SEED = 7


def main() -> None:
    parser = argparse.ArgumentParser(description="Train on <lake>/iris and register the model.")
    parser.add_argument("--lake", required=True, help="folder under which the tables lie")
    args = parser.parse_args()

    builder = (
        SparkSession.builder.appName("train")
        .master("local[*]")
        .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
        .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
    )
    spark = configure_spark_with_delta_pip(builder).getOrCreate()
    flowers: pd.DataFrame = spark.read.format("delta").load(f"{args.lake}/iris").toPandas()
    spark.stop()

    features = flowers[FEATURES]
    encoder = LabelEncoder()
    species = encoder.fit_transform(flowers["species"])
    rest_x, test_x, rest_y, test_y = train_test_split(
        features, species, test_size=0.2, stratify=species, random_state=SEED
    )
    train_x, valid_x, train_y, valid_y = train_test_split(
        rest_x, rest_y, test_size=0.125, stratify=rest_y, random_state=SEED
    )

    params = {"n_estimators": 200, "max_depth": 4, "learning_rate": 0.1, "early_stopping_rounds": 20}
    with mlflow.start_run(run_name="train"):
        mlflow.log_params(params)
        model = XGBClassifier(**params, random_state=SEED)
        model.fit(train_x, train_y, eval_set=[(valid_x, valid_y)], verbose=False)

        predicted = model.predict(test_x)
        metrics = {
            "accuracy": accuracy_score(test_y, predicted),
            "f1_macro": f1_score(test_y, predicted, average="macro"),
            "mlogloss": log_loss(test_y, model.predict_proba(test_x)),
        }
        mlflow.log_metrics(metrics)
        logged = mlflow.xgboost.log_model(
            model,
            name="model",
            signature=infer_signature(train_x, model.predict(train_x)),
            input_example=train_x.head(5),
            registered_model_name=MODEL_NAME,
            metadata={"species": encoder.classes_.tolist()},
        )

    client = mlflow.MlflowClient()
    client.set_registered_model_alias(MODEL_NAME, "staging", str(logged.registered_model_version))
    print(f"registered {MODEL_NAME} version {logged.registered_model_version}: {metrics}")


if __name__ == "__main__":
    main()
