"""infrastructure/kubernetes: what runs, as whom, who may talk to whom, and that both sides of each name agree."""

import importlib
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from cloud import KUBERNETES, OVERLAYS, container, manifest, pods, rendered, run_check, selects
from composed import COMPOSE, services

ALL = [(overlay, name) for overlay in OVERLAYS for name in ("mlflow", "serve", "spark-connect", "main", "monitor")]
ALL_PODS = [*ALL, ("production", "spark-executor")]


def environment(pod: dict[str, Any], overlay: str) -> set[str]:
    """The names of the variables that its container gets."""
    names = {entry["name"] for entry in container(pod).get("env", [])}
    secrets = {one["spec"]["target"]["name"]: one for one in rendered(overlay) if one["kind"] == "ExternalSecret"}
    config_maps = {one["metadata"]["name"]: one for one in rendered(overlay) if one["kind"] == "ConfigMap"}
    for source in container(pod).get("envFrom", []):
        if "configMapRef" in source:
            names |= set(config_maps[source["configMapRef"]["name"]]["data"])
        else:
            names |= {entry["secretKey"] for entry in secrets[source["secretRef"]["name"]]["spec"]["data"]}
    return names


class TestPods:
    @pytest.mark.parametrize(("overlay", "name"), ALL_PODS)
    def test_none_is_root_or_may_become_it_or_write_to_its_image(self, overlay: str, name: str) -> None:
        pod = pods(overlay)[name]
        assert pod["spec"]["securityContext"] == {
            **{"runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001},
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert container(pod)["securityContext"] == {
            **{"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True},
            "capabilities": {"drop": ["ALL"]},
        }

    @pytest.mark.parametrize(("overlay", "name"), ALL_PODS)
    def test_only_that_which_makes_pods_has_a_key_to_the_kubernetes_api(self, overlay: str, name: str) -> None:
        assert pods(overlay)[name]["spec"]["automountServiceAccountToken"] == (name == "spark-connect")

    @pytest.mark.parametrize(("overlay", "name"), ALL_PODS)
    def test_none_gets_variables_that_nobody_set(self, overlay: str, name: str) -> None:
        """For the service mlflow Kubernetes would set MLFLOW_PORT to a URL, which MLflow takes for its port."""
        assert pods(overlay)[name]["spec"]["enableServiceLinks"] is False

    @pytest.mark.parametrize("path", sorted([*COMPOSE.glob("*/Dockerfile"), *KUBERNETES.glob("*.Dockerfile")]), ids=str)
    def test_the_user_is_that_of_the_image(self, path: Path) -> None:
        assert "--uid 10001" in path.read_text(encoding="utf-8")

    @pytest.mark.parametrize(("overlay", "name"), ALL)
    def test_each_says_what_it_takes_at_least_and_at_most(self, overlay: str, name: str) -> None:
        resources = container(pods(overlay)[name])["resources"]
        assert set(resources["requests"]) == set(resources["limits"]) == {"cpu", "memory"}

    @pytest.mark.parametrize(("overlay", "name"), ALL_PODS)
    def test_each_writes_to_a_folder_of_a_bounded_size_that_is_its_home_too(self, overlay: str, name: str) -> None:
        """A user id without a name has no home, and MLflow asks for both."""
        pod = pods(overlay)[name]
        written = {volume["name"] for volume in pod["spec"]["volumes"] if "sizeLimit" in volume.get("emptyDir", {})}
        mounts = {mount["mountPath"]: mount["name"] for mount in container(pod)["volumeMounts"]}
        assert mounts["/tmp"] in written
        variables = {entry["name"]: entry.get("value") for entry in container(pod)["env"]}
        assert variables["HOME"] == "/tmp"
        assert variables["LOGNAME"]

    @pytest.mark.parametrize(("overlay", "name"), ALL)
    def test_each_runs_as_a_service_account_that_is_there(self, overlay: str, name: str) -> None:
        assert manifest(overlay, "ServiceAccount", pods(overlay)[name]["spec"]["serviceAccountName"])


class TestPrograms:
    @pytest.mark.parametrize(("overlay", "name"), [case for case in ALL if case[1] in ("serve", "main", "monitor")])
    def test_each_entry_point_has_the_parameters_that_it_is_given(self, overlay: str, name: str) -> None:
        program = container(pods(overlay)[name])
        words = [*program["command"], *program["args"]]
        assert words[:4] == ["python", "-m", "steps", name]
        module = importlib.import_module("main" if name == "main" else f"steps.{name}")
        given = {word.removeprefix("--").partition("=")[0] for word in words[4:]}
        assert given <= {field.name for field in fields(module.SPEC.parameters)}

    @pytest.mark.parametrize("overlay", OVERLAYS)
    def test_mlflow_is_started_as_in_compose(self, overlay: str) -> None:
        args = " ".join(container(pods(overlay)["mlflow"])["args"])
        composed = re.sub(r"--(host|port|workers|artifacts-destination) ", r"--\1=", services()["mlflow"]["command"])
        assert args.replace("$(ARTIFACTS_BUCKET)", "mlflow") == composed

    @pytest.mark.parametrize("overlay", OVERLAYS)
    def test_mlflow_gets_every_variable_of_compose_but_those_that_its_role_stands_for(self, overlay: str) -> None:
        composed = {name for name in services()["mlflow"]["environment"] if not name.startswith("AWS_")}
        assert composed <= environment(pods(overlay)["mlflow"], overlay)

    @pytest.mark.parametrize("overlay", OVERLAYS)
    @pytest.mark.parametrize("name", ["serve", "main", "monitor"])
    def test_a_step_gets_its_settings_and_its_user(self, overlay: str, name: str) -> None:
        user = {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"}
        assert user | {"MLFLOW_TRACKING_URI", "LAKE_URI", "AWS_REGION"} <= environment(pods(overlay)[name], overlay)

    @pytest.mark.parametrize("overlay", OVERLAYS)
    def test_what_an_argument_takes_from_the_environment_is_there(self, overlay: str) -> None:
        for pod in pods(overlay).values():
            taken = {name for word in container(pod).get("args", []) for name in re.findall(r"\$\((\w+)\)", word)}
            assert taken <= environment(pod, overlay)

    def test_probes_come_by_a_host_that_mlflow_answers_to(self) -> None:
        program = container(pods("production")["mlflow"])
        hosts = next(entry["value"] for entry in program["env"] if entry["name"] == "MLFLOW_SERVER_ALLOWED_HOSTS")
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert program[probe]["httpGet"]["httpHeaders"] == [{"name": "Host", "value": "localhost:5000"}]
        assert hosts.split(",") == ["localhost:*", "mlflow:*", "mlflow.tabular-workflow.svc:*"]

    @pytest.mark.parametrize("name", ["main", "monitor"])
    def test_a_job_never_runs_beside_the_one_before_and_ends(self, name: str) -> None:
        job = manifest("production", "CronJob", name)["spec"]
        assert job["concurrencyPolicy"] == "Forbid"
        assert job["jobTemplate"]["spec"]["activeDeadlineSeconds"] < 24 * 3600


class TestNames:
    @pytest.mark.parametrize("overlay", OVERLAYS)
    def test_each_service_leads_to_a_port_of_a_pod(self, overlay: str) -> None:
        for service in (one["spec"] for one in rendered(overlay) if one["kind"] == "Service"):
            selected = [
                pod
                for pod in pods(overlay).values()
                if selects({"matchLabels": service["selector"]}, pod["metadata"]["labels"])
            ]
            assert len(selected) == 1
            ports = {entry["name"] for entry in container(selected[0])["ports"]}
            assert {entry["targetPort"] for entry in service["ports"]} <= ports

    @pytest.mark.parametrize("overlay", OVERLAYS)
    def test_nothing_is_left_to_be_filled_in(self, overlay: str) -> None:
        text = yaml.safe_dump_all(rendered(overlay))
        assert not re.search(r"from platform|from settings|prefix/", text)

    @pytest.mark.parametrize("overlay", OVERLAYS)
    def test_all_is_in_one_namespace(self, overlay: str) -> None:
        namespaces = {one["metadata"].get("namespace", one["kind"]) for one in rendered(overlay)}
        assert namespaces - {"SecretStore", "ExternalSecret"} == {"tabular-workflow", "Namespace"}

    @pytest.mark.parametrize("overlay", OVERLAYS)
    def test_executors_have_the_image_of_their_server(self, overlay: str) -> None:
        program = container(pods(overlay)["spark-connect"])
        image = next(entry["value"] for entry in program["env"] if entry["name"] == "SPARK_IMAGE")
        assert image == program["image"]


class TestSchemas:
    def test_a_field_that_the_api_does_not_know_is_found(self, tmp_path: Path) -> None:
        service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "serve"}, "spec": {"prots": []}}
        (tmp_path / "service.yaml").write_text(yaml.safe_dump(service))
        checked = run_check("kubernetes.py", "1.35", tmp_path / "service.yaml")
        assert checked.returncode == 1
        assert "Service serve: spec: Additional properties are not allowed ('prots' was unexpected)" in checked.stderr
