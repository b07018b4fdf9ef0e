"""Console blocks of README and docs/: each is in a form that is run; those of the README print what they show."""

import re
from pathlib import Path

import pytest
from place import PROJECT

from automation.docs import console
from automation.docs.console_blocks import Command, NotConsole, blocks_of, commands_of, with_blocks

PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]
BLOCK = "$ echo 'a\n> b'\na\nb\n$ true\n"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_in_a_form_that_is_run(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert with_blocks(text, blocks_of(text)) == text


class TestForm:
    def test_commands_go_on_and_have_what_they_printed_below(self) -> None:
        assert commands_of(BLOCK) == [Command("echo 'a\nb'", "a\nb\n"), Command("true", "")]
        assert "".join(map(str, commands_of(BLOCK))) == BLOCK

    def test_output_without_a_command_needs_one_in_the_background(self) -> None:
        assert len(blocks_of("```console\n$ server &\n```\n\n```console\nit answers\n```\n")) == 2
        with pytest.raises(NotConsole, match="nothing in the background"):
            blocks_of("```console\nit answers\n```\n")

    def test_a_fence_that_is_no_line_of_its_own_is_refused(self) -> None:
        with pytest.raises(NotConsole, match="begins and ends with its fence"):
            blocks_of("- ```console\n  $ true\n  ```\n\n  ```console\n  $ true\n  ```\n")

    def test_what_is_elided_stays_so_when_it_is_written_anew(self) -> None:
        shown = Command("seq 5", "1\n...\n5\n")
        assert shown.printed("1\n2\n3\n6\n").output == "1\n...\n6\n"
        assert Command("make", "...\n").printed("a\nb\n").output == "...\n"

    def test_what_still_agrees_stays_and_the_rest_names_runs_as_the_page_does(self) -> None:
        shown = Command("main", "train  m/1  1.3  first run, run 780edb54\n")
        assert shown.anew("train  m/1  9.9  first run, run 41c09a7f\n", {}) is shown
        changed = shown.anew("train  m/2  9.9  reused, run 41c09a7f\n", {"41c09a7f": "780edb54"})
        assert changed.output == "train  m/2  9.9  reused, run 780edb54\n"


class TestComparison:
    @pytest.mark.parametrize(
        ("shown", "printed"),
        [
            ("reused, run 780edb54\n", "reused, run 41c09a7f\n"),
            ("commit 54d68c6, 2026-11-27 20:50 UTC\n", "commit 0a1b2c3, 2027-01-02 03:04 UTC\n"),
            ("train     models:/m/1     1.3  first run\n", "train     models:/m/1    12.9  first run\n"),
            ("a\n...\nz\n", "a\nb\nz\n"),
            ("1 file, 8,441 bytes\n", "1 file, 8,503 bytes\n"),
        ],
    )
    def test_what_two_runs_do_not_have_alike_is_passed_over(self, shown: str, printed: str) -> None:
        assert Command("x", shown).agrees_with(printed)

    @pytest.mark.parametrize(
        ("shown", "printed"),
        [
            ("reused, run 780edb54\n", "first run\n"),
            ("train     models:/m/1     1.3  first run\n", "train     models:/m/2     1.3  first run\n"),
            ("f1_macro 0.9258\n", "f1_macro 0.9259\n"),
            ("a\n...\nz\n", "a\nb\n"),
            ("a\n", "a\nb\n"),
        ],
    )
    def test_whatever_else_differs_is_told(self, shown: str, printed: str) -> None:
        assert not Command("x", shown).agrees_with(printed)


class TestShell:
    @pytest.fixture
    def shell(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> console.Shell:
        monkeypatch.setattr(console, "QUIET_SECONDS", 0.5)
        (tmp_path / "workflow").mkdir()
        return console.Shell(tmp_path, {"PATH": "/usr/bin:/bin"})

    def test_commands_share_a_folder_variables_and_adas_paths(self, shell: console.Shell) -> None:
        with shell:
            assert shell.run(Command("mkdir x; cd x; export WORD=here", "")) == ""
            assert shell.run(Command('pwd; echo "$WORD"', "")) == "/home/ada/workflow/x\nhere\n"
            assert shell.run(Command("ls /home/ada/workflow; cat; no-such-program", "")).startswith("x\n")

    def test_what_is_in_the_background_shows_later_what_it_has_printed_since(self, shell: console.Shell) -> None:
        server = "(echo ready; until [ -e asked ]; do sleep 0.1; done; echo answered; sleep 100) &"
        with shell:
            assert shell.run(Command(server, "")) == "ready\n"
            assert shell.run(Command("touch asked; sleep 1; echo asked", "")) == "asked\n"
            assert shell.run(Command("", "")) == "answered\n"
        assert shell.has_ended


@pytest.mark.spark
def test_the_commands_of_the_readme_print_what_stands_there() -> None:
    assert console.differences((PROJECT / "README.md").read_text(encoding="utf-8")) == []


def test_what_is_typed_on_a_page_is_in_its_blocks_alone() -> None:
    """A line `$ mlflow run` outside of a block that is run would be a claim that nothing holds."""
    for page in PAGES:
        text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        assert re.findall(r"^\$ .*", text, re.MULTILINE) == [], page.name
