"""What every engine is told to learn, and what it gives back. The engines are local_training and spark_training."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xgboost


@dataclass(frozen=True, kw_only=True)
class Block:
    """Some rows as XGBoost learns from them: `features` (n, columns) float32 with NaN for missing, `target` (n,), and
    how much each weighs, `weight` (n,): None when all weigh 1."""

    features: np.ndarray
    target: np.ndarray
    weight: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that is learnt by, but for the rows. `parameters` are those of xgboost.train(); `names` and `types` are the
    matrix's columns in XGBoost's terms ("c" of categories, "q" of quantities). `encode` makes a block of labelled rows;
    Spark's workers call it too, so it can be pickled. Without `early_stopping_rounds` all rounds are done."""

    parameters: dict[str, Any]
    num_boost_round: int
    early_stopping_rounds: int | None
    names: list[str]
    types: list[str]
    encode: Callable[[pd.DataFrame], Block]

    @property
    def max_bin(self) -> int | None:
        """Into how many bins a column's values go; None for XGBoost's default, and for what it will refuse."""
        try:
            return int(self.parameters["max_bin"])
        except (KeyError, ValueError):
            return None


@dataclass(frozen=True, kw_only=True)
class Boosted:
    """`booster` has all rounds that were tried, of which the first `best_round` are the best; `history` has each metric
    of the parts train and validation after each round, by part and name."""

    booster: xgboost.Booster
    best_round: int
    history: dict[str, dict[str, list[float]]]


def total_gain(booster: xgboost.Booster) -> dict[str, float]:
    """How much each column of the matrix that is in a tree has lowered the loss, over all its splits."""
    gain = booster.get_score(importance_type="total_gain")
    return {name: float(value) for name, value in gain.items()}  # type: ignore[arg-type]  # lists are of linear models only
