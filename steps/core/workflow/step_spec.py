"""What an entry point declares about itself: `SPEC = StepSpec(...)` in its own file.

The step uses its SPEC as it is. The driver and lineage need the declarations of other steps but import none, since
XGBoost and PySpark take seconds to import: they read the declaration from the text of the file. So all values but
`parameters` are literals.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from steps.core.config import PROJECT, Config
from steps.core.errors import ProjectBroken, did_you_mean
from steps.core.process import loaded_code

NOT_URIS = ("lake", "content", "judged")  # names in `works_on` of what is no pinned URI, and has no input tag
DRIVER = "main"  # the entry point that launches the others; its SPEC is in main.py

type Spark = Literal["never", "always", "large sources", "large tables"]  # as is_for_spark() and is_for_workers say


@dataclass(frozen=True, kw_only=True)
class StepSpec[P]:
    """One entry point. A step that main.py chains declares all of these, any other its name and parameters.

    `config_keys` and `works_on` are all that the results follow from beside code and environment, so a reused step
    depends on their being complete. `works_on` names pinned URIs (a table, a model) as the step's input tags do;
    "lake" stands for the place of its tables, "content" for the bytes of the source, "judged" for the run that judged
    the model.
    """

    name: str
    parameters: type[P]
    config_keys: tuple[str, ...] = ()  # top-level keys of the config
    works_on: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()  # names of the results, which the step hands on by StepRun.writes()
    spark: Spark = "never"  # whether the driver starts Spark before this step
    reuses_itself: bool = False  # it looks for an earlier run of its own: its parameters do not tell what it works on

    @property
    def works_on_uris(self) -> list[str]:
        """The pinned URIs among what it works on, which are its input tags too."""
        return [name for name in self.works_on if name not in NOT_URIS]

    def __post_init__(self) -> None:
        for key in self.config_keys:
            if key not in Config.model_fields:
                hint = did_you_mean(key, Config.model_fields)
                raise ValueError(f"SPEC of {self.name}: {key!r} in config_keys is not a key of the config{hint}")


def read_spec(step: str, *, project: Path = PROJECT) -> StepSpec[Any]:
    """The SPEC of a step but for its `parameters`, from the text of its file. ProjectBroken when there is none."""
    file = f"steps/{step}.py"
    try:
        tree = ast.parse((project / file).read_bytes(), file)
    except (SyntaxError, ValueError) as err:
        raise _no_python(file, err) from err
    except FileNotFoundError as err:
        raise ProjectBroken(file, "is missing, and main.py launches it") from err
    call = next(_calls_assigned_to("SPEC", tree), None)
    if call is None:
        raise ProjectBroken(file, "has no line SPEC = StepSpec(...)")
    try:
        values = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords if word.arg != "parameters"}
        return StepSpec(parameters=object, **values)
    except (TypeError, ValueError) as err:
        reason = f"has a SPEC that cannot be read (name=value with literal values, but for parameters): {err}"
        raise ProjectBroken(file, reason, line=call.lineno) from err


def read_specs(*, project: Path = PROJECT) -> list[StepSpec[Any]]:
    """The SPEC of every step, by the name of its file."""
    files = sorted((project / "steps").glob("[!_]*.py"))
    return [read_spec(file.stem, project=project) for file in files]


@cache
def check_syntax() -> None:
    """ProjectBroken when a file of the project is not Python: said once, before any step has run."""
    for path in sorted((PROJECT / "steps").rglob("*.py")):
        try:
            loaded_code.compiled(str(path))
        except (SyntaxError, ValueError) as err:
            raise _no_python(str(path.relative_to(PROJECT)), err) from err


def _no_python(file: str, error: SyntaxError | ValueError) -> ProjectBroken:
    return ProjectBroken(
        file, f"is not Python: {getattr(error, 'msg', error)}", line=getattr(error, "lineno", None) or 0
    )


def _calls_assigned_to(name: str, tree: ast.Module) -> Iterator[ast.Call]:
    for statement in tree.body:
        if (
            isinstance(statement, ast.Assign)
            and isinstance(statement.value, ast.Call)
            and [ast.unparse(target) for target in statement.targets] == [name]
        ):
            yield statement.value
