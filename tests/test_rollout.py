"""Scripts of the workflows, against real processes: a server over HTTP, the registry, and `mlflow run`.

The server answers as the model's server does. There is no Kubernetes here: `kubectl` is a script that writes down how
it was called, fails when it is told to, and hangs once when it is told to; what it renders is rendered by the real one.
"""

import contextlib
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from http_servers import answering
from mlflow import MlflowClient
from place import PROJECT, Ended, Place, new_database, until
from services import needed
from small import flower_parts, flowers_model, tracked

from automation import rollout, smoke_test
from steps import promote
from steps.core.models import aliases, registration, registry

MODEL = "models:/flowers_model/2"
IMAGE = "registry.example.org/serve@sha256:" + "0" * 64
ROW = {"petal_length": 4.7, "petals": 5}
KUBECTL = """#!/bin/sh
echo "$@" >>"$CALLS"
case "$*" in
  kustomize*) exec "$REAL_KUBECTL" "$@" ;;
  *" get "*) echo 7 ;;
  *" apply "*) cat >"$CALLS.applied" ;;
esac
case "$*" in *"${FAILS:-nothing}"*) exit 1 ;; esac
case "$*" in *"rollout status"*)
  if [ -n "$HANGS" ] && [ ! -e "$CALLS.hung" ]; then touch "$CALLS.hung"; exec sleep 60; fi ;;
esac
"""


def write_overlay(folder: Path) -> Path:
    """A server, which reads settings, and a namespace, which is the platform's."""
    folder.mkdir()
    container = {
        "name": "serve",
        "image": "tabular-workflow-serve",
        "envFrom": [{"configMapRef": {"name": "settings"}}],
    }
    template = {"metadata": {"labels": {"app": "serve"}}, "spec": {"containers": [container]}}
    spec = {"selector": {"matchLabels": {"app": "serve"}}, "template": template}
    manifests = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ours"}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "serve"}, "spec": spec},
    ]
    kustomization = {
        "namespace": "ours",
        "resources": ["manifests.yaml"],
        "configMapGenerator": [{"name": "settings", "literals": ["LAKE_URI=s3://delta"]}],
        "images": [{"name": "tabular-workflow-serve", "newName": "registry.example.org/serve", "newTag": "unbuilt"}],
    }
    (folder / "manifests.yaml").write_text(yaml.safe_dump_all(manifests), encoding="utf-8")
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization), encoding="utf-8")
    return folder


class ModelServer:
    """`answered_by` are the versions that answer one scoring request after another, the last one from then on."""

    def __init__(self, *answered_by: str, **answers: Any) -> None:
        self.answered_by = list(answered_by) or [MODEL]
        self.health: dict[str, Any] = {"status": "ok", "model": MODEL}
        self.description: dict[str, Any] = {
            "paths": {
                "/invocations": {
                    "post": {
                        "requestBody": {"content": {"application/json": {"example": {"dataframe_records": [ROW, ROW]}}}}
                    }
                }
            }
        }
        self.status, self.predictions = 200, ["a", "b"]
        vars(self).update(answers)
        self.scored: list[Any] = []


