"""Boost in this process, from rows that are read some at a time: the matrix holds their bins, and no copy of them.

XGBoost reads the rows in several passes, four to find the bins' limits and to fill them. So the table is read several
times; one that is small beside the memory of this machine once, as its encoded rows are kept.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xgboost

from steps.core.models.boosting import Block, Boosted, Recipe
from steps.core.process import memory, progress

KEPT_SHARE = 0.1  # of the memory that is free now: encoded rows that take less are kept until their bins are made

type Blocks = Callable[[], Iterable[Block]]  # the same blocks in the same order, whenever it is called


def boost(
    recipe: Recipe,
    train: Blocks,
    validation: Blocks,
    *,
    cache: Path | None = None,
    callbacks: Sequence[xgboost.callback.TrainingCallback] = (),
) -> Boosted:
    """Boost on `train` until `validation` has not got better for early_stopping_rounds. With a folder `cache` the bins
    are kept in files there, which are read again for each level of each tree."""
    matrices = [_matrix(recipe, train, cache=cache and cache / "train")]
    matrices.append(_matrix(recipe, validation, cache=cache and cache / "validation", bins_of=matrices[0]))
    history: dict[str, dict[str, list[float]]] = {}
    with progress.shown() as shown:
        booster = xgboost.train(
            recipe.parameters,
            matrices[0],
            num_boost_round=recipe.num_boost_round,
            evals=list(zip(matrices, ("train", "validation"), strict=True)),
            early_stopping_rounds=recipe.early_stopping_rounds,
            evals_result=history,
            verbose_eval=False,
            callbacks=[*callbacks, _Rounds(shown, total=recipe.num_boost_round)],
        )
    stops = recipe.early_stopping_rounds is not None
    best_round = booster.best_iteration + 1 if stops else booster.num_boosted_rounds()
    return Boosted(booster=booster, best_round=best_round, history={part: dict(of) for part, of in history.items()})


class _Rounds(xgboost.callback.TrainingCallback):
    """Shows the rounds that are done, and the metric of the validation part."""

    def __init__(self, shown: progress.Progress, *, total: int) -> None:
        self._shown, self._total = shown, total

    def after_iteration(self, model: Any, epoch: int, evals_log: Mapping[str, Mapping[str, Any]]) -> bool:
        self._shown.set("rounds", epoch + 1, total=self._total)
        for metric, values in evals_log["validation"].items():
            self._shown.note(f"validation_{metric.partition('@')[0]}", values[-1])
        return False


def _matrix(
    recipe: Recipe, blocks: Blocks, *, cache: Path | None, bins_of: xgboost.DMatrix | None = None
) -> xgboost.DMatrix:
    """The bins of all blocks; of a validation part, within the limits of the bins of the train part."""
    kind = xgboost.QuantileDMatrix if cache is None else xgboost.ExtMemQuantileDMatrix
    passes = _Passes(recipe, blocks if cache else _kept_if_few(blocks), cache=cache)
    try:
        matrix: xgboost.DMatrix = kind(
            passes,
            ref=bins_of,
            max_bin=recipe.max_bin,
            nthread=recipe.parameters.get("nthread"),
            enable_categorical=True,
        )
    finally:
        passes.end()
    return matrix


def _kept_if_few(blocks: Blocks) -> Blocks:
    """`blocks`, as a list when they are few: each pass would read and encode them again."""
    memory.give_back()
    kept, size, most_bytes = [], 0, KEPT_SHARE * memory.available_bytes()
    for block in blocks():
        size += block.features.nbytes
        if size > most_bytes:
            return blocks
        kept.append(block)
    memory.give_back()
    return lambda: kept


class _Passes(xgboost.DataIter):
    """XGBoost's view of blocks: it asks for the next one, or to begin again.

    It asks from C++, and relies on each pass being as long as the first: after a shorter one it corrupts its memory.
    What ends a process (SystemExit) is dropped there. So a `failure` is kept, to be raised when the matrix is done, and
    rows of zeros stand in for those that are left.
    """

    def __init__(self, recipe: Recipe, blocks: Blocks, *, cache: Path | None) -> None:
        self._recipe, self._blocks = recipe, blocks
        self.failure: BaseException | None = None
        self._sizes: list[int] = []  # the rows of each block of the first pass
        self._pass: Iterator[Block] = iter(())
        self._given = 0
        self._is_first = True
        super().__init__(cache_prefix=None if cache is None else str(cache))
        self.reset()

    def end(self) -> None:
        """Let go of the rows, since XGBoost holds on to this object; raise what went wrong."""
        self._pass, self._blocks = iter(()), lambda: ()
        if self.failure:
            raise self.failure

    def reset(self) -> None:
        self._is_first = self._is_first and not self._given
        self._given = 0
        if self.failure is None:
            self._pass = (block for block in self._blocks() if len(block.features))

    def next(self, input_data: Callable[..., None]) -> bool:
        block = self._next_block()
        if block is None:
            return False
        try:
            self._hand_over(block, input_data)
        except BaseException as err:
            self.failure = self.failure or err
            self._hand_over(block, input_data)
        return True

    def _next_block(self) -> Block | None:
        block = None
        if self.failure is None:
            try:
                block = next(self._pass, None)
            except BaseException as err:
                self.failure = err
                self._sizes = self._sizes or [1]
        if self.failure and self._given < len(self._sizes):
            rows = self._sizes[self._given]
            block = Block(features=np.zeros((rows, len(self._recipe.names)), np.float32), target=np.zeros(rows))
        if block is not None:
            self._given += 1
            if self._is_first and self.failure is None:
                self._sizes.append(len(block.features))
        return block

    def _hand_over(self, block: Block, input_data: Callable[..., None]) -> None:
        input_data(
            data=block.features,
            label=block.target,
            weight=block.weight,
            feature_names=self._recipe.names,
            feature_types=self._recipe.types,
        )
