"""The stack of compose/: what its services do, started as docker compose would start them, and what it declares."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import requests
from composed import COMPOSE, SparkCluster, Tracking, install, services
from place import PROJECT, Ended, until
from services import PASSWORD, ObjectStore, Postgres, free_port, object_store

EXAMPLE = COMPOSE / ".env.example"
SETTINGS = COMPOSE / "mlflow" / "settings.py"
SECRETS = re.compile(r"PASSWORD|SECRET|TOKEN|KEY")
# What guards the stack on a machine of one's own; .env.example says of each that it must be changed.
KNOWN = {"POSTGRES_PASSWORD": "mlflow", "MINIO_ROOT_PASSWORD": "minioadmin", "AIRFLOW_ADMIN_PASSWORD": "airflow"}
ONE_SHOTS = {"airflow-init", "buckets", "settings"}
IMAGES = ("airflow", "mlflow", "serve", "spark")
OWN_CONTEXT = ("airflow", "serve")  # images that get files which the others do not
PINNED = re.compile(r"[\w./-]+:(RELEASE\.\d{4}-\d\d-\d\dT[\w-]+|\d+\.\d[\w.-]*)")


def used() -> dict[str, str]:
    """The variables of compose.yaml with their defaults."""
    lines = (COMPOSE / "compose.yaml").read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    found = re.findall(r"(?<!\$)\$\{(\w+)(?::-([^}]*))?\}", text)
    assert len(set(found)) == len(dict(found)), "one variable has two defaults"
    return dict(found)


def example() -> dict[str, str]:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    pairs = [line.split("=", 1) for line in lines if line and not line.startswith("#")]
    return {name: value.strip("'") for name, value in pairs}


@cache
def resolved() -> dict[str, Any]:
    """The services as docker compose understands them, of every profile and with no .env."""
    if shutil.which("docker") is None or _compose("version").returncode != 0:
        pytest.skip("docker compose is not installed; the other tests read the file itself")
    return _resolved_with(Path("/dev/null"))


def _resolved_with(env_file: Path) -> dict[str, Any]:
    answer = _compose("--env-file", str(env_file), "--profile", "*", "config", "--format", "json")
    assert answer.returncode == 0, answer.stderr
    described: dict[str, Any] = json.loads(answer.stdout)["services"]
    return described


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
        assert len(secrets) == 7
        assert {name: value for name, value in secrets.items() if value} == KNOWN
        text = EXAMPLE.read_text(encoding="utf-8")
        for name in secrets:
            assert re.search(rf"^# .*Must be (changed|set) .*\n{name}=|^# Must be .*\n{name}=", text, re.MULTILINE), (
                name
            )

    def test_git_keeps_no_env_file(self) -> None:
        told = subprocess.run(["git", "check-ignore", "-q", "compose/.env"], cwd=PROJECT, check=False)
        assert told.returncode == 0

    @pytest.mark.parametrize(
        "path", [".dockerignore", *(f"compose/{name}/Dockerfile.dockerignore" for name in OWN_CONTEXT)]
    )
    def test_an_image_gets_no_env_file(self, path: str) -> None:
        lines = (PROJECT / path).read_text(encoding="utf-8").splitlines()
        assert lines[1] == "*"  # what follows is let in by name
        without = [line for line in lines[2:] if line != "steps/**/__pycache__"]
        assert [line for line in without if not line.startswith("!") or ".env" in line] == []

    @pytest.mark.parametrize("name", OWN_CONTEXT)
    def test_an_image_gets_what_it_copies(self, name: str) -> None:
        folder = COMPOSE / name
        lines = re.findall(r"^COPY (.+) \S+$", (folder / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
        copied = {word for line in lines for word in line.split()}
        let_in = (folder / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
        needed = {path for path in copied if not any(str(other) in copied for other in Path(path).parents)}
        assert sorted(needed) == sorted(line[1:] for line in let_in if line.startswith("!"))

    @pytest.mark.parametrize("name", IMAGES)
    def test_an_image_runs_as_a_user_without_rights(self, name: str) -> None:
        dockerfile = (COMPOSE / name / "Dockerfile").read_text(encoding="utf-8")
        assert re.findall(r"^USER (\S+)$", dockerfile, re.MULTILINE) == [name]
        assert re.search(rf"useradd --create-home --uid 10001 {name}\b", dockerfile)


class TestVersions:
    def test_the_modules_that_an_image_is_built_with_import_no_others(self, tmp_path: Path) -> None:
        lines = (PROJECT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        let_in = {line[1:] for line in lines if line.startswith("!steps/")}
        for path in let_in:
            copy = tmp_path / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes((PROJECT / path).read_bytes())
        program = "from steps.core.spark import jars; print(jars.__file__)"
        command = [sys.executable, "-c", program]
        imported = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert imported.stdout.strip() == str(tmp_path / "steps/core/spark/jars.py"), imported.stderr

    @pytest.mark.parametrize("name", services())
    def test_an_image_is_built_here_or_pinned(self, name: str) -> None:
        image = services()[name]["image"]
        assert PINNED.fullmatch(image) or (image.endswith(":local") and "build" in services()[name])

    @pytest.mark.parametrize("name", IMAGES)
    def test_a_base_is_pinned_and_the_same_in_both_places(self, name: str) -> None:
        dockerfile = (COMPOSE / name / "Dockerfile").read_text(encoding="utf-8")
        assert re.findall("^FROM (.*)$", dockerfile, re.MULTILINE) == ["${PYTHON_IMAGE}"]
        defaults = dict(re.findall(r"^ARG (\w+)=(.*)$", dockerfile, re.MULTILINE))
        assert PINNED.fullmatch(defaults["PYTHON_IMAGE"])
        builds = [each["build"] for each in services().values() if each["image"] == f"tabular-workflow-{name}:local"]
        assert defaults == {key: used()[key] for key in builds[0]["args"]}

    @pytest.mark.parametrize("name", IMAGES)
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

    def test_what_the_server_is_installed_with_is_in_conda_yaml(self) -> None:
        dockerfile = (COMPOSE / "serve" / "Dockerfile").read_text(encoding="utf-8")
        pins = set(re.findall(r"- ([a-z0-9-]+)==", (PROJECT / "conda.yaml").read_text(encoding="utf-8")))
        (names,) = re.findall(r"--constraint \S+ ([^&]+) &&", dockerfile)
        removed = re.findall(r"pip uninstall --yes (\S+)", dockerfile)
        asked = {*names.replace("\\\n", " ").split(), *removed}
        assert {"mlflow-skinny", "xgboost", "deltalake", "nvidia-nccl-cu13"} <= asked <= pins

    def test_what_the_image_installs_of_the_project_keeps_the_servers_artifacts(self, tmp_path: Path) -> None:
        service = services()["mlflow"]
        destination = re.search(r"--artifacts-destination (\S+)", service["command"])
        assert destination is not None
        install(service, tmp_path)
        program = (
            "import sys; from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository;"
            "print(type(get_artifact_repository(sys.argv[1])).__name__)"
        )
        repository = subprocess.run(
            [sys.executable, "-c", program, destination[1]],
            env={**os.environ, "PYTHONPATH": str(tmp_path / "site-packages")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert repository.stdout == "ThroughServer\n", repository.stderr

    def test_python_is_that_of_conda_yaml(self) -> None:
        version = re.search(r"- python=(\S+)", (PROJECT / "conda.yaml").read_text(encoding="utf-8"))
        assert version is not None
        assert used()["PYTHON_IMAGE"].startswith(f"python:{version[1]}.")


class TestStart:
    @pytest.mark.parametrize("name", sorted(set(services()) - ONE_SHOTS))
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

    def test_no_service_starts_before_the_settings_were_looked_at(self) -> None:
        def awaited(name: str) -> set[str]:
            names = set(services()[name].get("depends_on", {}))
            return names.union(*map(awaited, names))

        for name in set(services()) - {"settings", "spark-master", "spark-worker"}:  # these two have nothing to guard
            assert "settings" in awaited(name), name

    def test_a_server_that_takes_minutes_to_its_first_answer_is_not_given_up(self) -> None:
        """MLflow was seen to take 170 s on a busy machine."""
        for name in set(services()) - ONE_SHOTS:
            health = services()[name]["healthcheck"]
            assert int(health["start_period"].removesuffix("s")) >= 3 * 170, name
            assert int(health["start_interval"].removesuffix("s")) <= 5, name

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
        assert set(ports) == {
            *(("object-store", port) for port in (9000, 9001)),
            *(("mlflow", 5000), ("serve", 5002), ("spark", 15002), ("airflow-api-server", 8080)),
        }
        assert ports == {(name, port): ("127.0.0.1", str(port)) for name, port in ports}

    def test_no_secret_has_a_value_of_its_own(self) -> None:
        values = {
            value
            for service in resolved().values()
            for name, value in service["environment"].items()
            if re.search(r"PASSWORD|SECRET|TOKEN", name) and value
        }
        assert values == set(KNOWN.values())

    def test_the_example_changes_nothing(self) -> None:
        resolved()
        without_check = _resolved_with(EXAMPLE)
        settings = without_check.pop("settings")["environment"]
        assert without_check == {name: service for name, service in resolved().items() if name != "settings"}
        assert settings == example()

    def test_what_is_in_a_profile_starts_only_when_it_is_asked_for(self) -> None:
        assert {name: service["profiles"] for name, service in resolved().items() if service.get("profiles")} == {
            **{name: ["spark"] for name in ("spark-master", "spark-worker", "spark")},
            "serve": ["serve"],
            **{name: ["airflow"] for name in resolved() if name.startswith("airflow-")},
        }

    def test_every_service_reaches_the_object_store_at_the_same_address(self) -> None:
        addresses = {(service["environment"] or {}).get("AWS_ENDPOINT_URL") for service in resolved().values()}
        assert addresses == {"http://object-store:9000", None}


# What docker compose makes of a line of .env; TestValues asks it where it is installed.
UNCHANGED = {
    "simple": "simple",
    "'ab$cd1234$9x'": "ab$cd1234$9x",
    "'one #two'  # a comment": "one #two",
    "'it\\'s $1'": "it's $1",
    '"in double quotes"': "in double quotes",
    "no#comment": "no#comment",
    "ends-in$": "ends-in$",
    "it's": "it's",
    "": "",
}
CHANGED = {
    "ab$cd1234$9x": "ab$9x",
    "pw12 #two": "pw12",
    '"pw12$cd"': "pw12",
    '"pw12\\nb"': "pw12\nb",
    "pw12$$cd": "pw12$cd",
    "pw12\\$b": "pw12\\",
    "'ab12' cd": "ab12",
}


class TestValues:
    """Of compose/.env: what is written has to be what arrives."""

    def check(self, folder: Path, written: str, arrived: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """The service `settings`, where docker compose has put `arrived` into its environment."""
        (folder / ".env").write_text(written, encoding="utf-8")
        shutil.copy(EXAMPLE, folder)
        command = [sys.executable, str(SETTINGS), str(folder)]
        return subprocess.run(command, env=arrived, capture_output=True, text=True, check=False)

    @pytest.mark.parametrize("value", UNCHANGED)
    def test_that_arrive_as_they_are_written_are_taken(self, tmp_path: Path, value: str) -> None:
        ended = self.check(tmp_path, f"POSTGRES_PASSWORD={value}\n", {"POSTGRES_PASSWORD": UNCHANGED[value]})
        assert (ended.returncode, ended.stderr) == (0, "")

    @pytest.mark.parametrize("line", ["{}={}", "export {}={}", "  {} = {}", "{}: {}"])
    @pytest.mark.parametrize("value", CHANGED)
    def test_that_docker_compose_changes_are_refused_without_being_shown(
        self, tmp_path: Path, value: str, line: str
    ) -> None:
        written = line.format("POSTGRES_PASSWORD", value)
        ended = self.check(tmp_path, f"# a comment\n{written}\n", {"POSTGRES_PASSWORD": CHANGED[value]})
        assert ended.returncode == 1
        assert "compose/.env: POSTGRES_PASSWORD does not arrive as it is written" in ended.stderr
        assert "POSTGRES_PASSWORD='...'" in ended.stderr
        assert value not in ended.stderr
        assert CHANGED[value] not in ended.stderr

    def test_of_the_shell_come_before_those_of_the_file(self, tmp_path: Path) -> None:
        ended = self.check(tmp_path, "POSTGRES_PASSWORD=one\n", {"POSTGRES_PASSWORD": "two"})
        assert (ended.returncode, ended.stderr) == (0, "")

    def test_of_a_misspelt_name_are_refused_with_the_nearest_right_one(self, tmp_path: Path) -> None:
        ended = self.check(tmp_path, "MLFLOW_AUTH_ADMIN_PASWORD=known\nCOMPOSE_PROFILES=spark\nOTHER=1\n", {})
        assert ended.returncode == 1
        assert ended.stderr == (
            "compose/.env: there is no setting MLFLOW_AUTH_ADMIN_PASWORD\n"
            "  next      write MLFLOW_AUTH_ADMIN_PASSWORD, or take the line out\n"
        )

    @pytest.mark.parametrize(("name", "least"), [("MLFLOW_AUTH_ADMIN_PASSWORD", 12), ("MINIO_ROOT_PASSWORD", 8)])
    def test_that_their_service_would_refuse_are_refused(self, tmp_path: Path, name: str, least: int) -> None:
        """It would end, be started again and end for ever, and whoever waits for it waits as long."""
        for value in ("", "x" * least):
            assert self.check(tmp_path, f"{name}={value}\n", {name: value}).returncode == 0
        ended = self.check(tmp_path, f"{name}={'x' * (least - 1)}\n", {name: "x" * (least - 1)})
        assert ended.returncode == 1
        assert f"compose/.env: {name} is too short\n  expected  at least {least} characters\n" == ended.stderr

    def test_need_no_file(self, tmp_path: Path) -> None:
        assert subprocess.run([sys.executable, SETTINGS, tmp_path], check=False).returncode == 0

    def test_all_of_them_are_looked_at(self) -> None:
        assert services()["settings"]["environment"] == sorted(example())

    @pytest.mark.parametrize("value", [*UNCHANGED, *CHANGED])
    def test_are_read_by_docker_compose_as_the_tests_say(self, tmp_path: Path, value: str) -> None:
        resolved()
        (tmp_path / ".env").write_text(f"POSTGRES_PASSWORD={value}\n", encoding="utf-8")
        arrived = _resolved_with(tmp_path / ".env")["settings"]["environment"]["POSTGRES_PASSWORD"]
        assert arrived.replace("$$", "$") == {**UNCHANGED, **CHANGED}[value]


# What anybody could ask of a tracking server, to read and to write.
REQUESTS = [
    ("GET", "/", None),
    ("GET", "/version", None),
    ("GET", "/api/2.0/mlflow/experiments/get?experiment_id=0", None),
    ("POST", "/api/2.0/mlflow/experiments/create", {"name": "of-nobody"}),
    ("POST", "/api/2.0/mlflow/experiments/search", {"max_results": 1}),
    ("POST", "/ajax-api/2.0/mlflow/experiments/search", {"max_results": 1}),
    ("POST", "/api/2.0/mlflow/runs/create", {"experiment_id": "0"}),
    ("POST", "/api/2.0/mlflow/runs/search", {"experiment_ids": ["0"]}),
    ("POST", "/graphql", {"query": '{mlflowGetExperiment(input: {experimentId: "0"}) {experiment {name}}}'}),
    ("GET", "/api/2.0/mlflow/registered-models/search", None),
    ("POST", "/api/2.0/mlflow/registered-models/create", {"name": "of-nobody"}),
    ("GET", "/api/2.0/mlflow-artifacts/artifacts", None),
    ("GET", "/api/2.0/mlflow-artifacts/artifacts/note.txt", None),
    ("PUT", "/api/2.0/mlflow-artifacts/artifacts/of-nobody.txt", {}),
    ("DELETE", "/api/2.0/mlflow-artifacts/artifacts/note.txt", None),
    ("POST", "/api/2.0/mlflow/users/create", {"username": "nobody", "password": "nobodys-password"}),
]


@pytest.mark.spark
class TestWithAuthOn:
    """All that docker compose would publish once the admin's password is set, whatever the profile."""

    @pytest.fixture(scope="class")
    @classmethod
    def store(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
        with object_store(tmp_path_factory.mktemp("object-store"), bucket="mlflow") as store:
            yield store

    @pytest.fixture(scope="class")
    @classmethod
    def postgres(cls) -> Iterator[Postgres]:
        postgres = Postgres()
        postgres.start()
        postgres.create("mlflow")
        yield postgres
        postgres.remove()

    @pytest.fixture(scope="class", params=["the password is set", "it was set once"])
    @classmethod
    def servers(
        cls,
        request: pytest.FixtureRequest,
        store: ObjectStore,
        postgres: Postgres,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> Iterator[list[Tracking]]:
        settings = {"POSTGRES_PASSWORD": PASSWORD, "MINIO_ROOT_USER": store.settings["AWS_ACCESS_KEY_ID"]}
        settings["MINIO_ROOT_PASSWORD"] = store.settings["AWS_SECRET_ACCESS_KEY"]
        if request.param == "the password is set":
            settings |= {"MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD, "MLFLOW_FLASK_SERVER_SECRET_KEY": PASSWORD}
        servers = [
            Tracking(tmp_path_factory.mktemp(name), service, postgres=postgres, store=store, database="mlflow")
            for name, service in services(settings).items()
            if "mlflow" in service["image"] and service.get("ports")
        ]
        for server in servers:
            server.start()
        yield servers
        for server in servers:
            server.stop()

    def test_a_user_reads_and_writes(self, servers: list[Tracking], store: ObjectStore) -> None:
        known = requests.Session()
        known.auth = ("admin", PASSWORD)
        for server in servers:
            run = known.post(f"{server.url}/api/2.0/mlflow/runs/create", json={"experiment_id": "0"}, timeout=30)
            assert run.status_code == 200, run.text
            note = f"{server.url}/api/2.0/mlflow-artifacts/artifacts/note.txt"
            assert known.put(note, data=b"kept", timeout=30).status_code == 200
            assert known.get(note, timeout=30).content == b"kept"
        assert store.names("mlflow") == ["note.txt"]

    @pytest.mark.parametrize("user", [None, ("admin", "wrong"), ("nobody", PASSWORD)])
    def test_nobody_else_does(
        self, servers: list[Tracking], postgres: Postgres, store: ObjectStore, user: tuple[str, str] | None
    ) -> None:
        kept = self.state(postgres, store)
        answers = [
            (server.url, method, path, requests.request(method, server.url + path, json=body, auth=user, timeout=30))
            for server in servers
            for method, path, body in REQUESTS
        ]
        assert [answer[:3] for answer in answers if answer[3].status_code != 401] == []
        assert self.state(postgres, store) == kept

    def test_the_object_store_asks_for_a_key(self, store: ObjectStore) -> None:
        for path in ("/", "/mlflow", "/mlflow/note.txt"):
            assert requests.get(store.url + path, timeout=30).status_code == 403
        assert requests.put(f"{store.url}/mlflow/of-nobody", data=b"", timeout=30).status_code == 403

    def state(self, postgres: Postgres, store: ObjectStore) -> tuple[object, ...]:
        tables = ("runs", "experiments", "registered_models", "users")
        return store.names("mlflow"), [postgres.query(f"select count(*) from {table}") for table in tables]


class TestHealthOfSpark:
    def test_is_not_an_open_port(self) -> None:
        """Of a server that accepts and answers nothing."""
        with socket.create_server(("localhost", 0)) as mute:
            command = [sys.executable, str(COMPOSE / "spark" / "health.py"), str(mute.getsockname()[1]), "2"]
            ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert (ended.returncode, ended.stderr) == (1, "no query was answered within 2 s\n")

    def test_is_not_there_without_one(self) -> None:
        command = [sys.executable, str(COMPOSE / "spark" / "health.py"), str(free_port()), "2"]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert ended.returncode == 1
        assert "Connection refused" in ended.stderr


@pytest.mark.spark
class TestSpark:
    """The profile spark, each service started again when it ends; with a token."""

    @pytest.fixture(scope="class")
    @classmethod
    def spark(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkCluster]:
        memory = {"SPARK_DRIVER_MEMORY": "512m", "SPARK_EXECUTOR_MEMORY": "512m"}
        spark = SparkCluster(
            tmp_path_factory.mktemp("spark"), {**memory, "SPARK_CONNECT_AUTHENTICATE_TOKEN": "token-7b1e"}
        )
        spark.start()
        yield spark
        spark.stop()

    @pytest.fixture(scope="class")
    @classmethod
    def asked(cls, spark: SparkCluster) -> list[Ended]:
        """The answers to who asks how it is, until it is healthy."""
        asked = []

        def is_healthy() -> bool:
            asked.append(spark.health())
            return asked[-1].exit_code == 0

        assert until(is_healthy, seconds=150), spark.server.log()[-3000:]
        return asked

    def test_is_healthy_once_it_answers_a_query(self, asked: list[Ended]) -> None:
        assert asked[-1].exit_code == 0

    def test_shows_no_token(self, asked: list[Ended]) -> None:
        assert [ended.text for ended in asked if "token-7b1e" in ended.text] == []

    def test_is_unhealthy_without_its_token(self, spark: SparkCluster, asked: list[Ended]) -> None:
        assert spark.health(SPARK_CONNECT_AUTHENTICATE_TOKEN="wrong").exit_code == 1

    def test_is_unhealthy_in_time_when_no_executor_is_left_and_recovers(self, spark: SparkCluster) -> None:
        spark.worker.stop()
        asked = spark.health(seconds=5)
        assert (asked.exit_code, asked.text) == (1, "no query was answered within 5 s\n")
        assert asked.seconds < 30
        spark.worker.start()
        assert until(lambda: spark.health().exit_code == 0, seconds=100), spark.server.log()[-3000:]

    def test_recovers_when_its_master_is_started_again(self, spark: SparkCluster) -> None:
        spark.master.kill()
        recovered = until(lambda: self.has_executors(spark) and spark.health().exit_code == 0, seconds=150)
        assert recovered, spark.server.log()[-3000:]

    def has_executors(self, spark: SparkCluster) -> bool:
        """Whether the master that runs now has given cores to an application. Its pages answer before its JSON."""
        try:
            with urllib.request.urlopen(f"{spark.master_page}/json/", timeout=2) as answer:
                return any(application["cores"] for application in json.load(answer)["activeapps"])
        except (OSError, json.JSONDecodeError):
            return False
