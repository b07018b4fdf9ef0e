"""XGBoost without scikit-learn in a process of `python -m steps`, and whole in any other."""

import os
import subprocess
import sys

import pytest
from place import PROJECT

SET_UP = "from steps.core.process import startup; startup.before_imports(); "


def answer(script: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


@pytest.mark.parametrize("step", ["train", "infer"])
def test_the_process_of_a_step_does_not_wait_for_scikit_learn(step: str) -> None:
    script = f"import sys; from steps import {step}; print('xgboost' in sys.modules, 'sklearn' in sys.modules)"
    assert answer(SET_UP + script) == "True False"


def test_scikit_learn_can_be_imported_afterwards() -> None:
    script = (
        "from steps import train; from sklearn.metrics import accuracy_score; print(accuracy_score([1, 0], [1, 1]))"
    )
    assert answer(SET_UP + script) == "0.5"


def test_in_a_notebook_xgboost_has_its_estimators() -> None:
    script = (
        "from steps import train; from xgboost import XGBClassifier; print(XGBClassifier(n_estimators=3).n_estimators)"
    )
    assert answer(script) == "3"
