"""The site of docs/: its reference is whole and of now, and a link that leads nowhere is found."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from place import PROJECT

from automation.docs import build, links, pages, pictures, reference
from steps.core.config import Config

CONFIG_PAGE = PROJECT / "docs" / "reference" / "config.md"
ENTRY_POINTS_PAGE = PROJECT / "docs" / "reference" / "entry-points.md"
IMPLEMENT_AN_INTERFACE = ("local_files.py", "s3_files.py")  # which says what their functions do


def section(page: Path, heading: str) -> str:
    return page.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def rows(text: str) -> dict[str, list[str]]:
    """The cells of a table's rows, by the names in the first one."""
    found = re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.MULTILINE)
    return {name: re.split(r" \| |\|(?= \|)", cells) for name, cells in found}


class TestReference:
    def test_it_is_made_of_what_the_code_says_now(self) -> None:
        assert [*reference.stale(), *pictures.stale()] == []

    def test_every_key_of_the_config_is_there_with_its_meaning(self) -> None:
        schema = Config.model_json_schema()
        models = [schema, *(part for part in schema["$defs"].values() if "properties" in part)]
        keys = {name for model in models for name in model["properties"]}
        text = CONFIG_PAGE.read_text(encoding="utf-8")
        found = [match for match in re.finditer(r"^\| `(\w+)` \|.*\| (.*) \|$", text, re.MULTILINE)]
        assert keys <= {match[1] for match in found}
        assert [match[0] for match in found if not match[2].strip()] == []

    def test_a_key_has_its_limits_its_default_and_the_words_below_it(self) -> None:
        kind, default, meaning = rows(section(CONFIG_PAGE, "`model`"))["max_depth"]
        assert (kind, default, meaning) == ("whole number from 1 to 64", "`6`", "Of each tree.")
        assert rows(section(CONFIG_PAGE, "`monitor`"))["drift"][1] == "`{warn: 0.1, alert: 0.2}`"

    def test_every_parameter_of_mlproject_is_there_with_its_default_and_meaning(self) -> None:
        declared: dict[str, Any] = yaml.safe_load((PROJECT / "MLproject").read_text(encoding="utf-8"))["entry_points"]
        for name in set(declared) - {"status"}:
            found = rows(section(ENTRY_POINTS_PAGE, name))
            defaults = {key: value["default"] for key, value in declared[name]["parameters"].items()}
            assert {key: cells[1].strip("` ") for key, cells in found.items()} == defaults, name
            assert all(cells[2] for cells in found.values()), name
        assert declared["status"]["parameters"].keys() == declared["main"]["parameters"].keys()
        assert "[`main`](#main)" in section(ENTRY_POINTS_PAGE, "status")

    def test_every_public_function_and_class_of_core_says_what_it_is_for(self) -> None:
        """mkdocstrings passes over what has no docstring, and reads a bare <word> as HTML."""
        silent, with_tags = [], []
        for path in sorted((PROJECT / "steps" / "core").rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node in [tree, *tree.body]:
                if not isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef):
                    continue
                docstring = ast.get_docstring(node)
                name = f"{path.relative_to(PROJECT)}: {getattr(node, 'name', 'module')}"
                if not docstring and not getattr(node, "name", "").startswith("_"):
                    silent += [name] if path.name not in IMPLEMENT_AN_INTERFACE else []
                if re.search(r"<\w[^>]*>", re.sub(r"`.*?`", "", docstring or "", flags=re.DOTALL)):
                    with_tags.append(name)
        assert silent == []
        assert with_tags == []


class TestLinks:
    @pytest.fixture
    def site(self, tmp_path: Path) -> Path:
        (tmp_path / "more").mkdir()
        (tmp_path / "more" / "page.html").write_text('<h2 id="there">x</h2><a href="../index.html#top">up</a>')
        return tmp_path

    @pytest.mark.parametrize(
        ("html", "mistake"),
        [
            ('<a id="top" href="more/page.html#there">', None),
            ('<a id="top" href="https://example.org/x#y">', None),
            ('<a id="top" href="more/pge.html">', "index.html: more/pge.html: there is no such file"),
            ('<a id="top" href="more/page.html#here">', "index.html: more/page.html#here: there is no such heading"),
            ('<p id="top"><img src="picture.svg">', "index.html: picture.svg: there is no such file"),
            ('<a id="top" href="https:///x">', "index.html: https:///x: has no host"),
            ('<a id="top" href="htps://example.org">', "index.html: htps://example.org: htps: is no scheme of a link"),
            (
                '<p id="top"><script src="https://cdn.example.org/x.js"></script>',
                "index.html: https://cdn.example.org/x.js: is loaded from elsewhere",
            ),
        ],
    )
    def test_one_that_leads_nowhere_or_loads_from_elsewhere_is_named(
        self, site: Path, html: str, mistake: str | None
    ) -> None:
        (site / "index.html").write_text(html)
        assert links.mistakes(site) == ([mistake] if mistake else [])

    def test_a_file_that_a_page_names_and_that_is_not_there_is_an_error(self, tmp_path: Path) -> None:
        page = PROJECT / "docs" / "page-of-a-test.md"
        with pytest.raises(pages.LinkBroken, match=r"docs/page-of-a-test\.md: there is no \.\./main\.yp"):
            pages.Pages(tmp_path).with_links("[the driver](../main.yp)", page)


class TestNavigation:
    def test_every_page_is_in_it_once_and_by_itself(self, tmp_path: Path) -> None:
        pages.Pages(tmp_path).add_all()
        (tmp_path / "how-to" / "new.md").write_text("# Something new\n")
        nav = build.toml_of(build.navigation(tmp_path))
        listed = re.findall(r'= "(.+?\.md)"', nav)
        assert '{ "Something new" = "how-to/new.md" }' in nav
        assert len(listed) == len(set(listed))
        written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.md")}
        shown_files = {name for name in written if name.startswith("files/")}
        assert set(listed) == written - shown_files
