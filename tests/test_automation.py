"""The workflows of .github/workflows run what is here and tested, with the least rights, and race with nothing."""

import json
import os
import re
import subprocess
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import entry_points, unknown_words
from conftest import LONGEST, TOGETHER
from makefile import recipe
from place import PROJECT
from services import needed

from automation import rollout
from automation.shares import shares
from steps.core.parameters import parse

WORKFLOWS = sorted((PROJECT / ".github" / "workflows").glob("*.yml"))
PINNED = re.compile(r"^ *(?:- )?uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")
HERE = re.compile(r"^ *uses: \./\.github/workflows/[\w.-]+\.yml( #.*)?$")
each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


class AsText(yaml.SafeLoader):
    """YAML 1.2's booleans: `on` is a text."""


AsText.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read(path: Path) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), AsText)  # a kind of SafeLoader
    return parsed


def workflow(name: str) -> dict[str, Any]:
    return read(PROJECT / ".github" / "workflows" / f"{name}.yml")


def jobs_with_steps(path: Path) -> list[dict[str, Any]]:
    return [job for job in read(path)["jobs"].values() if "steps" in job]


def commands(path: Path) -> list[str]:
    steps = chain.from_iterable(job["steps"] for job in jobs_with_steps(path))
    return [line for step in steps for line in step.get("run", "").splitlines() if line]


CI_RUN = (PROJECT / ".ci" / "run").read_text(encoding="utf-8")


class TestWhatIsRun:
    @each_workflow
    def test_every_command_is_one_that_everyone_runs(self, path: Path) -> None:
        assert {command: unknown_words(command) for command in commands(path) if unknown_words(command)} == {}
        assert [line for line in commands(path) if not line.startswith("make ") and line not in CI_RUN] == []

    @each_workflow
    def test_no_expression_is_part_of_a_command(self, path: Path) -> None:
        """What stands in one would be code of the shell; variables of the environment are not."""
        assert [command for command in commands(path) if "${{" in command] == []

    def test_ci_runs_the_commands_that_everyone_runs(self) -> None:
        everyones = [line.split() for line in CI_RUN.splitlines() if line.startswith(("make ", ".ci/"))]
        targets = [word for _, *words in everyones for word in words if not word.startswith("-")]
        assert everyones[0] == [".ci/prepare"]
        assert targets == ["setup", "check", "check-infrastructure", "docs", "test"]
        run_by_ci = set(commands(PROJECT / ".github" / "workflows" / "ci.yml"))
        assert {
            ".ci/prepare",
            "make check",
            "make check-infrastructure",
            "make docs",
            "make test-share",
            "make sbom",
            "make audit",
        } == run_by_ci

    def test_make_check_checks_the_workflows(self) -> None:
        assert ".ci/check-automation" in recipe("check")

    def test_a_release_is_made_of_what_passes_ci(self) -> None:
        release = workflow("release")["jobs"]
        assert release["ci"]["uses"] == "./.github/workflows/ci.yml"
        assert release["images"]["needs"] == "ci"
        assert "workflow_call" in workflow("ci")["on"]

    def test_a_release_has_every_image_of_the_project(self) -> None:
        built = {path.parent.name for path in (PROJECT / "compose").glob("*/Dockerfile")}
        assert built == set(workflow("release")["jobs"]["images"]["strategy"]["matrix"]["image"])


class TestInputs:
    def test_those_of_train_are_the_parameters_of_main(self) -> None:
        inputs = workflow("train")["on"]["workflow_dispatch"]["inputs"]
        declared = {name: parameter["default"] for name, parameter in entry_points()["main"]["parameters"].items()}
        assert {name: each["default"] for name, each in inputs.items()} == declared

    def test_those_of_promote_are_parameters_of_promote(self) -> None:
        inputs = workflow("promote")["on"]["workflow_dispatch"]["inputs"]
        declared = {name: parameter["default"] for name, parameter in entry_points()["promote"]["parameters"].items()}
        assert {name: each["default"] for name, each in inputs.items()}.items() <= declared.items()

    def test_those_of_promote_reach_the_rollout(self) -> None:
        """Each by a variable of the environment, which the Makefile hands on as an option."""
        variables = workflow("promote")["jobs"]["promote"]["env"]
        inputs = workflow("promote")["on"]["workflow_dispatch"]["inputs"]
        options = dict(re.findall(r'--(\w+)="\$\$(\w+)"', recipe("rollout")))
        assert {name: variables[options[name]] for name in inputs} == {
            name: f"${{{{ inputs.{name} }}}}" for name in inputs
        }
        assert set(options) <= {field for field in rollout.Rollout.__dataclass_fields__}
        assert set(options.values()) <= {*variables, "IMAGE"}  # which the step before it pushed

    def test_the_rollout_has_the_defaults_of_promote(self) -> None:
        from steps.promote import PromoteParameters

        names = ("config", "name", "version", "alias", "force", "reason")
        asked = rollout.Rollout(image="i@sha256:0", url="http://localhost")
        argv = [f"--{name}={getattr(asked, name)}" for name in names]
        assert parse(PromoteParameters, argv, entry_point="promote") == PromoteParameters()


