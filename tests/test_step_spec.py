"""What an entry point declares: read from its file's text it is what the step itself uses, or it is refused."""

import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from steps.core.config import PROJECT
from steps.core.errors import ProjectBroken
from steps.core.workflow.step_spec import StepSpec, read_spec, read_specs

STEPS = sorted(path.stem for path in (PROJECT / "steps").glob("[!_]*.py"))


def read(tmp_path: Path, text: str) -> StepSpec[Any]:
    """The SPEC of a project whose one step has this text."""
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps" / "score.py").write_text(text)
    return read_spec("score", project=tmp_path)


@pytest.mark.parametrize("step", STEPS)
def test_the_declaration_in_a_steps_text_is_the_one_that_the_step_uses(step: str) -> None:
    used: StepSpec[Any] = import_module(f"steps.{step}").SPEC
    assert read_spec(step) == replace(used, parameters=object)
    assert used.name == step


def test_all_declarations_are_read_without_importing_a_step() -> None:
    program = (
        "import sys; from steps.core.workflow.step_spec import read_specs; names = [s.name for s in read_specs()];"
        "print(*names); print(*{'xgboost', 'pyspark', *[f'steps.{name}' for name in names]} & set(sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines() == [" ".join(STEPS), ""]


def test_a_declaration_needs_no_module_of_its_step_to_be_there(tmp_path: Path) -> None:
    declared = 'StepSpec(name="score", parameters=P, works_on=("lake", "table"), outputs=("scores",))'
    spec = read(tmp_path, f"import a_package_of_the_cluster\n\n\nclass P: ...\n\n\nSPEC = {declared}\n")
    assert (spec.works_on, spec.works_on_uris, spec.outputs) == (("lake", "table"), ["table"], ("scores",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", r"steps/score\.py has no line SPEC = StepSpec\(\.\.\.\)\n"),
        ("\nSPEC = StepSpec(name=NAME)", r"steps/score\.py, line 2, has a SPEC that cannot be read .*malformed node"),
        ("SPEC = StepSpec(**values)", r"steps/score\.py, line 1, has a SPEC that cannot be read"),
        ('SPEC = StepSpec(name="score", needs="all")', r"unexpected keyword argument 'needs'"),
        (
            'SPEC = StepSpec(name="score", config_keys=("colums",))',
            r"'colums' in config_keys is not a key of the config \(did you mean 'columns'\?\)",
        ),
    ],
)
def test_a_declaration_that_cannot_be_read_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ProjectBroken, match=message):
        read(tmp_path, text)


def test_a_step_without_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProjectBroken, match=r"steps/score\.py is missing, and main\.py launches it"):
        read_spec("score", project=tmp_path)


def test_no_two_steps_share_a_name() -> None:
    assert len({spec.name for spec in read_specs()}) == len(STEPS)
