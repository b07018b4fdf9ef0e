"""What has to hold of compose/ before anything of it runs."""

import json
import re
import shutil
import subprocess
from functools import cache
from typing import Any

import pytest
import yaml

from steps.core.config import PROJECT

COMPOSE = PROJECT / "compose"
EXAMPLE = COMPOSE / ".env.example"
SECRETS = re.compile(r"PASSWORD|SECRET|TOKEN|KEY")
# What guards the stack on a machine of one's own; .env.example says of each that it must be changed.
KNOWN = {"POSTGRES_PASSWORD": "mlflow", "MINIO_ROOT_PASSWORD": "minioadmin"}
ONE_SHOTS = {"buckets"}
PINNED = re.compile(r"[\w./-]+:(RELEASE\.\d{4}-\d\d-\d\dT[\w-]+|\d+\.\d[\w.-]*)")


@cache
def declared() -> dict[str, Any]:
    """compose.yaml as it is written, with its variables."""
    parsed: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yaml").read_text(encoding="utf-8"))
    return parsed


def services() -> dict[str, Any]:
    found: dict[str, Any] = declared()["services"]
    return found


def used() -> dict[str, str]:
    """The variables of compose.yaml with their defaults."""
    lines = (COMPOSE / "compose.yaml").read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    found = re.findall(r"(?<!\$)\$\{(\w+)(?::-([^}]*))?\}", text)
    assert len(set(found)) == len(dict(found)), "one variable has two defaults"
    return dict(found)


def example() -> dict[str, str]:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@cache
def resolved() -> dict[str, Any]:
    """The services as docker compose understands them, of every profile and with no .env."""
    if shutil.which("docker") is None or _compose("version").returncode != 0:
        pytest.skip("docker compose is not installed; the other tests read the file itself")
    told = _compose("--env-file", "/dev/null", "--profile", "*", "config", "--format", "json")
    assert told.returncode == 0, told.stderr
    found: dict[str, Any] = json.loads(told.stdout)["services"]
    return found


def _compose(*words: str) -> subprocess.CompletedProcess[str]:
    command = ["docker", "compose", "-f", str(COMPOSE / "compose.yaml"), *words]
    return subprocess.run(command, capture_output=True, text=True, env=_bare_environment(), check=False)


def _bare_environment() -> dict[str, str]:
    """So that no variable of this machine's stands in for one of .env."""
    return {"PATH": ":".join(["/usr/local/bin", "/usr/bin", "/bin"]), "HOME": "/nonexistent"}