class TestTargets:
    """Those of the Makefile that no other test runs; the environment is taken for made."""

    def make(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        command = ["make", "--silent", "--old-file=.venv/packages", "--old-file=.venv/installed", *words]
        outer = ("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS")  # of a `make test ARGS=...` that has started these tests
        environment = {**{name: value for name, value in os.environ.items() if name not in outer}, **variables}
        return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)

    def test_a_share_is_run_by_its_number(self) -> None:
        many = "1000"  # so that it holds the first files alone
        ended = self.make("test-share", SHARE="1", SHARES=many, ARGS="--collect-only -q")
        assert ended.returncode == 0, ended.stdout
        collected = {line.partition("::")[0] for line in ended.stdout.splitlines() if "::" in line}
        assert collected == {f"tests/{LONGEST[0]}.py"}

    def test_a_share_that_there_is_not_runs_no_test(self) -> None:
        ended = self.make("test-share", SHARE="6", SHARES="5")
        assert (ended.returncode, ended.stdout) == (2, "")
        assert "share 6 of 5: a number from 1 to 5 is expected" in ended.stderr

    def test_inputs_of_a_rollout_are_texts_to_the_shell(self, tmp_path: Path) -> None:
        names = re.findall(r'"\$\$(\w+)"', recipe("rollout"))
        nasty = f'it\'s "$(touch {tmp_path}/made)" `touch {tmp_path}/made`'
        ended = self.make("rollout", **dict.fromkeys(names, nasty))
        assert f"RolloutFailed: image {nasty!r} has no digest" in ended.stderr
        assert list(tmp_path.iterdir()) == []

    def test_a_kubeconfig_is_that_of_the_cluster(self, tmp_path: Path) -> None:
        """`aws` is a script here: there is no account."""
        words = tmp_path / "aws"
        words.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n', encoding="utf-8")
        words.chmod(0o755)
        ended = self.make("kubeconfig", EKS_CLUSTER="a b", PATH=f"{tmp_path}:{os.environ['PATH']}")
        assert ended.stdout.splitlines() == ["eks", "update-kubeconfig", "--name", "a b"]

    def test_the_bill_of_materials_has_what_is_installed(self, tmp_path: Path) -> None:
        needed("uv", PROJECT / ".uv" / "bin")
        ended = self.make("sbom", f"SBOM={tmp_path}/sbom.json")
        assert ended.returncode == 0, ended.stderr
        components = json.loads((tmp_path / "sbom.json").read_text(encoding="utf-8"))["components"]
        listed = {component["name"].lower(): component["version"] for component in components}
        assert {name: listed[name] for name in ("mlflow", "xgboost")} == {
            name: version(name) for name in ("mlflow", "xgboost")
        }


