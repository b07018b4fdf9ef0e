"""infrastructure/kubernetes/workflow.Dockerfile: the image of the CronJobs."""

import re
import shutil
import sys
from pathlib import Path

import pytest
from cloud import KUBERNETES
from composed import COMPOSE
from place import PROJECT, Place


class TestWorkflowImage:
    dockerfile = (KUBERNETES / "workflow.Dockerfile").read_text(encoding="utf-8")

    def test_packages_have_the_versions_of_conda_yaml(self) -> None:
        program = re.search(r"sed -n '(.+?)' conda\.yaml", (PROJECT / "Makefile").read_text(encoding="utf-8"))
        assert program is not None
        assert f"sed -n '{program[1].replace('$$', '$')}' /opt/conda.yaml" in self.dockerfile

    def test_its_base_is_that_of_the_other_images(self) -> None:
        line = re.compile("^ARG PYTHON_IMAGE=.*$", re.MULTILINE)
        assert line.findall(self.dockerfile) == line.findall(
            (COMPOSE / "mlflow/Dockerfile").read_text(encoding="utf-8")
        )

    def test_what_is_let_in_is_what_is_copied(self) -> None:
        lines = (KUBERNETES / "workflow.Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
        assert lines[1] == "*"
        let_in = {line[1:] for line in lines if line.startswith("!")}
        copied = {
            word for line in re.findall(r"^COPY (.*) \S+$", self.dockerfile, re.MULTILINE) for word in line.split()
        }
        assert let_in == copied

    @pytest.mark.spark
    def test_the_workflow_runs_on_what_is_in_it(self, tmp_path: Path) -> None:
        lines = (KUBERNETES / "workflow.Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
        project = tmp_path / "project"
        project.mkdir()
        for name in [line[1:] for line in lines if line.startswith("!")]:
            source = PROJECT / name
            if source.is_dir():
                shutil.copytree(source, project / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, project / name)
        (tmp_path / "stands").mkdir()
        place = Place(tmp_path / "stands", {"PYTHONPATH": str(project)}, is_forked=False)
        ran = place.run(sys.executable, "-m", "steps", "main", "--config=configs/iris.yaml")
        assert ran.exit_code == 0, ran.text
        assert re.search(r"^infer +\S+/lake/iris_predictions@v0", ran.out, re.MULTILINE)
        assert ran.out.count("reused") == 0
