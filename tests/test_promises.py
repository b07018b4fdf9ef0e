"""docs/coverage.md: what it names is there, and what is there is named."""

import ast
import re
from functools import cache

import pytest
from cloud import OVERLAYS
from commands import entry_points, profiles, unknown_words
from place import PROJECT

PAGE = (PROJECT / "docs" / "coverage.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith("| promise |")
]
CODE = re.compile(r"`([^`]+)`")
COMMANDS = [command for _, shown, _ in ROWS for command in CODE.findall(shown)]


@cache
def collected_from(file: str) -> set[str]:
    """What pytest collects of a test file, without its parameters: a function, or a class and its function."""
    path = PROJECT / file
    tree = ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else ast.Module([], [])
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name.startswith("Test")]
    bodies = {"": tree.body, **{f"{node.name}::": node.body for node in classes}}
    return {
        f"{prefix}{node.name}"
        for prefix, body in bodies.items()
        for node in body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def is_collected(test: str) -> bool:
    file, _, name = test.partition("::")
    return name in collected_from(file)


class TestWhatItNames:
    @pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
    def test_a_promise_has_a_command_and_a_test_that_there_are(self, row: list[str]) -> None:
        _, shown, held = row
        commands, tests = CODE.findall(shown), CODE.findall(held)
        assert commands
        assert tests
        assert {command: unknown_words(command) for command in commands if unknown_words(command)} == {}
        assert [test for test in tests if not is_collected(test)] == []

    @pytest.mark.parametrize(
        ("command", "unknown"),
        [
            ("make tset", ["tset"]),
            ("mlflow run . -e infre", ["infre"]),
            ("mlflow run . -e infer -P mode=all -P moed=all", ["moed"]),
            ("docker compose -f compose/compose.yaml --profile sprak up", ["sprak"]),
            ("python -m benchmarks.gaet", ["benchmarks.gaet"]),
            ("kustomize build infrastructure/kubernetes/overlays/prod", ["infrastructure/kubernetes/overlays/prod"]),
            ("git tag 1.2.3", ["1.2.3"]),
            ("curl example.org", ["curl", "example.org"]),
            ("README.md", ["README.md"]),
        ],
    )
    def test_a_command_of_another_project_would_be_found(self, command: str, unknown: list[str]) -> None:
        assert unknown_words(command) == unknown

    def test_a_test_that_is_none_would_be_found(self) -> None:
        here = "tests/test_promises.py"
        assert is_collected(f"{here}::TestWhatItNames::test_a_test_that_is_none_would_be_found")
        assert not is_collected(f"{here}::test_a_test_that_is_none_would_be_found")
        assert not is_collected(f"{here}::collected_from")
        assert not is_collected("tests/test_nothing.py::test_nothing")

    def test_a_link_leads_to_a_file(self) -> None:
        links = re.findall(r"\]\(([^)#]+)", PAGE)
        assert links
        assert [link for link in links if not (PROJECT / "docs" / link).exists()] == []


class TestWhatIsThere:
    def test_every_entry_point_is_on_it(self) -> None:
        named = {command.split()[4] for command in COMMANDS if command.startswith("mlflow run ")}
        assert named == set(entry_points())

    def test_every_profile_of_compose_is_on_it(self) -> None:
        assert {profile for profile in profiles() if f" --profile {profile} up" not in PAGE} == set()

    def test_every_workflow_is_on_it(self) -> None:
        workflows = {path.name for path in (PROJECT / ".github" / "workflows").iterdir()}
        assert set(re.findall(r"\]\(\.\./\.github/workflows/(.*?)\)", PAGE)) == workflows

    def test_every_overlay_is_on_it(self) -> None:
        named = {command.rpartition("/overlays/")[2] for command in COMMANDS if command.startswith("kustomize build ")}
        assert (
            named == set(OVERLAYS) == {path.name for path in (PROJECT / "infrastructure/kubernetes/overlays").iterdir()}
        )

    def test_every_how_to_is_on_it(self) -> None:
        pages = {path.name for path in (PROJECT / "docs" / "how-to").glob("*.md")}
        assert set(re.findall(r"\]\(how-to/([\w-]+\.md)", PAGE)) == pages
