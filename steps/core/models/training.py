"""Boost a model on the train part of a table: what its schema is, and how many rounds are best."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial

import pandas as pd
import xgboost
from mlflow.exceptions import MlflowException

from steps.core import config
from steps.core.errors import ConfigInvalid, TableUnfit
from steps.core.models import engines, features, local_training, objectives, scorer, targets
from steps.core.models.boosting import Block, Boosted, Recipe
from steps.core.models.split import Parts, SplitSettings, more_rows
from steps.core.models.training_rows import Survey, TrainingRows
from steps.core.process import scratch

NOT_BY_SPARK = ("device",)  # of XGBoost's parameters: a worker has the cores of its task


@dataclass(frozen=True, kw_only=True)
class Fit:
    """`booster` holds the best rounds only; `history` the `metric` of each part after each round that was tried."""

    booster: xgboost.Booster
    best_round: int
    metric: str
    history: dict[str, list[float]]


def fit_booster(
    parts: Parts,
    schema: scorer.Schema,
    *,
    model: config.Model,
    stop_early: bool = True,
    callbacks: Sequence[xgboost.callback.TrainingCallback] = (),
) -> Fit:
    """Boost on `parts.train` until `parts.validation` has not got better for early_stopping_rounds; without
    `stop_early` for all num_boost_round, however good they are there.

    The weights of rows and classes count in both parts. The same rows, schema, settings and number of threads give the
    same bytes.
    """
    recipe = recipe_of(parts.train, schema, model, stop_early=stop_early)
    train, validation = (recipe.encode(rows) for rows in (parts.train, parts.validation))
    return _fit_of(local_training.boost(recipe, lambda: [train], lambda: [validation], callbacks=callbacks), schema)


def fit_rows(
    rows: TrainingRows,
    survey: Survey,
    schema: scorer.Schema,
    *,
    model: config.Model,
    engine: engines.Engine,
    stop_early: bool = True,
) -> Fit:
    """fit_booster() of rows that are read from their table as they are needed, by that engine."""
    recipe = recipe_of(survey.parts.train, schema, model, stop_early=stop_early)
    if engine.name == "spark":
        from steps.core.models import spark_training  # PySpark takes half a second, which others do not pay

        return _fit_of(spark_training.boost(recipe, rows.table, rows.settings, rows.split_settings), schema)

    def blocks(part: str) -> Iterator[Block]:
        return map(recipe.encode, rows.of(part, survey=survey))

    with scratch.scratch_folder("workflow-train-") if engine.on_disk else nullcontext() as cache:
        boosted = local_training.boost(recipe, lambda: blocks("train"), lambda: blocks("validation"), cache=cache)
        return _fit_of(boosted, schema)


def check_engine(engine: engines.Engine, model: config.Model, *, path: str) -> None:
    """ConfigInvalid when `model.params` has what that engine cannot do; `path` is the config's."""
    if engine.name == "spark" and (found := [name for name in NOT_BY_SPARK if name in model.params]):
        names = ", ".join(found)
        raise ConfigInvalid(
            path,
            [f"model.params: {names} cannot be given to Spark's workers; leave it out, or train with -P engine=local"],
        )


def matrix_bytes(schema: scorer.Schema, *, rows: int) -> int:
    """What training on so many rows takes in memory at most."""
    columns, outputs = len(scorer.column_names(schema.features)), max(1, len(schema.classes))
    return engines.estimated_bytes(rows=rows, columns=columns, outputs=outputs)


def recipe_of(train: pd.DataFrame, schema: scorer.Schema, model: config.Model, *, stop_early: bool = True) -> Recipe:
    """What is learnt, for any engine. `train` has the targets of the train part, by which classes are weighed."""
    names = scorer.column_names(schema.features)
    return Recipe(
        parameters=objectives.parameters_of(schema, model, cells=len(train) * len(names)),
        num_boost_round=model.num_boost_round,
        early_stopping_rounds=model.early_stopping_rounds if stop_early else None,
        names=names,
        types=scorer.feature_types(schema.features),
        encode=partial(encode, schema=schema, class_weights=targets.class_weights(train, schema, model)),
    )