class TestSettings:
    def test_each_variable_is_in_the_example_and_each_of_the_example_is_used(self) -> None:
        assert set(used()) == set(example())

    def test_the_example_has_the_defaults(self) -> None:
        assert example() == used()

    def test_each_variable_has_its_line_of_comment(self) -> None:
        lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
        told = {line.split("=", 1)[0]: before for before, line in zip(lines, lines[1:], strict=False) if "=" in line}
        assert [name for name in example() if not re.match(r"# .{20,}\.$", told[name])] == []

    def test_no_secret_has_a_default_but_those_that_must_be_changed(self) -> None:
        secrets = {name: value for name, value in example().items() if SECRETS.search(name)}
        assert len(secrets) == 5
        assert {name: value for name, value in secrets.items() if value} == KNOWN
        text = EXAMPLE.read_text(encoding="utf-8")
        for name in secrets:
            assert re.search(rf"^# .*Must be (changed|set) .*\n{name}=|^# Must be .*\n{name}=", text, re.MULTILINE), (
                name
            )

    def test_git_keeps_no_env_file(self) -> None:
        told = subprocess.run(["git", "check-ignore", "-q", "compose/.env"], cwd=PROJECT, check=False)
        assert told.returncode == 0

    def test_an_image_gets_no_env_file(self) -> None:
        lines = (PROJECT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        assert lines[1] == "*"  # what follows is let in by name
        assert [line for line in lines[2:] if not line.startswith("!") or ".env" in line] == []


class TestVersions:
    def test_the_modules_that_an_image_is_built_with_import_no_others(self) -> None:
        lines = (PROJECT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        let_in = {line[1:] for line in lines if line.startswith("!steps/")}
        text = "".join((PROJECT / path).read_text(encoding="utf-8") for path in let_in)
        names = set(re.findall(r"^from steps\.core import ([\w, ]+)$", text, re.MULTILINE))
        names |= set(re.findall(r"^from steps\.core\.(\w+) import", text, re.MULTILINE))
        imported = {f"steps/core/{name}.py" for each in names for name in each.split(", ")}
        assert imported
        assert imported <= let_in

    @pytest.mark.parametrize("name", services())
    def test_an_image_is_built_here_or_pinned(self, name: str) -> None:
        image = re.sub(r"\$\{\w+:-(.*)\}", r"\1", services()[name]["image"])
        assert PINNED.fullmatch(image) or (image.endswith(":local") and "build" in services()[name])

    @pytest.mark.parametrize("name", ["mlflow", "spark"])
    def test_a_base_is_pinned_and_the_same_in_both_places(self, name: str) -> None:
        dockerfile = (COMPOSE / name / "Dockerfile").read_text(encoding="utf-8")
        assert re.findall("^FROM (.*)$", dockerfile, re.MULTILINE) == ["${PYTHON_IMAGE}"]
        defaults = dict(re.findall(r"^ARG (\w+)=(.*)$", dockerfile, re.MULTILINE))
        assert PINNED.fullmatch(defaults["PYTHON_IMAGE"])
        assert defaults == {key: used()[key] for key in services()[name]["build"]["args"]}

    @pytest.mark.parametrize("name", ["mlflow", "spark"])
    def test_packages_have_the_versions_of_conda_yaml(self, name: str) -> None:
        """Read by the Makefile's program; none is named beside them."""
        dockerfile = (COMPOSE / name / "Dockerfile").read_text(encoding="utf-8")
        program = re.search(r"sed -n '(.+?)' conda\.yaml", (PROJECT / "Makefile").read_text(encoding="utf-8"))
        assert program is not None
        assert f"sed -n '{program[1].replace('$$', '$')}' /opt/conda.yaml" in dockerfile
        assert "==" not in dockerfile.replace(program[1].replace("$$", "$"), "")

    def test_what_mlflow_is_installed_with_is_in_conda_yaml(self) -> None:
        dockerfile = (COMPOSE / "mlflow" / "Dockerfile").read_text(encoding="utf-8")
        names = re.search(r"--constraint \S+ (.*)$", dockerfile, re.MULTILINE)
        assert names is not None
        pins = set(re.findall(r"- ([a-z0-9-]+)==", (PROJECT / "conda.yaml").read_text(encoding="utf-8")))
        asked = {re.sub(r"\[.*\]", "", name.strip("'")) for name in names[1].split()}
        assert asked == {"mlflow", "boto3", "psycopg", "flask-wtf"}
        assert asked | {"psycopg-binary"} <= pins

    def test_python_is_that_of_conda_yaml(self) -> None:
        version = re.search(r"- python=(\S+)", (PROJECT / "conda.yaml").read_text(encoding="utf-8"))
        assert version is not None
        assert used()["PYTHON_IMAGE"].startswith(f"python:{version[1]}.")


class TestStart:
    @pytest.mark.parametrize("name", set(services()) - ONE_SHOTS)
    def test_a_service_says_when_it_is_healthy_and_starts_again(self, name: str) -> None:
        assert services()[name]["healthcheck"]["test"]
        assert services()[name]["restart"] == "unless-stopped"

    @pytest.mark.parametrize("name", services())
    def test_what_waits_waits_for_health(self, name: str) -> None:
        for other, wait in services()[name].get("depends_on", {}).items():
            expected = "service_completed_successfully" if other in ONE_SHOTS else "service_healthy"
            assert wait["condition"] == expected

    def test_what_depends_on_a_service_is_in_no_fewer_profiles(self) -> None:
        """Else it could not start alone."""
        for name, service in services().items():
            for other in service.get("depends_on", {}):
                assert set(services()[other].get("profiles", [])) <= set(service.get("profiles", [])), name

    def test_the_open_server_does_not_come_with_the_one_that_asks(self) -> None:
        assert "mlflow" not in services()["mlflow-auth"]["depends_on"]

    @pytest.mark.parametrize("name", services())
    def test_no_command_names_a_secret(self, name: str) -> None:
        words = json.dumps([services()[name].get(part) for part in ("command", "entrypoint", "healthcheck")])
        assert not SECRETS.search(words)


class TestAsDockerComposeReadsIt:
    def test_ports_are_bound_to_this_machine_alone(self) -> None:
        ports = {
            (name, port["target"]): (port["host_ip"], port["published"])
            for name, service in resolved().items()
            for port in service.get("ports", [])
        }
        assert {name: sorted(port for each, port in ports if each == name) for name, _ in ports} == {
            "object-store": [9000, 9001],
            "mlflow": [5000],
            "mlflow-auth": [5001],
            "spark": [15002],
        }
        assert ports == {(name, port): ("127.0.0.1", str(port)) for name, port in ports}

    def test_no_secret_has_a_value_of_its_own(self) -> None:
        found = {
            value
            for service in resolved().values()
            for name, value in service["environment"].items()
            if re.search(r"PASSWORD|SECRET|TOKEN", name) and value
        }
        assert found == set(KNOWN.values())

    def test_the_example_changes_nothing(self) -> None:
        told = _compose("--env-file", str(EXAMPLE), "--profile", "*", "config", "--format", "json")
        assert resolved() == json.loads(told.stdout)["services"]

    def test_spark_and_auth_start_only_when_they_are_asked_for(self) -> None:
        assert {name: service["profiles"] for name, service in resolved().items() if service.get("profiles")} == {
            "mlflow-auth": ["auth"],
            "spark-master": ["spark"],
            "spark-worker": ["spark"],
            "spark": ["spark"],
        }

    def test_every_service_reaches_the_object_store_at_the_same_address(self) -> None:
        found = {service["environment"].get("AWS_ENDPOINT_URL") for service in resolved().values()}
        assert found == {"http://object-store:9000", None}
