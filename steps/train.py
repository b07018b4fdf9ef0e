"""Train a classifier on one version of a table and register it.

Reads   the table's train part; the validation part only to stop early
Writes  a new version of the config's model: booster, schema, signature, input example; metrics for each round,
        learning curve and feature importance as pictures
Hands on  output.model, models:/<name>/<version>
Fails   TableNotFound, TableVersionGone, TableUnfit (a column is missing, one class, an empty part)
"""

import hashlib
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types.schema import AnyType, ColSpec, Map, TensorSpec
from mlflow.types.schema import Schema as MlflowSchema

from steps.core import config
from steps.core.errors import TableUnfit
from steps.core.models import loading, plots, registry, scorer
from steps.core.models.lean_xgboost import xgboost
from steps.core.models.split import Parts, SplitSettings, labelled, more_rows, settings_of, split
from steps.core.parameters import Hyperparameters, parameters
from steps.core.process import loaded_code
from steps.core.tables import location, snapshot
from steps.core.workflow import entry_point
from steps.core.workflow.step_spec import StepSpec

METRIC = "mlogloss"  # XGBoost's multi-class log loss, nats per row
REQUIREMENTS = ("mlflow", "xgboost", "pandas", "numpy")  # of the model where it is loaded


@parameters
class TrainParameters(Hyperparameters):
    config: str = "configs/iris.yaml"
    table: str = ""
    lake: str = ""


SPEC = StepSpec(
    name="train",
    parameters=TrainParameters,
    config_keys=("columns", "key", "target", "task", "split", "model"),
    works_on=("table",),
    outputs=("model",),
    spark="large tables",  # not for this step: infer needs it afterwards, and it starts while this one works
)


@dataclass(frozen=True, kw_only=True)
class Fit:
    """`booster` holds the best rounds only; `history` the metric of each part after each round that was tried."""

    booster: xgboost.Booster
    best_round: int
    history: dict[str, list[float]]


def fit_booster(parts: Parts, schema: scorer.Schema, *, model: config.Model) -> Fit:
    """Boost on `parts.train` until `parts.validation` has not got better for early_stopping_rounds."""
    train, validation = (_labelled_matrix(rows, schema) for rows in (parts.train, parts.validation))
    evaluations: dict[str, dict[str, list[float]]] = {}
    booster = xgboost.train(
        {
            "objective": "multi:softprob",
            "num_class": len(schema.classes),
            "eval_metric": METRIC,
            "max_depth": model.max_depth,
            "learning_rate": model.learning_rate,
            "seed": model.seed,
            "nthread": scorer.threads(train.num_row() * train.num_col()),
        },
        train,
        num_boost_round=model.num_boost_round,
        evals=[(train, "train"), (validation, "validation")],
        early_stopping_rounds=model.early_stopping_rounds,
        evals_result=evaluations,
        verbose_eval=False,
    )
    rounds = booster.best_iteration + 1
    history = {part: values[METRIC] for part, values in evaluations.items()}
    return Fit(booster=booster[:rounds], best_round=rounds, history=history)


def learn_schema(
    parts: Parts, settings: config.Config, *, split_settings: SplitSettings, table_uri: str
) -> scorer.Schema:
    """What the train part says of the features and the classes. TableUnfit when there is nothing to learn."""
    label_type = {"long": int, "boolean": bool, "string": str}[settings.columns[settings.target].type]
    labels = sorted({label_type(label) for label in parts.train[settings.target]})
    mistakes = [f"its {name} part has no labelled row" for name, rows in asdict(parts).items() if rows.empty]
    if len(labels) == 1:
        mistakes.append(f"{settings.target} has one value ({labels[0]}) in its train part")
    if labels and not parts.validation.empty and not parts.validation[settings.target].isin(labels).any():
        mistakes.append(f"no value of {settings.target} in its validation part is in its train part")
    if mistakes:
        with_label = pd.concat([parts.train, parts.validation, parts.test])
        raise TableUnfit(
            table_uri,
            mistakes,
            expected=f"rows in all three parts, with at least two values of {settings.target} to tell apart",
            next=f"{more_rows(with_label, split_settings)}, or change split or target in the config",
        )
    features = [
        scorer.Feature(
            name=name,
            type=settings.columns[name].type,  # type: ignore[arg-type]  # Config allows no dates among features
            levels=_levels(parts.train[name]) if settings.columns[name].type == "string" else None,
        )
        for name in settings.features
    ]
    return scorer.Schema(
        features=tuple(features),
        target=settings.target,
        classes=tuple(labels),
        split=asdict(split_settings),
        table_uri=table_uri,
    )


def signature_of(schema: scorer.Schema, target_type: str) -> ModelSignature:
    """Inputs are of MLflow's type Any: of every other type it casts or refuses values before the model sees them (a
    missing boolean becomes false, int64 is no double). The model itself is strict about the types of its features,
    which are in its metadata as `input_types`."""
    inputs: list[ColSpec | TensorSpec] = [ColSpec(AnyType(), feature.name) for feature in schema.features]
    outputs: list[ColSpec | TensorSpec] = [
        ColSpec(target_type, "prediction"),
        ColSpec("double", "probability"),
        ColSpec(Map("double"), "probabilities"),
    ]
    return ModelSignature(inputs=MlflowSchema(inputs), outputs=MlflowSchema(outputs))


