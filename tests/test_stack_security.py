"""Who may use the stack, and that no secret is in anything that a run leaves, prints or shows while it works."""

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
import requests
from mlflow.entities import Run
from place import PROJECT, Ended, Place
from services import KEY, PASSWORD, SECRET, MlflowServer, Stack

pytestmark = pytest.mark.spark

MODEL = "iris_xgboost_classifier"


@pytest.fixture(scope="module")
def guarded(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A tracking server that asks who is there: the user admin, with PASSWORD."""
    server = MlflowServer(
        tmp_path_factory.mktemp("auth") / "server", stack.postgres, stack.store, database="auth", app="basic-auth"
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def ada(stack: Stack, guarded: MlflowServer) -> Place:
    known = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": PASSWORD}
    return stack.place("guarded", lake="s3://delta/guarded", **known, MLFLOW_TRACKING_URI=guarded.url)


@pytest.fixture(scope="module")
def seen(ada: Place) -> tuple[Ended, set[str]]:
    """A workflow, whose model Spark's workers infer with too, and the command lines of all processes meanwhile, as `ps`
    shows them."""
    shown: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            shown.update(ada.processes().values())
            time.sleep(0.1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        ended = replace(ada, is_forked=False).mlflow_run("main", max_depth=3)
        by_workers = replace(ada, is_forked=False, extra={**ada.extra, "WORKFLOW_IN_MEMORY_MEBIBYTES": "0"})
        inferred = by_workers.step("infer", table="s3://delta/guarded/iris@v0", lake="s3://delta/guarded/by_workers")
        assert inferred.out == "infer: predictions = s3://delta/guarded/by_workers/iris_predictions@v0\n", inferred.text
    finally:
        over.set()
        watcher.join()
    return ended, shown


class TestAServerThatAsksWhoIsThere:
    def test_accepts_a_user_with_a_password_nested_runs_included(
        self, seen: tuple[Ended, set[str]], ada: Place
    ) -> None:
        assert seen[0].exit_code == 0, seen[0].text

    def test_has_the_runs_of_all_steps(self, stack: Stack, seen: tuple[Ended, set[str]]) -> None:
        rows = stack.postgres.query("select name, status from runs", database="auth")
        steps = ("evaluate", "infer", "infer", "ingest", "main", "train")
        assert sorted(rows) == [(name, "FINISHED") for name in steps]

    @pytest.mark.parametrize("password", [None, "wr0ng-but-still-secret"], ids=["none", "wrong"])
    def test_refuses_anybody_else_in_a_message(self, stack: Stack, ada: Place, password: str | None) -> None:
        unknown = {name: value for name, value in ada.extra.items() if not name.startswith("MLFLOW_TRACKING_PASS")}
        if password is None:
            del unknown["MLFLOW_TRACKING_USERNAME"]
        else:
            unknown["MLFLOW_TRACKING_PASSWORD"] = password
        before = stack.postgres.query("select count(*) from runs", database="auth")
        ended = Place(ada.folder, unknown).step("ingest")
        assert (ended.exit_code, ended.out) == (1, "")
        assert ended.err.startswith("TrackingUnavailable: ")
        assert "not authenticated" in ended.err
        assert "MLFLOW_TRACKING_USERNAME" in ended.err
        assert "Traceback" not in ended.err
        assert password is None or password not in ended.err
        assert stack.postgres.query("select count(*) from runs", database="auth") == before


class TestAUserWhoMayOnlyReadTheModel:
    @pytest.fixture(scope="class")
    @classmethod
    def bob(cls, guarded: MlflowServer, ada: Place, seen: tuple[Ended, set[str]]) -> Place:
        """By the server's default a user reads what others have made; bob may work in ada's experiment, too."""
        may_edit = {"username": "bob", "resource_type": "experiment", "resource_id": "0", "permission": "EDIT"}
        for what, given in (
            ("2.0/mlflow/users/create", {"username": "bob", "password": "another-password-1"}),
            ("3.0/mlflow/users/permissions/grant", may_edit),
        ):
            answer = requests.post(f"{guarded.url}/api/{what}", json=given, auth=("admin", PASSWORD), timeout=10)
            assert answer.ok, answer.text
        known = {"MLFLOW_TRACKING_USERNAME": "bob", "MLFLOW_TRACKING_PASSWORD": "another-password-1"}
        return Place(ada.folder, {**ada.extra, **known})

    def test_infers_with_it(self, bob: Place) -> None:
        ended = bob.step("infer")
        assert ended.out == "infer: predictions = s3://delta/guarded/iris_predictions@v0\n", ended.text

    @pytest.mark.parametrize("step", ["train", "evaluate", "promote"])
    def test_is_told_which_right_is_missing_and_changes_nothing(self, bob: Place, ada: Place, step: str) -> None:
        before = self.state(ada)
        ended = bob.step(step)
        assert (ended.exit_code, ended.out) == (1, "")
        assert (
            f"ModelProtected: the tracking server does not let bob change the registered model {MODEL}\n" in ended.err
        )
        assert f"the permission EDIT on {MODEL}" in ended.err
        assert "Traceback" not in ended.err
        assert self.state(ada) == before
        if step != "promote":
            run = stack_runs(bob)[0]
            assert (run.info.run_name, run.info.status) == (step, "FAILED")
            assert run.data.metrics  # what was found out is kept

    def test_and_not_write_to_the_experiment_is_told_so(self, guarded: MlflowServer, bob: Place) -> None:
        known = {"username": "carol", "password": "another-password-2"}
        answer = requests.post(
            f"{guarded.url}/api/2.0/mlflow/users/create", json=known, auth=("admin", PASSWORD), timeout=10
        )
        assert answer.ok, answer.text
        names = {f"MLFLOW_TRACKING_{name.upper()}": value for name, value in known.items()}
        ended = Place(bob.folder, {**bob.extra, **names}).step("ingest")
        assert (ended.exit_code, ended.out) == (1, "")
        assert f"TrackingUnavailable: the tracking store {guarded.url} cannot be used: this user may not" in ended.err
        assert "Traceback" not in ended.err

    def test_and_one_who_was_added_as_in_the_cloud_may(self, guarded: MlflowServer, bob: Place) -> None:
        program = (PROJECT / "infrastructure/kubernetes/add_user.py").read_text(encoding="utf-8")
        admin = {"MLFLOW_AUTH_ADMIN_USERNAME": "admin", "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD}
        subprocess.run(
            [sys.executable, "-c", program, "workflow", guarded.url],
            input="another-password-3",
            env={**bob.environment, **admin},
            text=True,
            check=True,
        )
        known = {"MLFLOW_TRACKING_USERNAME": "workflow", "MLFLOW_TRACKING_PASSWORD": "another-password-3"}
        ended = Place(bob.folder, {**bob.extra, **known}).step("ingest")
        assert ended.exit_code == 0, ended.text

    @staticmethod
    def state(ada: Place) -> tuple[object, ...]:
        """The model's aliases, and its versions with their tags."""
        with known_as(ada):
            client = ada.client
            versions = client.search_model_versions(f"name = '{MODEL}'")
            return client.get_registered_model(MODEL).aliases, [(each.version, each.tags) for each in versions]


def stack_runs(user: Place) -> list[Run]:
    with known_as(user):
        return user.runs()


@contextlib.contextmanager
def known_as(user: Place) -> Iterator[None]:
    """MLflow's client, in this process, with the user's name and password."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
            patch.setenv(name, user.extra[name])
        yield


class TestSecrets:
    SECRETS = (SECRET, PASSWORD, KEY)

    def test_are_on_no_command_line(self, seen: tuple[Ended, set[str]]) -> None:
        assert any("SparkSubmit" in line for line in seen[1])
        assert any("-m steps train" in line for line in seen[1])
        assert [line for line in seen[1] if any(secret in line for secret in self.SECRETS)] == []

    def test_are_in_nothing_that_was_printed(self, seen: tuple[Ended, set[str]]) -> None:
        assert [secret for secret in self.SECRETS if secret in seen[0].text] == []

    def test_are_in_no_run_tag_or_param(self, stack: Stack, seen: tuple[Ended, set[str]]) -> None:
        dumped = stack.postgres.dump("auth")
        assert "xgboost" in dumped
        assert [secret for secret in self.SECRETS if secret in dumped] == []

    def test_are_in_no_artifact_and_no_table(self, stack: Stack, seen: tuple[Ended, set[str]]) -> None:
        contents = {
            f"{bucket}/{name}": stack.store.client().get_object(Bucket=bucket, Key=name)["Body"].read()
            for bucket in ("mlflow", "delta")
            for name in stack.store.names(bucket)
        }
        assert any(name.endswith("workflow.json") for name in contents)
        found = [name for name, data in contents.items() if any(secret.encode() in data for secret in self.SECRETS)]
        assert found == []

    def test_are_in_no_file_left_where_the_user_stands(self, ada: Place, seen: tuple[Ended, set[str]]) -> None:
        files = [path for path in ada.folder.rglob("*") if path.is_file()]
        assert [path for path in files if any(secret.encode() in path.read_bytes() for secret in self.SECRETS)] == []
