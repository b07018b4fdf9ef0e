"""infrastructure/kubernetes: the model's server, whose answers nobody should miss."""

import pytest
from cloud import OVERLAYS, container, manifest, pods

ANSWER_SECONDS = 60  # for which the model's server works on one request at most


class TestServing:
    @pytest.mark.parametrize("overlay", OVERLAYS)
    def test_a_new_version_takes_over_without_a_lost_request(self, overlay: str) -> None:
        deployment = manifest(overlay, "Deployment", "serve")["spec"]
        assert deployment["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
        pod = deployment["template"]
        sleep = container(pod)["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert sleep >= 10  # proxies hear of it within seconds
        assert pod["spec"]["terminationGracePeriodSeconds"] >= sleep + ANSWER_SECONDS

    @pytest.mark.parametrize("overlay", OVERLAYS)
    def test_it_is_asked_on_health_whether_it_answers_and_on_ping_whether_it_lives(self, overlay: str) -> None:
        program = container(pods(overlay)["serve"])
        paths = {name: program[name]["httpGet"]["path"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
        assert paths == {"startupProbe": "/health", "readinessProbe": "/health", "livenessProbe": "/ping"}
        assert "--port=5002" in program["args"]
        assert program["ports"] == [{"name": "http", "containerPort": 5002}]

    @pytest.mark.parametrize("overlay", OVERLAYS)
    def test_the_autoscaler_alone_says_how_many_there_are(self, overlay: str) -> None:
        scaler = manifest(overlay, "HorizontalPodAutoscaler", "serve")["spec"]
        target = manifest(overlay, scaler["scaleTargetRef"]["kind"], scaler["scaleTargetRef"]["name"])
        assert "replicas" not in target["spec"]
        assert 1 <= scaler["minReplicas"] < scaler["maxReplicas"]

    @pytest.mark.parametrize("name", ["serve", "mlflow"])
    def test_in_production_some_stay_when_a_node_is_emptied(self, name: str) -> None:
        budget = manifest("production", "PodDisruptionBudget", name)["spec"]
        deployment = manifest("production", "Deployment", name)["spec"]
        assert budget["selector"] == {"matchLabels": {"app.kubernetes.io/name": name}}
        count = (
            deployment.get("replicas") or manifest("production", "HorizontalPodAutoscaler", name)["spec"]["minReplicas"]
        )
        assert budget["maxUnavailable"] < count

    def test_prometheus_finds_it(self) -> None:
        monitor = manifest("production", "ServiceMonitor", "serve")["spec"]
        service = manifest("production", "Service", "serve")
        assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        assert monitor["endpoints"][0]["port"] in [entry["name"] for entry in service["spec"]["ports"]]
