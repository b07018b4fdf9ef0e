"""What has to agree across files: MLproject, the steps' parameters, the driver, the environment."""

import ast
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from functools import cache
from importlib import import_module
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

import pytest
import yaml

import main
from steps.core.config import PROJECT
from steps.core.parameters import parse
from steps.core.workflow.step_spec import StepSpec

DRIVERS = ("main", "status")  # entry points of main.py
STEPS = sorted((PROJECT / "steps").glob("[!_]*.py"))
CORE = sorted((PROJECT / "steps" / "core").rglob("*.py"))
NASTY = 'it\'s "a b" = $HOME `ls` \\ é\n--seed=1'
SPECS: dict[str, StepSpec[Any]] = {path.stem: import_module(f"steps.{path.stem}").SPEC for path in STEPS}
PARAMETERS = {**{name: spec.parameters for name, spec in SPECS.items()}, **dict.fromkeys(DRIVERS, main.SPEC.parameters)}
each_entry_point = pytest.mark.parametrize("name", PARAMETERS)


@cache
def mlproject() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((PROJECT / "MLproject").read_text(encoding="utf-8"))
    return parsed


def declared(name: str) -> dict[str, str]:
    """An entry point's parameters with their defaults."""
    return {key: value["default"] for key, value in mlproject()["entry_points"][name]["parameters"].items()}


def files_of_the_project() -> list[Path]:
    """What git keeps, or would keep."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [path for name in listed.split("\0") if name and (path := PROJECT / name).is_file()]


def imported(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


class TestEntryPoints:
    def test_there_is_one_for_the_driver_and_each_step(self) -> None:
        assert set(mlproject()["entry_points"]) == {*DRIVERS, *(path.stem for path in STEPS)} == set(PARAMETERS)

    @each_entry_point
    def test_mlproject_names_the_parameters_of_the_code(self, name: str) -> None:
        assert set(declared(name)) == {field.name for field in fields(PARAMETERS[name])}

    @each_entry_point
    def test_mlproject_has_the_defaults_of_the_code(self, name: str) -> None:
        argv = [f"--{key}={value}" for key, value in declared(name).items()]
        expected = PARAMETERS[name](**({"dry_run": True} if name == "status" else {}))
        assert parse(PARAMETERS[name], argv, entry_point=name) == expected

    @each_entry_point
    def test_every_parameter_is_a_string_to_mlflow(self, name: str) -> None:
        """`path` and `uri` would be checked and rewritten, and a default of null would be a required parameter."""
        for parameter in mlproject()["entry_points"][name]["parameters"].values():
            assert parameter["type"] == "string"
            assert isinstance(parameter["default"], str)

    @each_entry_point
    def test_the_command_passes_every_parameter_under_its_own_name(self, name: str) -> None:
        entry_point = "main" if name in DRIVERS else name
        flags = [f"--{key}={{{key}}}" for key in declared(name)]
        assert mlproject()["entry_points"][name]["command"].split() == ["python", "-m", "steps", entry_point, *flags]

    @each_entry_point
    def test_any_text_gets_through_the_shell_as_it_was_given(self, name: str) -> None:
        """D01: by MLflow's rule, which quotes each value and hands the command to bash."""
        texts = [field.name for field in fields(PARAMETERS[name]) if field.type is str]
        quoted = {key: shlex.quote(NASTY if key in texts else "") for key in declared(name)}
        command = mlproject()["entry_points"][name]["command"].format(**quoted)
        words = re.sub(r"^python -m steps \w+", r"printf '%s\\0'", command)
        said = subprocess.run(["bash", "-c", words], capture_output=True, text=True, check=True).stdout
        parsed: Any = parse(PARAMETERS[name], said.split("\0")[:-1], entry_point=name)
        assert texts
        assert {key: getattr(parsed, key) for key in texts} == dict.fromkeys(texts, NASTY)

    def test_one_parameter_has_one_default_in_all_entry_points(self) -> None:
        apart = {"promote": {"force", "version"}, "status": {"dry_run"}, "train": {"reuse"}}
        every = [
            pair for name in PARAMETERS for pair in declared(name).items() if pair[0] not in apart.get(name, set())
        ]
        assert len(set(every)) == len(dict(every))

    def test_the_environment_that_it_names_is_there(self) -> None:
        assert (PROJECT / mlproject()["conda_env"]).is_file()
        assert not (PROJECT / "uv.lock").exists()  # with one, MLflow's uv manager passes conda.yaml over


