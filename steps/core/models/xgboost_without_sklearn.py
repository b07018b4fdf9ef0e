"""XGBoost for a process of `python -m steps`: without scikit-learn, which it would import for classes unused here.

That import is half a second, a quarter of the time that a step takes to start, and optional to XGBoost. Any other
process, such as a notebook's, keeps XGBoost whole.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from steps.core.process import startup


@contextmanager
def _without(package: str) -> Iterator[None]:
    """In this block an import of `package`, which is not imported yet, fails as if it were not installed."""
    sys.modules[package] = None  # type: ignore[assignment]  # Python's own way to say so
    try:
        yield
    finally:
        del sys.modules[package]


if startup.launched_by is not None and not {"sklearn", "xgboost"} & sys.modules.keys():
    with _without("sklearn"):
        import xgboost as xgboost
else:
    import xgboost as xgboost
