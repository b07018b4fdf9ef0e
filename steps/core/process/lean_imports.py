"""XGBoost without scikit-learn, which it would import for classes that no step uses.

That import is half a second, a quarter of the time that a step takes to start, and optional to XGBoost. Processes of
`python -m steps` leave it out; any other, such as a notebook's, keeps XGBoost whole.
"""

import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

OPTIONAL = "sklearn"


def leave_sklearn_out_of_xgboost() -> None:
    """From now on an import of XGBoost does not import scikit-learn, whoever asks for it first."""
    sys.meta_path.insert(0, _XgboostFinder())


class _XgboostFinder:
    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "xgboost" or OPTIONAL in sys.modules:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec and spec.loader:
            execute = spec.loader.exec_module

            def execute_without(module: ModuleType) -> None:
                sys.modules[OPTIONAL] = None  # type: ignore[assignment]  # Python's own way to say "not installed"
                try:
                    execute(module)
                finally:
                    del sys.modules[OPTIONAL]

            spec.loader.exec_module = execute_without  # type: ignore[method-assign]
        return spec
