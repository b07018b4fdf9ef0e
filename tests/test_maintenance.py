"""What those who maintain the project rely on: updates of pins, hooks, owners, and the pages for contributors."""

import json
import re
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from makefile import MAKEFILE, recipe
from place import PROJECT


class TestUpdates:
    """.github/renovate.json; its form is checked by make check."""

    @pytest.fixture(scope="class")
    @classmethod
    def settings(cls) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads((PROJECT / ".github" / "renovate.json").read_text(encoding="utf-8"))
        return parsed

    def found(self, settings: dict[str, Any], name: str) -> set[tuple[str, str]]:
        """The packages with their versions that the settings find in a file, by its path from the project's folder."""
        found = set()
        for manager in settings["customManagers"]:
            if any(re.search(pattern.strip("/"), name) for pattern in manager["managerFilePatterns"]):
                texts = [(PROJECT / name).read_text(encoding="utf-8")]
                *around, pin = [pattern.replace("(?<", "(?P<") for pattern in manager["matchStrings"]]
                for pattern in around:  # "recursive": each is looked for in what the one before it matches
                    texts = [match[0] for text in texts for match in re.finditer(pattern, text)]
                matches = chain.from_iterable(re.finditer(pin, text) for text in texts)
                found |= {(match["depName"], match["currentValue"]) for match in matches}
        return found

    def test_what_conda_yaml_asks_for_is_found_and_not_what_follows_from_it(self, settings: dict[str, Any]) -> None:
        """Its third block is resolved again from the first two, which hands on what fits together."""
        text = (PROJECT / "conda.yaml").read_text(encoding="utf-8")
        asked_for, _, needed = text.partition("# what those need\n")
        pins = {tuple(line.split("==")) for line in re.findall(r"- ([^\s;]+==[^\s;]+)", asked_for)}
        assert self.found(settings, "conda.yaml") == pins
        assert len(needed.splitlines()) > 50

    def test_every_pin_of_a_checker_is_found(self, settings: dict[str, Any]) -> None:
        names = {name for path in ("Makefile", ".ci/check-automation") for name, _ in self.found(settings, path)}
        tools = re.findall(r"([a-z-]+)==\d", MAKEFILE + (PROJECT / ".ci/check-automation").read_text(encoding="utf-8"))
        assert names == {*tools, "github.com/rhysd/actionlint"}
        assert len(names) > 5

    def test_what_has_to_move_together_is_one_group(self, settings: dict[str, Any]) -> None:
        rules = [rule for rule in settings["packageRules"] if rule.get("matchFileNames") == ["conda.yaml"]]
        groups = {rule["groupName"]: rule["matchPackageNames"] for rule in rules if "groupName" in rule}
        assert {"pyspark", "delta-spark", "deltalake"} <= set(groups["Spark and Delta"])
        grouped = list(chain.from_iterable(groups.values()))
        assert len(grouped) == len(set(grouped))
        assert set(grouped) <= {name for name, _ in self.found(settings, "conda.yaml")}


class TestHooks:
    def test_a_commit_is_checked_by_the_commands_of_make_check(self) -> None:
        config = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
        hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
        assert {repository["repo"] for repository in config["repos"]} == {"local"}
        tools = {Path(hook["entry"].split()[0]).name for hook in hooks}
        assert {line.split()[0] for line in recipe("check").splitlines() if line.strip()} >= tools - {
            "check-automation"
        }
        assert {"ruff", "mypy", "lint-imports"} <= tools


class TestCodeOwners:
    def test_every_path_that_has_an_owner_is_there(self) -> None:
        lines = (PROJECT / ".github" / "CODEOWNERS").read_text(encoding="utf-8").splitlines()
        owned = [line.split() for line in lines if line and not line.startswith("#")]
        assert owned[0][0] == "*"
        assert all(len(words) > 1 and words[1].startswith("@") for words in owned)
        assert [words[0] for words in owned[1:] if not (PROJECT / words[0].strip("/")).exists()] == []


class TestPages:
    @pytest.mark.parametrize("name", ["CONTRIBUTING.md", "CHANGELOG.md", "docs/how-to/ci.md"])
    def test_every_link_leads_to_a_file_and_a_heading(self, name: str) -> None:
        page = PROJECT / name
        links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8"))
        for path, heading in links:
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), path
            if heading:
                titles = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
                assert heading in [title.lower().replace(" ", "-") for title in titles]

    def test_what_contributors_are_told_to_touch_is_there(self) -> None:
        rows = re.findall(
            r"^\| a .*?\| (.*?) \|", (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE
        )
        files = [name for row in rows for name in re.findall(r"`([\w./-]+\.\w+|[A-Z]\w+)`(?! \(new\))", row)]
        assert {"MLproject", "main.py", "steps/core/sources/kinds.py", "steps/core/metrics.py", "conda.yaml"} <= set(
            files
        )
        assert [name for name in files if not (PROJECT / name).is_file()] == []

    def test_the_licence_is_apaches(self) -> None:
        text = (PROJECT / "LICENSE").read_text(encoding="utf-8")
        assert re.match(r"\s+Apache License\s+Version 2\.0, January 2004\s", text)
        assert "END OF TERMS AND CONDITIONS" in text
        assert len(text) > 11_000

    def test_the_changelog_has_what_is_unreleased_and_then_the_releases_with_the_newest_first(self) -> None:
        assert misplaced_titles((PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")) == []

    @pytest.mark.parametrize(
        ("titles", "misplaced"),
        [
            (["Unreleased", "1.10.0 - 2026-03-01", "1.9.2 - 2026-02-01"], []),
            (["1.0.0 - 2026-03-01"], ["1.0.0 - 2026-03-01"]),
            (["Unreleased", "1.0.0"], ["1.0.0"]),
            (["Unreleased", "1.9.2 - 2026-03-01", "1.10.0 - 2026-03-01"], ["1.10.0 - 2026-03-01"]),
            (["Unreleased", "1.1.0 - 2026-02-01", "1.0.0 - 2026-03-01"], ["1.0.0 - 2026-03-01"]),
        ],
        ids=["as it should be", "nothing unreleased", "no date", "an older version first", "an older date first"],
    )
    def test_a_title_of_a_changelog_that_is_misplaced_is_found(self, titles: list[str], misplaced: list[str]) -> None:
        assert misplaced_titles("# Changelog\n\n" + "".join(f"## {title}\n\n" for title in titles)) == misplaced


def misplaced_titles(changelog: str) -> list[str]:
    """Titles other than "Unreleased" at the top, and below it "<version> - <date>" in falling order."""
    first, *releases = re.findall(r"^## (.*)$", changelog, re.MULTILINE)
    misplaced = [] if first == "Unreleased" else [first]
    newer: tuple[list[int], str] | None = None
    for title in releases:
        parsed = re.fullmatch(r"(\d+\.\d+\.\d+) - (\d{4}-\d{2}-\d{2})", title)
        release = ([int(number) for number in parsed[1].split(".")], parsed[2]) if parsed else None
        if release is None or (newer and (release[0] >= newer[0] or release[1] > newer[1])):
            misplaced.append(title)
        else:
            newer = release
    return misplaced
