"""Baseline: XGBoost on arrays that are in memory, and nothing else.

Reads   features.npy, (rows, columns) float32, and label.npy, 0 or 1, in a folder
Writes  booster.ubj there; to stdout the seconds of the training alone, without imports and reading
"""

import argparse
import time
from pathlib import Path

import numpy as np
import xgboost

TRAIN, VALIDATION = 0.7, 0.1  # shares of the rows, as the project splits them; the rest is its test part


def main() -> None:
    parser = argparse.ArgumentParser(description="Train on the first rows of the arrays in a folder.")
    parser.add_argument("--folder", required=True, help="where the arrays are")
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--depth", type=int, required=True)
    args = parser.parse_args()

    folder = Path(args.folder)
    features, label = np.load(folder / "features.npy"), np.load(folder / "label.npy")
    train_end, end = round(TRAIN * len(label)), round((TRAIN + VALIDATION) * len(label))

    start = time.perf_counter()
    train = xgboost.QuantileDMatrix(features[:train_end], label[:train_end])
    validation = xgboost.QuantileDMatrix(features[train_end:end], label[train_end:end], ref=train)
    booster = xgboost.train(
        {"objective": "binary:logistic", "max_depth": args.depth, "learning_rate": 0.1},
        train,
        num_boost_round=args.rounds,
        evals=[(train, "train"), (validation, "validation")],
        verbose_eval=False,
    )
    print(time.perf_counter() - start)
    booster.save_model(folder / "booster.ubj")


if __name__ == "__main__":
    main()