class TestSteps:
    @pytest.mark.parametrize("path", [PROJECT / "main.py", *STEPS], ids=lambda path: path.name)
    def test_a_step_says_what_it_reads_and_writes_and_how_it_fails(self, path: Path) -> None:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        title, _, rest = (ast.get_docstring(tree) or "").partition("\n")
        assert title.endswith(".")
        assert re.findall(r"^(Reads|Writes|Fails)   ?\S", rest, re.MULTILINE) == ["Reads", "Writes", "Fails"]

    @pytest.mark.parametrize("path", [PROJECT / "main.py", *STEPS], ids=lambda path: path.name)
    def test_a_step_ends_in_a_main_that_takes_its_arguments(self, path: Path) -> None:
        *body, call = ast.parse(path.read_text(encoding="utf-8")).body
        functions = {each.name: ast.unparse(each.args) for each in body if isinstance(each, ast.FunctionDef)}
        assert functions["main"] == "argv: Sequence[str] | None=None"
        assert ast.unparse(call) == "if __name__ == '__main__':\n    main()"

    def test_a_step_is_read_in_one_go(self) -> None:
        lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in STEPS}
        assert {name: lines for name, lines in lengths.items() if lines > 150} == {}

    def test_the_driver_imports_no_step(self) -> None:
        steps = {f"steps.{path.stem}" for path in STEPS}
        assert not imported(PROJECT / "main.py") & steps

    def test_the_driver_launches_entry_points_with_parameters_that_they_have(self) -> None:
        tree = ast.parse((PROJECT / "main.py").read_text(encoding="utf-8"))
        launches = [
            call for call in ast.walk(tree) if isinstance(call, ast.Call) and ast.unparse(call.func) == "steps.launch"
        ]
        assert launches
        for call in launches:
            name = ast.literal_eval(call.args[0])
            assert {keyword.arg for keyword in call.keywords if keyword.arg} <= set(declared(name))

    @pytest.mark.parametrize("path", STEPS, ids=lambda path: path.name)
    def test_no_step_imports_another(self, path: Path) -> None:
        others = {f"steps.{other.stem}" for other in STEPS} - {f"steps.{path.stem}"}
        assert not imported(path) & others

    @pytest.mark.parametrize("path", CORE, ids=lambda path: path.name)
    def test_core_imports_no_step(self, path: Path) -> None:
        assert not imported(path) & {f"steps.{step.stem}" for step in STEPS}


class TestEnvironment:
    @pytest.fixture(scope="class")
    @classmethod
    def lines(cls) -> list[str]:
        dependencies = yaml.safe_load((PROJECT / "conda.yaml").read_text(encoding="utf-8"))["dependencies"]
        pip: list[str] = dependencies[-1]["pip"]
        return pip

    def test_every_package_is_pinned(self, lines: list[str]) -> None:
        pin = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*==\d[\w.]*(; \S.*)?")
        assert [line for line in lines if not pin.fullmatch(line)] == []

    def test_no_package_is_pinned_twice(self, lines: list[str]) -> None:
        names = [line.partition("==")[0] for line in lines]
        assert len(set(names)) == len(names)

    def test_what_the_others_need_is_sorted(self) -> None:
        block = (PROJECT / "conda.yaml").read_text(encoding="utf-8").partition("# what those need\n")[2]
        names = re.findall(r"- ([a-z0-9-]+)==", block)
        assert len(names) > 50
        assert names == sorted(names)

    def test_the_makefile_reads_the_same_lines(self, lines: list[str]) -> None:
        program = re.search(r"sed -n '(.+?)' conda\.yaml", (PROJECT / "Makefile").read_text(encoding="utf-8"))
        assert program is not None
        script = program[1].replace("$$", "$")
        read = subprocess.run(["sed", "-n", script, "conda.yaml"], cwd=PROJECT, capture_output=True, text=True)
        assert read.stdout.splitlines() == lines

    def test_whatever_the_project_imports_is_pinned_to_what_runs_here(self, lines: list[str]) -> None:
        pins = dict(line.partition(";")[0].split("==") for line in lines)
        modules = {name.partition(".")[0] for path in [PROJECT / "main.py", *STEPS, *CORE] for name in imported(path)}
        packages = packages_distributions()
        found = {
            re.sub(r"[-_.]+", "-", package).lower()
            for module in modules - set(sys.stdlib_module_names) - {"steps"}
            for package in packages[module]
        }
        assert {"mlflow", "pyspark", "deltalake", "xgboost"} <= found
        assert {name: version(name) for name in found} == {name: pins[name] for name in found}

    def test_python_is_the_same_line_of_releases_everywhere(self) -> None:
        text = {name: (PROJECT / name).read_text(encoding="utf-8") for name in ("conda.yaml", "pyproject.toml")}
        assert "- python=3.12\n" in text["conda.yaml"]
        assert 'target-version = "py312"' in text["pyproject.toml"]
        assert 'python_version = "3.12"' in text["pyproject.toml"]
        assert (PROJECT / ".python-version").read_text(encoding="utf-8").split()[0] == "3.12"


class TestTree:
    def test_no_file_speaks_of_a_folder_of_one_machine(self) -> None:
        """Ada's is the one in examples."""
        folders = "|".join(["work", "root", r"home/(?!ada\b)\w+", "Users", "tmp/w"])
        pattern = re.compile(rf"(?<![\w.*}}])/({folders})/")
        found = []
        for path in files_of_the_project():
            if path == Path(__file__) or path.suffix in (".png", ".parquet"):
                continue
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            found += [f"{path}:{i}: {line}" for i, line in enumerate(lines, 1) if pattern.search(line)]
        assert found == []

    def test_no_line_of_mlproject_is_continued_by_a_backslash(self) -> None:
        """D07: bash under a Windows checkout would not take it."""
        assert "\\\n" not in (PROJECT / "MLproject").read_text(encoding="utf-8")

    def test_lines_end_as_unix_has_them(self) -> None:
        assert "* text=auto eol=lf" in (PROJECT / ".gitattributes").read_text(encoding="utf-8")
        text = [path for path in files_of_the_project() if path.suffix in (".py", ".yaml", ".toml", ".sh", ".md")]
        assert [path for path in text if b"\r\n" in path.read_bytes()] == []

    def test_a_file_that_the_architecture_names_is_there(self) -> None:
        text = (PROJECT / "docs" / "architecture.md").read_text(encoding="utf-8")
        names = set(re.findall(r"`([\w/]+/[\w.]+\.\w+)`", text))
        assert len(names) > 20
        homes = (PROJECT, PROJECT / "steps" / "core", PROJECT / "docs")
        assert [name for name in sorted(names) if not any((home / name).exists() for home in homes)] == []