@contextlib.contextmanager
def serving(server: ModelServer) -> Iterator[str]:
    """The address at which it answers."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer({"/health": server.health, "/openapi.json": server.description}[self.path])

        def do_POST(self) -> None:
            server.scored.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            model = server.answered_by.pop(0) if len(server.answered_by) > 1 else server.answered_by[0]
            self.answer({"predictions": server.predictions}, status=server.status, model=model)

        def answer(self, body: Any, *, status: int = 200, model: str = MODEL) -> None:
            self.send_response(status)
            self.send_header("X-Model-Uri", model)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            pass

    with answering(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        yield url


class TestSmokeTest:
    @pytest.fixture(autouse=True)
    def _short_pause(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(smoke_test, "PAUSE_SECONDS", 0.05)

    def test_posts_the_example_of_the_description(self) -> None:
        server = ModelServer()
        with serving(server) as url:
            smoke_test.check(url, MODEL, seconds=1)
        assert server.scored == [{"dataframe_records": [ROW, ROW]}] * smoke_test.REQUESTS

    def test_waits_until_only_the_expected_version_answers(self) -> None:
        """As behind an address with old servers and new ones."""
        old = "models:/flowers_model/1"
        server = ModelServer(MODEL, old, MODEL, MODEL, old, MODEL)
        with serving(server) as url:
            smoke_test.check(url, MODEL, seconds=5)
        assert len(server.scored) == 5 + smoke_test.REQUESTS

    @pytest.mark.parametrize(
        ("server", "reason"),
        [
            (ModelServer(health={"status": "degraded", "model": MODEL}), "/health says .*degraded.*expected status ok"),
            (ModelServer(health={"status": "ok", "model": "models:/m/1"}), "/health says .*models:/m/1"),
            (ModelServer(health=[]), "/health answered no JSON object"),
            (ModelServer("models:/flowers_model/1"), "answered by models:/flowers_model/1, expected .*/2$"),
            (ModelServer(description={"paths": {}}), "/openapi.json has no example of rows"),
            (ModelServer(status=400), "/invocations answered 400: .*predictions"),
            (ModelServer(predictions=["a"]), r"/invocations answered .*\"a\".* to 2 rows"),
        ],
        ids=["degraded", "another model", "no object", "another answers", "no example", "refused", "a row is missing"],
    )
    def test_says_what_was_wrong_at_the_last_try(self, server: ModelServer, reason: str) -> None:
        with serving(server) as url, pytest.raises(smoke_test.SmokeTestFailed, match=reason):
            smoke_test.check(url, MODEL, seconds=0.2)

    def test_takes_the_form_with_columns_apart(self) -> None:
        split = {"dataframe_split": {"columns": list(ROW), "data": [[4.7, 5], [1.2, 3]]}}
        server = ModelServer()
        body = server.description["paths"]["/invocations"]["post"]["requestBody"]["content"]["application/json"]
        body["example"] = split
        with serving(server) as url:
            smoke_test.check(url + "/", MODEL, seconds=1)
        assert server.scored[0] == split

    def test_a_server_that_is_not_there_is_told(self) -> None:
        with pytest.raises(smoke_test.SmokeTestFailed, match=r"within 0\.1 s: /health: .*refused"):
            smoke_test.check("http://127.0.0.1:9", MODEL, seconds=0.1)

    def test_an_address_of_a_file_is_refused(self) -> None:
        with pytest.raises(smoke_test.SmokeTestFailed, match="'file:///etc' is no address of a server"):
            smoke_test.check("file:///etc", MODEL, seconds=1)

    def test_the_command_ends_with_one_line(self) -> None:
        command = [sys.executable, "-m", "automation.smoke_test", f"--model={MODEL}", "--seconds=0"]
        with serving(ModelServer()) as url:
            good = subprocess.run([*command, f"--url={url}"], cwd=PROJECT, capture_output=True, text=True, check=False)
        bad = subprocess.run([*command, f"--url={url}"], cwd=PROJECT, capture_output=True, text=True, check=False)
        assert (good.returncode, good.stdout) == (0, f"smoke test: {url} answers by {MODEL}\n"), good.stderr
        assert bad.returncode == 1
        assert re.fullmatch(rf"SmokeTestFailed: {url} was not as expected within 0 s: .*\n", bad.stderr)


class TestManifests:
    """Of an overlay, as the real kustomize renders it."""

    @pytest.fixture
    def overlay(self, tmp_path: Path) -> str:
        return str(write_overlay(tmp_path / "overlay"))

    def test_the_deployment_has_the_image_and_what_is_the_platforms_is_left_out(self, overlay: str) -> None:
        needed("kubectl")
        asked = rollout.Rollout(image=IMAGE, url="http://localhost", overlay=overlay)
        settings, deployment = json.loads(rollout._manifests(asked))["items"]
        assert (deployment["kind"], deployment["metadata"]) == ("Deployment", {"name": "serve", "namespace": "ours"})
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert container["image"] == IMAGE
        assert settings["kind"] == "ConfigMap"
        assert container["envFrom"] == [{"configMapRef": {"name": settings["metadata"]["name"]}}]

    def test_an_overlay_without_the_deployment_is_told(self, overlay: str) -> None:
        needed("kubectl")
        asked = rollout.Rollout(image=IMAGE, url="http://localhost", overlay=overlay, deployment="server")
        with pytest.raises(rollout.RolloutFailed, match="overlay has no Deployment 'server'"):
            rollout._manifests(asked)

    def test_an_image_without_a_digest_is_refused(self) -> None:
        asked = rollout.Rollout(image="serve:latest", url="http://localhost")
        with pytest.raises(rollout.RolloutFailed, match="'serve:latest' has no digest: <repository>@sha256:"):
            rollout.roll_out(asked)


NAMESPACE = "--namespace tabular-workflow"
DEPLOYED = [
    f"{NAMESPACE} get deployment/serve --ignore-not-found --output {rollout.REVISION}",
    "kustomize OVERLAY",
    f"{NAMESPACE} apply --filename -",
    f"{NAMESPACE} rollout status deployment/serve --timeout=1s",
]
TAKEN_BACK = [f"{NAMESPACE} rollout undo deployment/serve --to-revision=7", DEPLOYED[-1]]


@pytest.mark.spark
class TestRollout:
    """Of version 2, which passed, where production names 1."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        with tracked(new_database(tmp_path)):
            model = flowers_model()
            example = flower_parts().train[[feature.name for feature in model.schema.features]].head(2)
            for _ in range(2):
                version = registration.register(
                    model.booster, model.schema, example=example, name="flowers_model", tags={}
                )
                registry.record_verdict(version, verdict="pass", reasons=[], run_id="r", test_rows=9)
            aliases.move_alias(registry.resolve("models:/flowers_model/1"), "production", how="promote")
        kubectl = tmp_path / "bin" / "kubectl"
        kubectl.parent.mkdir()
        kubectl.write_text(KUBECTL, encoding="utf-8")
        kubectl.chmod(0o755)
        path = f"{kubectl.parent}:{Place(tmp_path).environment['PATH']}"
        variables = {"CALLS": str(tmp_path / "calls"), "REAL_KUBECTL": str(needed("kubectl"))}
        return Place(tmp_path, {**variables, "PATH": path, "PYTHONPATH": str(PROJECT)})

    def command(self, place: Place, url: str, version: str = "2") -> list[str]:
        options = {"name": "flowers_model", "version": version, "image": IMAGE, "url": url, "seconds": "1"}
        options["overlay"] = str(write_overlay(place.folder / "overlay"))
        return [sys.executable, "-m", "automation.rollout", *(f"--{name}={value}" for name, value in options.items())]

    def roll_out(self, place: Place, url: str, version: str = "2") -> Ended:
        return place.run(*self.command(place, url, version))

    def production(self, place: Place) -> str:
        return str(place.client.get_model_version_by_alias("flowers_model", "production").version)

    def calls(self, place: Place) -> list[str]:
        lines = (place.folder / "calls").read_text(encoding="utf-8").splitlines()
        return [line.replace(str(place.folder / "overlay"), "OVERLAY") for line in lines]

    def test_moves_the_alias_and_deploys_the_image(self, place: Place) -> None:
        with serving(ModelServer()) as url:
            ended = self.roll_out(place, url)
        assert ended.exit_code == 0, ended.text
        assert ended.out.endswith(f"rollout: {url} answers by {MODEL}, image {IMAGE}\n")
        assert self.production(place) == "2"
        assert self.calls(place) == DEPLOYED
        assert f'"image": "{IMAGE}"' in (place.folder / "calls.applied").read_text(encoding="utf-8")

    def test_takes_both_back_when_the_server_does_not_answer_by_the_version(self, place: Place) -> None:
        with serving(ModelServer("models:/flowers_model/1")) as url:
            ended = self.roll_out(place, url)
        assert ended.exit_code == 1
        assert re.search(r"\nSmokeTestFailed: .* answered by models:/flowers_model/1, expected .*/2\n$", ended.err)
        assert "Traceback" not in ended.text
        assert self.production(place) == "1"
        assert self.calls(place) == DEPLOYED + TAKEN_BACK
        with tracked(f"sqlite:///{place.folder}/mlflow.db"):
            last = aliases.history("flowers_model", "production")[-1]
        assert (last.to_version, last.reason) == ("1", f"the rollout of {MODEL} failed")

    def test_takes_both_back_when_it_is_ended_while_it_waits(self, place: Place) -> None:
        hanging = Place(place.folder, {**place.extra, "HANGS": "once"})
        with subprocess.Popen(
            self.command(place, "http://127.0.0.1:9"),
            cwd=place.folder,
            env=hanging.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as command:
            try:
                is_waiting = until(lambda: (place.folder / "calls.hung").exists(), seconds=60)
                alias_meanwhile = self.production(place)
                command.terminate()
                out, err = command.communicate(timeout=60)
            finally:
                command.kill()
        assert is_waiting, out + err
        assert alias_meanwhile == "2"
        assert command.returncode == -signal.SIGINT, err  # as Python ends for a KeyboardInterrupt
        assert "rollout: deployment/serve is as it was\n" in err
        assert "rollout: alias production is as it was\n" in err
        assert self.production(place) == "1"
        assert self.calls(place) == DEPLOYED + TAKEN_BACK

    def test_leaves_an_alias_alone_that_named_the_version_already(self, place: Place) -> None:
        failing = Place(place.folder, {**place.extra, "FAILS": " apply "})
        ended = self.roll_out(failing, "http://127.0.0.1:9", version="1")
        assert ended.exit_code == 1
        assert re.search(
            r"RolloutFailed: `kubectl --namespace \S+ apply --filename -` ended with exit code 1\n$", ended.err
        )
        assert self.production(place) == "1"
        assert self.calls(place) == [*DEPLOYED[:3], *TAKEN_BACK]


class TestRollingBack:
    @pytest.mark.parametrize(("version", "moved_to", "expected"), [("staging", 3, 1), ("3", 3, 1), ("previous", 1, 3)])
    def test_the_alias_names_what_it_named_before(
        self, own_store: None, version: str, moved_to: int, expected: int
    ) -> None:
        """Also where the rollout that failed was itself a way back."""
        MlflowClient().create_registered_model("m")
        for _ in range(3):
            MlflowClient().create_model_version("m", source="file:///nowhere")
        for number in [1] if moved_to == 3 else [1, 3]:
            aliases.move_alias(registry.resolve(f"models:/m/{number}"), "production", how="promote")
        model = registry.resolve(f"models:/m/{moved_to}")
        aliases.move_alias(model, "production", how="previous" if version == "previous" else "promote")
        asked = rollout.Rollout(version=version, image=IMAGE, url="http://localhost")
        back = rollout.version_before(asked, registry.uri_of(model))
        assert int(promote.choose("m", back, "production").version) == expected

    def test_one_thing_that_cannot_be_taken_back_does_not_keep_the_others(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        undone: list[str] = []

        def fail() -> None:
            raise rollout.RolloutFailed("there was no deployment before")

        with contextlib.ExitStack() as undo:
            undo.callback(rollout._undone, "alias production", lambda: undone.append("alias"))
            undo.callback(rollout._undone, "deployment/serve", fail)
        assert undone == ["alias"]
        assert capsys.readouterr().err.splitlines() == [
            "rollout: deployment/serve could not be taken back: there was no deployment before",
            "rollout: alias production is as it was",
        ]
