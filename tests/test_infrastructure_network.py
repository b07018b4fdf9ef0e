"""infrastructure/kubernetes: who may talk to whom, worked out from the NetworkPolicies."""

from collections.abc import Iterator

import pytest
from cloud import manifest, pods, rendered, selects


class TestNetwork:
    """The rules of the NetworkPolicies, worked out for pairs of pods in the namespace."""

    @pytest.mark.parametrize(
        ("sender", "receiver", "port"),
        [
            *[("serve", "mlflow", 5000), ("workflow", "mlflow", 5000), ("workflow", "spark-connect", 15002)],
            *[("spark-executor", "spark-connect", 7078), ("spark-executor", "spark-connect", 7079)],
            *[("spark-connect", "spark-executor", 7079), ("spark-executor", "spark-executor", 7079)],
        ],
    )
    def test_who_needs_another_reaches_it(self, sender: str, receiver: str, port: int) -> None:
        assert (sender, receiver, port) in set(self.allowed())

    def test_nobody_else_reaches_anybody(self) -> None:
        assert {(sender, receiver) for sender, receiver, _ in self.allowed()} == {
            *[("serve", "mlflow"), ("workflow", "mlflow"), ("workflow", "spark-connect")],
            *[("spark-executor", "spark-connect"), ("spark-connect", "spark-executor")],
            ("spark-executor", "spark-executor"),
        }

    @staticmethod
    def allowed() -> Iterator[tuple[str, str, int]]:
        labels = {
            pod["metadata"]["labels"]["app.kubernetes.io/name"]: pod["metadata"]["labels"]
            for pod in pods("production").values()
        }
        for sender, sent_by in labels.items():
            for receiver, received_by in labels.items():
                for port in (443, 5000, 5002, 5432, 7078, 7079, 15002):
                    if _passes("egress", sent_by, received_by, port) and _passes("ingress", received_by, sent_by, port):
                        yield sender, receiver, port

    def test_predictions_are_asked_for_from_outside_of_the_namespace(self) -> None:
        rule = manifest("production", "NetworkPolicy", "to-serve")["spec"]["ingress"][0]
        namespaces = [peer["namespaceSelector"]["matchLabels"] for peer in rule["from"]]
        assert namespaces == [
            {"tabular-workflow/asks-for-predictions": "true"},
            {"kubernetes.io/metadata.name": "monitoring"},
        ]


def _passes(direction: str, own: dict[str, str], other: dict[str, str], port: int) -> bool:
    """Whether some policy of the pod with labels `own` lets through; nothing-else selects every pod."""
    for policy in (one["spec"] for one in rendered("production") if one["kind"] == "NetworkPolicy"):
        if selects(policy["podSelector"], own):
            for rule in policy.get(direction, []):
                peers = rule.get("to" if direction == "egress" else "from", [{"podSelector": {}}])
                ports = [entry["port"] for entry in rule.get("ports", [{"port": port}])]
                if port in ports and any(
                    "podSelector" in peer and selects(peer["podSelector"], other) for peer in peers
                ):
                    return True
    return False