def _fit_of(boosted: Boosted, schema: scorer.Schema) -> Fit:
    """What an engine has boosted, with the best rounds only."""
    (metric,) = boosted.history["train"]
    return Fit(
        booster=boosted.booster[: boosted.best_round],
        best_round=boosted.best_round,
        metric=_metric_name(metric, schema),
        history={part: values[metric] for part, values in boosted.history.items()},
    )


def learn_schema(
    parts: Parts,
    settings: config.Config,
    *,
    split_settings: SplitSettings,
    table_uri: str,
    seen: pd.DataFrame | None = None,
    labelled: Callable[[], pd.DataFrame] | None = None,
) -> scorer.Schema:
    """What the train part says of the features and the classes. TableUnfit when there is nothing to learn.

    Where `parts` have targets and weights alone, `seen` has the values of the train part's features, and `labelled()`
    reads rows as a whole, to tell what is wrong with them.
    """
    classes = targets.classes_of(parts.train, settings)
    seen = parts.train if seen is None else seen
    known = features.features_of(seen, settings)
    mistakes, of_features = targets.mistakes(parts, settings, classes), list[str]()
    if len(parts.train):
        of_features = features.mistakes(seen, known, where="its train part")
    if empty := [name for name, rows in vars(parts).items() if rows.empty]:
        with_label = labelled() if labelled else pd.concat([parts.train, parts.validation, parts.test])
        next = f"{more_rows(with_label, split_settings)}, or change split in the config"
        mistakes = [_empty_part(name, next) for name in empty] + mistakes
        if parts.train.empty and len(with_label):  # rows without a value may all be in one part
            of_features = features.mistakes(with_label, known, where="all of its rows")
    mistakes += [_unfit_features(line) for line in of_features]
    if mistakes:
        raise TableUnfit(
            table_uri,
            [mistake.reason for mistake in mistakes],
            expected="; ".join(dict.fromkeys(mistake.expected for mistake in mistakes)),
            next="; ".join(dict.fromkeys(mistake.next for mistake in mistakes)),
        )
    return scorer.Schema(
        features=known,
        target=settings.target,
        classes=classes,
        split=asdict(split_settings),
        table_uri=table_uri,
        task=settings.task,
        objective=objectives.objective_of(settings.model, class_count=len(classes)),
        target_transform=settings.model.target_transform,
        weight=settings.weight,
    )


def _empty_part(name: str, next: str) -> targets.Mistake:
    return targets.Mistake(
        reason=f"its {name} part has no labelled row", expected="labelled rows in all three parts", next=next
    )


def _unfit_features(reason: str) -> targets.Mistake:
    return targets.Mistake(
        reason=reason,
        expected="features with values that rows have in common",
        next="correct these columns in the source or in the config",
    )


def encode(rows: pd.DataFrame, schema: scorer.Schema, class_weights: dict[targets.Label, float]) -> Block:
    """`rows` as XGBoost learns from them, without those of a class that the train part does not have."""
    known = rows[rows[schema.target].isin(schema.classes)] if schema.task == "classification" else rows
    try:
        matrix = scorer.design_matrix(known, schema.features)
    except MlflowException as err:
        raise TableUnfit(
            schema.table_uri,
            [err.message],
            expected="values of the types that the config has under `columns`",
            next="ingest the table with this config, or pass another table",
        ) from err
    weight = targets.row_weights(known, schema, class_weights)
    return Block(features=matrix, target=targets.to_learn(known, schema), weight=weight)


def _metric_name(metric: str, schema: scorer.Schema) -> str:
    """XGBoost's name of the metric, as MLflow takes it: tweedie-nloglik for tweedie-nloglik@1.5."""
    name = metric.partition("@")[0]
    return f"log1p_{name}" if schema.target_transform == "log" else name
