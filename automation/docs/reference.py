"""The reference in docs/reference, from the config's models, MLproject and the entry points: `make docs-generated`.

A key's and a parameter's meaning is the docstring below it; types, limits and defaults are those that are checked. The
pages on the code, from its docstrings, are of the site alone.
"""

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, TypeAdapter

from automation.docs.pages import NOT_IN_SEARCH
from automation.docs.schema_words import SchemaWords, models_in
from steps.core.config import PROJECT, Config, Model, Split, Tune
from steps.core.metrics import METRICS, OF_ONE_CLASS, PINBALL_LOSS, Metric
from steps.core.parameters import Hyperparameters
from steps.core.workflow.step_spec import StepSpec

FOLDER = PROJECT / "docs" / "reference"
MADE_BY = "<!-- Made by `make docs-generated`: edit the code that it comes from. -->\n\n"
DRIVERS = ("main", "status")  # entry points of main.py
SECTIONS = ("Reads", "Writes", "Hands on", "Fails")  # of an entry point's docstring
SHARED = {  # meanings of parameters that many entry points have
    "config": "The config file, looked for where the command is given and in the project; or `runs:/<run id>/<file>`.",
    "source": "In place of the config's source; with `target`, a source that has no config.",
    "target": "The column to predict, of a source that has no config.",
    "name": "What tables and model are named after, of a source that has no config; by default after the source.",
    "lake": "Where the tables are, a folder or `s3://<bucket>[/<prefix>]`; by default `LAKE_URI`, else `lake`.",
}
CONFIG_INTRODUCTION = """# The config

One YAML file says where the rows are, what they must look like, what is learnt, and when a model is good enough.
[configs/](../../configs) has three of them, and [own data](../how-to/own-data.md) makes one from a file. A key that is
not here is refused with the nearest right one; all mistakes are told at once.
"""
ENTRY_POINTS_INTRODUCTION = """# Entry points

`mlflow run . -e <entry point> -P <parameter>=<value> --env-manager local`. Every parameter may be left out: it then
means what the config says, or the newest version of the config's table or model. What passes between steps is a URI
that never changes its meaning: `<lake>/<table>@v<N>` or `models:/<name>/<version>`.
"""


def pages() -> dict[str, str]:
    """The text of each generated page, by its name below docs/reference."""
    return {"config.md": MADE_BY + config_page(), "entry-points.md": MADE_BY + entry_points_page()}


def stale() -> list[str]:
    """The pages in docs/reference that are not what the code says now, by their paths in the project."""
    return [
        str((FOLDER / name).relative_to(PROJECT))
        for name, text in pages().items()
        if not (FOLDER / name).is_file() or (FOLDER / name).read_text(encoding="utf-8") != text
    ]


def meanings(cls: type) -> dict[str, str]:
    """What the fields of a class mean: the docstring below each, "" where there is none. Those it inherits too."""
    found: dict[str, str] = {}
    for parent in reversed(cls.__mro__):
        if "__annotations__" in vars(parent) and parent.__module__.partition(".")[0] in ("steps", "main"):
            body = ast.parse(textwrap.dedent(inspect.getsource(parent))).body[0]
            assert isinstance(body, ast.ClassDef)
            found |= _meanings_in(body)
    return found


def config_page() -> str:
    """Every key of the config: a section for each part, with types, defaults and meanings."""
    parts = dict(_parts(Config, ""))
    places = {model.__name__: path for path, model in parts.items()}
    text = [CONFIG_INTRODUCTION]
    for path, model in parts.items():
        if path:
            text.append(f"## `{path}`\n")
        text.append(f"{_own_docstring(model)}\n")
        text.append(_table("key", _rows(model, places)))
    text += [
        "## Metrics\n",
        "What `gate.metric` and `monitor.quality.metrics` name.\n",
        "| metric | of a | better | taken over |\n|---|---|---|---|",
    ]
    text += [
        f"| `{name}` | {metric.task} | {_better(metric)} | {metric.taken_over} |" for name, metric in METRICS.items()
    ]
    text += [f"| `{name}.<class>` | classification | greater | the one class |" for name in OF_ONE_CLASS]
    text.append(f"| `{PINBALL_LOSS}0.9`, or of another quantile | regression | smaller | the rows |")
    return "\n".join([*text, ""])


def _better(metric: Metric) -> str:
    return "greater" if metric.greater_is_better else "smaller"