def _labelled_matrix(rows: pd.DataFrame, schema: scorer.Schema) -> xgboost.DMatrix:
    known = rows[rows[schema.target].isin(schema.classes)]
    codes = {label: code for code, label in enumerate(schema.classes)}
    try:
        matrix = scorer.design_matrix(known, schema.features)
    except MlflowException as err:
        raise TableUnfit(
            schema.table_uri,
            [err.message],
            expected="values of the types that the config has under `columns`",
            next="ingest the table with this config, or pass another table",
        ) from err
    return xgboost.DMatrix(
        matrix,
        label=np.array([codes[label] for label in known[schema.target]]),
        feature_names=[feature.name for feature in schema.features],
        feature_types=scorer.feature_types(schema.features),
        enable_categorical=True,
    )


def _levels(values: pd.Series) -> tuple[str, ...]:
    return tuple(sorted(values.dropna().unique()))


def _log_history(fit: Fit, run_id: str) -> None:
    now = time.time_ns() // 10**6
    metrics = [
        Metric(f"{part}_{METRIC}", value, now, round_number)
        for part, values in fit.history.items()
        for round_number, value in enumerate(values, start=1)
    ]
    MlflowClient().log_batch(run_id, metrics=metrics)
    mlflow.log_metric("best_round", fit.best_round)
    mlflow.log_figure(plots.learning_curve(fit.history, best_round=fit.best_round, metric=METRIC), "learning_curve.png")
    gain = {name: float(value) for name, value in fit.booster.get_score(importance_type="total_gain").items()}  # type: ignore[arg-type]
    mlflow.log_figure(plots.feature_importance(gain), "feature_importance.png")


def _register(
    booster: bytes, schema: scorer.Schema, *, signature: ModelSignature, example: pd.DataFrame, name: str
) -> ModelVersion:
    """Log the model and register it as the next version of `name`."""
    with tempfile.TemporaryDirectory() as folder:
        files = {"booster": Path(folder, "booster.ubj"), "schema": Path(folder, "schema.json")}
        files["booster"].write_bytes(booster)
        files["schema"].write_text(schema.dumps(), encoding="utf-8")
        code = Path(folder, Path(scorer.__file__).name)
        code.write_bytes(loaded_code.source_of(scorer))  # what this process runs, also when the file was edited since
        try:
            with registry.changing(name):
                logged = mlflow.pyfunc.log_model(
                    name="model",
                    python_model=str(code),
                    artifacts={key: str(path) for key, path in files.items()},
                    signature=signature,
                    metadata={"input_types": {feature.name: feature.type for feature in schema.features}},
                    input_example=example,
                    pip_requirements=[f"{package}=={version(package)}" for package in REQUIREMENTS],
                    registered_model_name=name,
                )
        finally:
            loading.release_loaded_model()
    return registry.resolve(f"models:/{name}/{logged.registered_model_version}")


def main(argv: Sequence[str] | None = None) -> None:
    with entry_point.start(SPEC, argv) as (parameters, run):
        settings = config.load(parameters.config, home=location.home())
        settings = settings.with_hyperparameters(**parameters.hyperparameters())
        model = settings.model
        table = snapshot.open(
            location.parse_table(parameters.table or f"{location.lake_root(parameters.lake)}/{settings.name}")
        )
        run.reads(table=table)
        run.ran_with(table__uri=table, **{f"model__{key}": value for key, value in model.model_dump().items()})
        inputs = run.depends_on(settings, table=table)
        run.logs_table(table, context="train")

        rows = table.read(settings.training_columns).to_pandas()
        with_label = labelled(rows, settings)
        split_settings = settings_of(settings)
        parts = split(with_label, split_settings)
        schema = learn_schema(parts, settings, split_settings=split_settings, table_uri=str(table))
        counts = {f"{part}_rows": len(part_rows) for part, part_rows in asdict(parts).items()}
        mlflow.log_metrics({**counts, "unlabelled_rows": len(rows) - len(with_label)})

        fit = fit_booster(parts, schema, model=model)

        booster = bytes(fit.booster.save_raw("ubj"))
        _log_history(fit, run.run_id)
        registered = _register(
            booster,
            schema,
            signature=signature_of(schema, settings.columns[settings.target].type),
            example=parts.train[[feature.name for feature in schema.features]].head(3),
            name=model.name,
        )
        tags = {"table_uri": str(table), "run_id": run.run_id, "git_commit": run.git_commit}
        tags[registry.TABLE_IDENTITY] = inputs["table.identity"]
        tags[registry.BOOSTER_SHA256] = hashlib.sha256(booster).hexdigest()
        registry.tag(registered, tags)
        run.writes(model=registry.uri_of(registered))


if __name__ == "__main__":
    main()
