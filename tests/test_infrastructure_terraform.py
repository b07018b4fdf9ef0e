"""infrastructure/terraform: what it declares, and that its check finds what would stop a plan."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cloud import INFRASTRUCTURE, OVERLAYS, TERRAFORM, bare_environment, run_check, text_of, tool
from place import PROJECT

GOOD: dict[str, Any] = {
    "name": "tabular-workflow-dev",
    "zones": ["eu-central-1a", "eu-central-1b"],
    "kubernetes_version": "1.35",
    "administrator_cidrs": ["203.0.113.0/24"],
    "service_nodes": {"instance_types": ["t3.large"], "minimum": 2, "maximum": 4},
    "spark_nodes": {"instance_types": ["m7i.xlarge", "m6i.xlarge"], "maximum": 2},
    "database": {
        **{"instance_class": "db.t4g.micro", "storage_gib": 20, "maximum_gib": 50},
        **{"multi_zone": False, "backup_days": 1},
    },
    "budget": {"monthly_usd": 300, "email": "ml-platform@example.com"},
}
BAD: dict[str, Any] = {
    "name": "Tabular Workflow",
    "vpc_cidr": "10.0.0.0/8",
    "zones": ["eu-central-1a", "eu-central-1a"],
    "kubernetes_version": "latest",
    "administrator_cidrs": ["203.0.113.0/24", "0.0.0.0/0"],
    "service_nodes": {**GOOD["service_nodes"], "minimum": 5},
    "spark_nodes": {**GOOD["spark_nodes"], "instance_types": ["m7i.xlarge"]},
    "database": {**GOOD["database"], "backup_days": 0},
    "noncurrent_days": 0,
    "log_days": 8,
    "password_version": 1.5,
    "budget": {"monthly_usd": 300, "email": "nobody"},
    "github_repository": "tabular-workflow",
}


def plan(folder: Path, values: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """What OpenTofu says of the root module's variables, which needs no provider."""
    (folder / "variables.tf").write_text(text_of("variables.tf"), encoding="utf-8")
    (folder / "terraform.tfvars.json").write_text(json.dumps(values), encoding="utf-8")
    command = [str(tool("tofu")), f"-chdir={folder}", "plan", "-json", "-input=false"]
    return subprocess.run(command, capture_output=True, text=True, env=bare_environment(), check=False)


class TestVariables:
    def test_good_values_are_taken(self, tmp_path: Path) -> None:
        planned = plan(tmp_path, GOOD)
        assert planned.returncode == 0, planned.stdout

    @pytest.mark.parametrize(
        "bad", [BAD, {"database": {**GOOD["database"], "maximum_gib": 20}}], ids=["all", "storage"]
    )
    def test_each_bad_value_is_refused_with_what_is_expected(self, tmp_path: Path, bad: dict[str, Any]) -> None:
        planned = plan(tmp_path, GOOD | bad)
        assert planned.returncode == 1
        lines = [json.loads(line) for line in planned.stdout.splitlines()]
        messages = [line["diagnostic"]["detail"] for line in lines if line["type"] == "diagnostic"]
        assert sorted(message.split()[0].rstrip(":") for message in messages) == sorted(bad)

    def test_each_variable_says_what_it_is(self) -> None:
        for file in TERRAFORM.rglob("*.tf"):
            blocks = re.findall(
                r'^variable "(\w+)" \{\n(.*?)^\}', file.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
            )
            for name, block in blocks:
                assert re.search(r'^  description = ".{10,}"', block, re.MULTILINE), f"{file}: {name}"
                assert re.search(r"^  type +=", block, re.MULTILINE), f"{file}: {name}"