class TestRights:
    @each_workflow
    def test_every_action_is_pinned_by_its_commit(self, path: Path) -> None:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if "uses:" in line]
        assert lines
        assert [line for line in lines if not PINNED.match(line) and not HERE.match(line)] == []

    def test_one_action_has_one_commit_and_one_version_in_all_workflows(self) -> None:
        found = set()
        for path in WORKFLOWS:
            found |= set(re.findall(r"uses: ([\w./-]+)@([0-9a-f]{40}) # (v\S+)$", path.read_text(), re.MULTILINE))
        assert len(found) > 5
        assert len({name for name, _, _ in found}) == len(found)

    @each_workflow
    def test_a_job_has_the_rights_that_it_names_and_no_others(self, path: Path) -> None:
        parsed = read(path)
        assert parsed["permissions"] == {}
        for job in parsed["jobs"].values():
            assert job["permissions"]["contents"] == "read"
            assert set(job["permissions"].values()) <= {"read", "write"}

    def test_what_comes_from_others_may_only_read(self) -> None:
        """A pull request of a stranger runs ci.yml with the stranger's code."""
        assert [job["permissions"] for job in workflow("ci")["jobs"].values()] == [{"contents": "read"}] * 3
        text = (PROJECT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
        assert "secrets" not in text
        for path in WORKFLOWS:
            assert not {"pull_request_target", "workflow_run"} & set(read(path)["on"])

    @each_workflow
    def test_no_key_of_a_cloud_is_stored(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        assert set(re.findall(r"secrets\.(\w+)", text)) <= {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"}
        assert not re.search(r"aws-(access-key-id|secret-access-key)", text)
        for job in jobs_with_steps(path):
            if any("configure-aws-credentials" in step.get("uses", "") for step in job["steps"]):
                assert job["permissions"]["id-token"] == "write"

    @each_workflow
    def test_a_checkout_leaves_no_token_behind(self, path: Path) -> None:
        checkouts = [
            step for job in jobs_with_steps(path) for step in job["steps"] if "checkout@" in step.get("uses", "")
        ]
        assert [step["with"]["persist-credentials"] for step in checkouts] == ["false"] * len(jobs_with_steps(path))

    def test_an_image_is_scanned_before_it_is_pushed_and_pushed_before_an_alias_moves(self) -> None:
        steps = workflow("promote")["jobs"]["promote"]["steps"]
        told = [step.get("run") or step["uses"].partition("@")[0].rpartition("/")[2] for step in steps]
        order = ["build-push-action", "scan-action", "configure-aws-credentials", "build-push-action", "make rollout"]
        assert [name for name in told if name in order] == order
        built, pushed = (step["with"] for step in steps if "build-push-action" in step.get("uses", ""))
        assert built["load"] == pushed["push"] == "true"
        assert "push" not in built
        assert {key: built[key] for key in ("context", "file")} == {key: pushed[key] for key in ("context", "file")}

    def test_production_changes_after_an_approval(self) -> None:
        assert [job["environment"] for job in workflow("promote")["jobs"].values()] == ["production"]
        assert set(workflow("promote")["on"]) == {"workflow_dispatch"}


class TestTime:
    @each_workflow
    def test_every_job_has_a_limit(self, path: Path) -> None:
        limits = [int(job["timeout-minutes"]) for job in jobs_with_steps(path)]
        assert limits
        assert max(limits) <= (20 if path.stem == "ci" else 350)  # a role in the cloud is lent for six hours at most

    @each_workflow
    def test_two_of_a_kind_do_not_run_at_once(self, path: Path) -> None:
        concurrency = read(path)["concurrency"]
        assert concurrency["group"].partition("-")[0] == path.stem
        if path.stem in ("train", "promote"):
            assert concurrency == {"group": path.stem, "cancel-in-progress": "false"}


class TestShares:
    def test_every_test_is_in_one_share(self) -> None:
        numbers = workflow("ci")["jobs"]["tests"]["strategy"]["matrix"]["share"]
        assert numbers == list(range(1, len(numbers) + 1))
        files = [path.stem for path in (PROJECT / "tests").glob("test_*.py")]
        dealt = shares(files, len(numbers), together=TOGETHER, longest=LONGEST)
        assert sorted(chain.from_iterable(dealt)) == sorted(files)

    def test_files_that_share_what_is_made_once_stay_together(self) -> None:
        dealt = shares(["a", "b", "c", "d"], 2, together={"a": "one", "d": "one"}, longest=("d",))
        assert dealt == [["d", "a"], ["b", "c"]]

    def test_the_order_of_the_files_does_not_matter(self) -> None:
        files = [path.stem for path in (PROJECT / "tests").glob("test_*.py")]
        dealt = [shares(order, 5, together=TOGETHER, longest=LONGEST) for order in (files, files[::-1])]
        assert dealt[0] == dealt[1]

    def test_the_longest_are_dealt_out_first(self) -> None:
        names = [f"test_{letter}" for letter in "abcdef"]
        dealt = shares(names, 3, together={}, longest=names[::-1])
        assert dealt == [["test_f", "test_a"], ["test_e", "test_b"], ["test_d", "test_c"]]
