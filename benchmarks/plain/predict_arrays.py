"""Baseline: XGBoost's own prediction of arrays that are in memory, and nothing else.

Reads   features.npy, (rows, columns) float32, and booster.ubj, in a folder
Writes  predictions.npy there; to stdout the seconds of the prediction alone, without imports and reading
"""

import argparse
import time
from pathlib import Path

import numpy as np
import xgboost


def main() -> None:
    parser = argparse.ArgumentParser(description="Predict the arrays in a folder.")
    parser.add_argument("--folder", required=True, help="where the arrays are")
    args = parser.parse_args()

    folder = Path(args.folder)
    features, booster = np.load(folder / "features.npy"), xgboost.Booster(model_file=folder / "booster.ubj")
    start = time.perf_counter()
    predictions = booster.inplace_predict(features)
    print(time.perf_counter() - start)
    np.save(folder / "predictions.npy", predictions)


if __name__ == "__main__":
    main()