class TestStandInForTheProvider:
    """OpenTofu with the provider's schema, and without the provider: checks/with_provider.py."""

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ('resource "aws_s3_buket" "this" {}', "Invalid resource type"),
            ('resource "aws_s3_bucket" "this" { force_delete = true }', "Unsupported argument"),
            ('resource "aws_s3_bucket" "this" { bucket = ["name"] }', "Incorrect attribute value type"),
            (
                'resource "aws_s3_bucket_versioning" "this" { bucket = "name" }',
                "Insufficient versioning_configuration blocks",
            ),
            ('resource "aws_kms_alias" "this" {}', "Missing required argument"),
            (
                'data "aws_region" "this" {}\noutput "name" { value = data.aws_region.this.nam }',
                "Unsupported attribute",
            ),
            (
                'resource "aws_vpc" "this" { cidr_block = cidrsubnet("10.0.0.0/16", 4) }',
                "Not enough function arguments",
            ),
            ('resource "aws_vpc" "this" { cidr_block = aws_vpc.other.cidr_block }', "Reference to undeclared resource"),
            (
                'ephemeral "aws_secretsmanager_random_password" "this" {}\n'
                'resource "aws_db_instance" "this" {\n'
                '  instance_class = "db.t4g.micro"\n'
                "  password = ephemeral.aws_secretsmanager_random_password.this.random_password\n"
                "}",
                "Ephemeral value used in non-ephemeral context",
            ),
        ],
        ids=lambda value: value if " {" not in value else "",
    )
    def test_opentofu_finds_what_the_provider_would_not_take(self, tmp_path: Path, text: str, problem: str) -> None:
        (tmp_path / "main.tf").write_text(text)
        assert self.problems(tmp_path) == [problem]

    def test_what_the_provider_takes_is_no_problem(self, tmp_path: Path) -> None:
        (tmp_path / "main.tf").write_text(
            """
            ephemeral "aws_secretsmanager_random_password" "this" { password_length = 32 }
            resource "aws_secretsmanager_secret_version" "this" {
              secret_id                = "database"
              secret_string_wo         = ephemeral.aws_secretsmanager_random_password.this.random_password
              secret_string_wo_version = 1
            }
            resource "aws_eks_cluster" "this" {
              name     = "test"
              role_arn = "arn:aws:iam::111122223333:role/test"
              vpc_config { subnet_ids = ["subnet-1", "subnet-2"] }
              timeouts { create = "1h" }
            }
            output "issuer" { value = upper(aws_eks_cluster.this.identity[0].oidc[0].issuer) }
            output "group" { value = aws_eks_cluster.this.vpc_config[0].cluster_security_group_id }
            """
        )
        assert self.problems(tmp_path) == []

    @staticmethod
    def problems(folder: Path) -> list[str]:
        validated = run_check("with_provider.py", folder, tool("tofu"), f"-chdir={folder}", "validate", "-json")
        return [diagnostic["summary"] for diagnostic in json.loads(validated.stdout)["diagnostics"]]


class TestPolicies:
    def test_each_skipped_policy_has_its_reason(self) -> None:
        for file in TERRAFORM.rglob("*.tf"):
            for line in re.findall(r"checkov:skip.*", file.read_text(encoding="utf-8")):
                assert re.fullmatch(r"checkov:skip=CKV2?_AWS_\d+:(as above|.{20,})", line), f"{file}: {line}"
        lines = (INFRASTRUCTURE / "checkov.yaml").read_text(encoding="utf-8").splitlines()
        skips = [line for line in lines if line.startswith("  - ")]
        assert skips
        assert [line for line in skips if not re.fullmatch(r"  - CKV_K8S_\d+ # .{20,}", line)] == []


class TestSecrets:
    def test_no_argument_would_put_a_password_into_the_state(self) -> None:
        """Write-only arguments and ephemeral values do not."""
        for file in TERRAFORM.rglob("*.tf"):
            arguments = re.findall(r"^ *(\w+) +=.*", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert set(arguments).isdisjoint({"secret_string", "secret_binary", "master_password"}), file
        assert re.findall(r"password\w* += var.*", text_of("modules/database/main.tf")) == [
            "password_wo         = var.password",
            "password_wo_version = var.password_version",
        ]
        assert "ephemeral   = true" in text_of("modules/database/variables.tf")


class TestCosts:
    """The table of docs/how-to/cloud.md."""

    page = (PROJECT / "docs/how-to/cloud.md").read_text(encoding="utf-8").partition("## What a month costs")[2]

    def rows(self) -> dict[str, tuple[int, int]]:
        """Each row's price in dev and in production."""
        table = self.page.partition("\n| |")[2].partition("\n\n")[0].replace("*", "").replace(",", "")
        found = re.findall(r"^\| (.*?) \|.*?\| (\d+) \|.*?\| (\d+) \|$", table, re.MULTILINE)
        return {name: (int(dev), int(production)) for name, dev, production in found}

    def test_a_month_is_the_sum_of_its_rows(self) -> None:
        parts = [price for name, price in self.rows().items() if name not in ("a month", "its budget")]
        assert len(parts) == 10
        dev, production = zip(*parts, strict=True)
        assert self.rows()["a month"] == (sum(dev), sum(production))

    def test_a_month_is_within_its_budget(self) -> None:
        budgets = [re.findall(r"monthly_usd = (\d+)", text_of(f"examples/{example}/main.tf")) for example in OVERLAYS]
        assert [[str(price)] for price in self.rows()["its budget"]] == budgets
        assert all(
            month < limit for month, limit in zip(self.rows()["a month"], self.rows()["its budget"], strict=True)
        )