def entry_points_page() -> str:
    """Each entry point: what it reads, writes, hands on and how it fails, from its docstring; its parameters."""
    declared = yaml.safe_load((PROJECT / "MLproject").read_text(encoding="utf-8"))["entry_points"]
    text = [ENTRY_POINTS_INTRODUCTION]
    docs = {name: _docstring_of(name) for name in declared}
    text.append("| entry point | |\n|---|---|")
    text += [f"| [`{name}`](#{name}) | {_escaped(title)} |" for name, (title, _) in docs.items()]
    for name, (title, sections) in docs.items():
        text.append(f"\n## {name}\n\n{_escaped(title)}\n")
        text += [f"- **{section}:** {_escaped(said)}" for section, said in sections.items()]
        spec = _spec_of(name)
        if spec.config_keys and name not in DRIVERS:
            text.append(f"- **Runs again when these keys of the config change:** {_code(spec.config_keys)}")
        defaults = {key: value["default"] for key, value in declared[name]["parameters"].items()}
        if name == "status":
            text.append("It takes the parameters of [`main`](#main).")
            continue
        text.append("\n" + _table("parameter", _parameter_rows(spec.parameters, defaults)))
    return "\n".join(text)


def write_code_pages(folder: Path) -> None:
    """A page for each room of steps/core into `folder`/code: a directive for each module, for mkdocstrings."""
    core = PROJECT / "steps" / "core"
    (folder / "code").mkdir()
    for room in [core, *sorted(path.parent for path in core.glob("*/__init__.py"))]:
        package = ".".join(room.relative_to(PROJECT).parts)
        modules = [package, *(f"{package}.{path.stem}" for path in sorted(room.glob("[!_]*.py")))]
        text = "\n\n".join([f"# {package}", *(f"::: {module}" for module in modules)])
        (folder / "code" / f"{room.name}.md").write_text(f"{NOT_IN_SEARCH}{text}\n", encoding="utf-8")


def _meanings_in(body: ast.ClassDef) -> dict[str, str]:
    found = {}
    for statement, after in zip(body.body, [*body.body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            found[statement.target.id] = " ".join(str(after.value.value).split()) if is_text else ""  # type: ignore[union-attr]
    return found


def _parts(model: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """The models below `model`, each once, with the key where each stands first."""
    seen: dict[type[BaseModel], str] = {}

    def walk(model: type[BaseModel], path: str) -> None:
        if model in seen:
            return
        seen[model] = path
        for name, field in model.model_fields.items():
            for inner, is_mapping in models_in(field.annotation):
                walk(inner, f"{path}.{name}".lstrip(".") + (".NAME" if is_mapping else ""))

    walk(model, path)
    yield from ((path, model) for model, path in seen.items())


def _rows(model: type[BaseModel], places: Mapping[str, str]) -> Iterator[list[str]]:
    words = SchemaWords(model.model_json_schema(), places)
    told = meanings(model)
    for name, field in model.model_fields.items():
        default = "required" if field.is_required() else _shown(field.get_default(call_default_factory=True))
        yield [f"`{name}`", words.of(name), default, told[name]]


def _parameter_rows(cls: type, defaults: Mapping[str, str]) -> Iterator[list[str]]:
    words = SchemaWords(TypeAdapter(cls).json_schema(), {})
    told = meanings(cls)
    of_config = {
        name: f"[`{part}.{name}`](config.md#{part}) of the config"
        for part, model in (("split", Split), ("tune", Tune), ("model", Model))
        for name in model.model_fields
        if name in Hyperparameters.__dataclass_fields__ and issubclass(cls, Hyperparameters)
    }
    for name, default in defaults.items():
        meaning = told[name] or of_config.get(name) or SHARED[name]
        yield [f"`{name}`", words.of(name), f"`{default}`" if default else "", meaning]


def _docstring_of(name: str) -> tuple[str, dict[str, str]]:
    """The first sentence of an entry point's docstring, and its sections as one line each."""
    if name == "status":
        return "Tell what is there, and what `main` would run and why: `main` with `dry_run=true`.", {}
    module = import_module("main" if name == "main" else f"steps.{name}")
    title, _, rest = (inspect.getdoc(module) or "").partition("\n")
    pieces = re.split(rf"^({'|'.join(SECTIONS)})  +", rest, flags=re.MULTILINE)
    sections = {section: " ".join(said.split()) for section, said in zip(pieces[1::2], pieces[2::2], strict=True)}
    return title, sections


def _spec_of(name: str) -> StepSpec[Any]:
    spec: StepSpec[Any] = import_module("main" if name in DRIVERS else f"steps.{name}").SPEC
    return spec


def _own_docstring(model: type) -> str:
    return _escaped(" ".join((inspect.cleandoc(model.__dict__.get("__doc__") or "")).split()))


def _table(first: str, rows: Iterable[list[str]]) -> str:
    lines = [f"| {first} | type | default | meaning |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(_escaped(cell).replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    """`text` with < as Markdown shows it, outside of code."""
    return "`".join(piece if place % 2 else piece.replace("<", "&lt;") for place, piece in enumerate(text.split("`")))


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _shown(default: Any) -> str:
    """A default as YAML has it."""
    if default is None or default in ((), {}):
        return ""
    if isinstance(default, BaseModel):
        given = default.model_dump(mode="json", exclude_defaults=True)
        return f"`{{{', '.join(f'{name}: {value}' for name, value in given.items())}}}`" if given else ""
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def main() -> None:
    """Write the pages of docs/reference anew."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
