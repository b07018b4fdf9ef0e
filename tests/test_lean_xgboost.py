"""XGBoost without scikit-learn in a step's process, and whole in anybody else's."""

import os
import subprocess
import sys

import pytest
from place import PROJECT

from steps.core.process import processes


def answer(script: str, **extra: str) -> str:
    clean = {name: value for name, value in os.environ.items() if name != processes.STARTED_BY_MLFLOW}
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env={**clean, "PYTHONPATH": str(PROJECT), **extra},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


@pytest.mark.parametrize("step", ["train", "infer"])
def test_a_step_that_mlflow_started_does_not_wait_for_scikit_learn(step: str) -> None:
    script = f"import sys; from steps import {step}; print('xgboost' in sys.modules, 'sklearn' in sys.modules)"
    assert answer(script, MLFLOW_RUN_ID="0" * 32) == "True False"


def test_scikit_learn_can_be_imported_afterwards() -> None:
    script = (
        "from steps import train; from sklearn.metrics import accuracy_score; print(accuracy_score([1, 0], [1, 1]))"
    )
    assert answer(script, MLFLOW_RUN_ID="0" * 32) == "0.5"


def test_in_a_notebook_xgboost_has_its_estimators() -> None:
    script = (
        "from steps import train; from xgboost import XGBClassifier; print(XGBClassifier(n_estimators=3).n_estimators)"
    )
    assert answer(script) == "3"
