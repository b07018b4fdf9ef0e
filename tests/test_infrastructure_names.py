"""infrastructure/: each name that Terraform and Kubernetes, the reference and the images have to say alike."""

import json
import re

import pytest
from cloud import KUBERNETES, OVERLAYS, env_file, manifest, names_of_map, pods, rendered, service_accounts, text_of
from place import PROJECT


class TestOutputs:
    def test_the_settings_are_those_of_the_reference(self) -> None:
        page = (PROJECT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
        settings = names_of_map(text_of("outputs.tf"), "settings")
        assert settings == {"AWS_REGION", "LAKE_URI", "MLFLOW_TRACKING_URI", "SPARK_REMOTE"}
        assert settings <= set(re.findall(r"`([A-Z0-9_]+)`", page))

    @pytest.mark.parametrize("overlay", OVERLAYS)
    def test_the_addresses_of_the_settings_are_services_of_the_cluster(self, overlay: str) -> None:
        for name in ("MLFLOW_TRACKING_URI", "SPARK_REMOTE"):
            service, namespace, port = re.findall(
                r"//([\w-]+)\.([\w-]+)\.svc:(\d+)$", env_file(overlay, "settings.env")[name]
            )[0]
            found = manifest(overlay, "Service", service)
            assert found["metadata"]["namespace"] == namespace
            assert [entry["port"] for entry in found["spec"]["ports"]] == [int(port)]

    @pytest.mark.parametrize("example", OVERLAYS)
    def test_an_example_hands_on_every_output(self, example: str) -> None:
        root = re.findall(r'^output "(\w+)"', text_of("outputs.tf"), re.MULTILINE)
        assert re.findall(r'^output "(\w+)"', text_of(f"examples/{example}/outputs.tf"), re.MULTILINE) == root


class TestPages:
    """The tables of docs/how-to that say where a value comes from."""

    def rows(self, page: str, title: str) -> list[list[str]]:
        """The cells of the table that begins with the cell `title`."""
        text = (PROJECT / "docs/how-to" / page).read_text(encoding="utf-8")
        table = text.partition(f"\n| {title} |")[2].partition("\n\n")[0]
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
        assert rows, title
        return rows

    def test_each_output_has_its_row(self) -> None:
        outputs = re.findall(r'^output "(\w+)"', text_of("outputs.tf"), re.MULTILINE)
        assert [name for name, _ in self.rows("cloud.md", "output")] == [f"`{name}`" for name in outputs]

    def test_the_settings_of_the_output_are_those_of_the_table(self) -> None:
        from_output = {name.strip("`") for name, _, origin in self.rows("cloud.md", "setting") if "output" in origin}
        assert from_output == names_of_map(text_of("outputs.tf"), "settings")

    def test_each_variable_of_a_workflow_has_its_row(self) -> None:
        """And each row an output that there is; tests/platform.tftest.hcl has what that output holds."""
        rows = [(name.strip("`"), users, cells[-1]) for name, users, *cells in self.rows("ci.md", "variable")]
        for environment, workflow in {"training": "train", "production": "promote"}.items():
            text = (PROJECT / f".github/workflows/{workflow}.yml").read_text(encoding="utf-8")
            asked = {name for name, users, _ in rows if users.startswith(("both", environment))}
            assert asked == set(re.findall(r"vars\.(\w+)", text)), workflow
        outputs = re.findall(r'^output "(\w+)"', text_of("outputs.tf"), re.MULTILINE)
        named = {cell.strip("`").partition(".")[0] for _, _, cell in rows if cell.startswith("`")}
        assert {"settings", "github_role_arns", "repository_urls", "cluster_name"} == named
        assert named <= set(outputs)

    def test_a_role_is_lent_for_as_long_as_training_may_take(self) -> None:
        text = (PROJECT / ".github/workflows/train.yml").read_text(encoding="utf-8")
        seconds = re.findall(r"role-duration-seconds: (\d+)", text)
        hours = re.findall(r"train += \{ environment = .*, hours = (\d+),", text_of("github.tf"))
        assert [int(hour) * 3600 for hour in hours] == [int(second) for second in seconds] == [21600]


class TestMeetsKubernetes:
    """Names that both sides have to say alike."""

    @pytest.mark.parametrize("overlay", OVERLAYS)
    def test_each_role_is_of_service_accounts_that_are_there_with_its_arn(self, overlay: str) -> None:
        arns = {
            one["metadata"]["name"]: one["metadata"]["annotations"]["eks.amazonaws.com/role-arn"]
            for one in rendered(overlay)
            if one["kind"] == "ServiceAccount"
        }
        platform = env_file(overlay, "platform.env")
        expected = {
            account: platform[f"{role.upper()}_ROLE_ARN"]
            for role, accounts in service_accounts().items()
            for account in accounts
        }
        assert arns == expected
        assert len(expected) == 6

    def test_the_namespace_is_the_default_of_both(self) -> None:
        block = text_of("variables.tf").partition('variable "namespace"')[2].partition("\n}")[0]
        assert f'default     = "{manifest("dev", "Namespace", "tabular-workflow")["metadata"]["name"]}"' in block

    @pytest.mark.parametrize("overlay", OVERLAYS)
    def test_each_image_has_a_repository(self, overlay: str) -> None:
        names = re.search(r"names += (\[.*\])", text_of("main.tf"))
        assert names is not None
        images = {
            container["image"]
            for pod in pods(overlay).values()
            for container in pod["spec"]["containers"]
            if "image" in container
        }
        prefix = env_file(overlay, "platform.env")["SECRETS_PREFIX"]
        assert {re.sub(r"^[^/]*/|:[^:]*$", "", image) for image in images} == {
            f"{prefix}/{name}" for name in json.loads(names[1])
        }

    def test_executors_go_to_spark_nodes_and_nothing_else_does(self) -> None:
        cluster = text_of("modules/cluster/main.tf")
        assert names_of_map(cluster, "node_groups") == {"services", "spark"}
        assert re.search(r'key += "dedicated"\n +value += taint.value\n +effect = "NO_SCHEDULE"', cluster)
        for name, pod in pods("production").items():
            tolerations = pod["spec"].get("tolerations", [])
            if name == "spark-executor":
                assert tolerations == [{"key": "dedicated", "value": "spark", "effect": "NoSchedule"}]
                assert pod["spec"]["nodeSelector"] == {"dedicated": "spark"}
            else:
                assert tolerations == []

    @pytest.mark.parametrize("overlay", OVERLAYS)
    def test_an_overlay_is_of_the_example_of_that_name(self, overlay: str) -> None:
        name = re.search(r'name = "(.*)"', text_of(f"examples/{overlay}/main.tf"))
        assert name is not None
        assert env_file(overlay, "platform.env")["SECRETS_PREFIX"] == name[1]
        assert (KUBERNETES / "overlays" / overlay / "kustomization.yaml").read_text(encoding="utf-8").count(
            name[1]
        ) == 4

    @pytest.mark.parametrize("overlay", OVERLAYS)
    def test_each_secret_is_read_by_the_cluster_and_each_that_it_reads_is_made(self, overlay: str) -> None:
        prefix = env_file(overlay, "platform.env")["SECRETS_PREFIX"]
        keys = {
            entry["remoteRef"]["key"]
            for one in rendered(overlay)
            if one["kind"] == "ExternalSecret"
            for entry in one["spec"]["data"]
        }
        assert keys == {f"{prefix}/{name}" for name in names_of_map(text_of("secrets.tf"), "secret_users")}
