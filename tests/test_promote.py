"""Which version of a model a number, an alias or "previous" means, on a real registry in SQLite."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from place import Place, new_database
from small import flower_parts, flowers_model, tracked

from steps import promote
from steps.core.errors import ModelNotFound, PromotionRefused
from steps.core.models import aliases, loading, registration, registry
from steps.promote import PromoteParameters, accepted, choose


@pytest.fixture(scope="module", autouse=True)
def _store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with tracked(new_database(tmp_path_factory.mktemp("promote"))):
        yield


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A model of three versions that no other test uses."""
    name = re.sub(r"\W", "_", request.node.name)
    MlflowClient().create_registered_model(name)
    for _ in range(3):
        MlflowClient().create_model_version(name, source="file:///nowhere")
    return name


def move(name: str, *versions: int, alias: str = "production", how: str = "promote") -> None:
    for version in versions:
        aliases.move_alias(registry.resolve(f"models:/{name}/{version}"), alias, how=how)  # type: ignore[arg-type]


def chosen(name: str, version: str, alias: str = "production") -> int:
    return int(choose(name, version, alias).version)


def test_a_number_is_that_version(name: str) -> None:
    assert chosen(name, "2") == 2


def test_an_alias_is_the_version_that_it_names_now(name: str) -> None:
    move(name, 1, 3, alias="staging")
    assert chosen(name, "staging") == 3


def test_previous_is_what_the_alias_named_before(name: str) -> None:
    move(name, 1, 3, 2)
    assert chosen(name, "previous") == 3


def test_previous_after_previous_is_one_further_back(name: str) -> None:
    move(name, 1, 3, 2)
    move(name, chosen(name, "previous"), how="previous")
    assert chosen(name, "previous") == 1


def test_previous_is_that_of_the_alias_that_is_asked_about(name: str) -> None:
    move(name, 1, 2)
    move(name, 3, 1, alias="canary")
    assert (chosen(name, "previous"), chosen(name, "previous", alias="canary")) == (1, 3)


@pytest.mark.parametrize("version", ["9", "nope", "latest"])
def test_what_the_model_does_not_have_is_refused(version: str, name: str) -> None:
    with pytest.raises(ModelNotFound, match=f"models:/{name}.{version} does not exist\n.*models:/{name}/3"):
        choose(name, version, "production")


def test_there_is_no_previous_before_the_second_move(name: str) -> None:
    move(name, 2)
    with pytest.raises(PromotionRefused, match=f"production of {name} named nothing before version 2\n.*\n.*version=N"):
        choose(name, "previous", "production")


def test_there_is_no_previous_of_an_alias_that_names_nothing(name: str) -> None:
    with pytest.raises(PromotionRefused, match=f"production of {name} named nothing before now\n"):
        choose(name, "previous", "production")


def test_a_previous_version_that_was_deleted_is_told(name: str) -> None:
    move(name, 1, 2)
    MlflowClient().delete_model_version(name, "1")
    with pytest.raises(ModelNotFound, match=f"models:/{name}/1 does not exist"):
        choose(name, "previous", "production")


def test_previous_of_a_model_that_is_not_there_is_a_missing_model() -> None:
    with pytest.raises(ModelNotFound, match="nope"):
        choose("nope", "previous", "production")


@pytest.mark.parametrize("version", ["1", "staging", "previous"])
def test_a_model_of_a_name_that_there_cannot_be_is_a_missing_model(version: str) -> None:
    with pytest.raises(ModelNotFound, match="a/b"):
        choose("a/b", version, "production")


def test_an_alias_whose_version_was_deleted_is_told_as_such(name: str) -> None:
    move(name, 2, alias="staging")
    MlflowClient().delete_model_version(name, "2")
    said = f"models:/{name}@staging names nothing: version 2, which it named, was deleted\n.*models:/{name}/3"
    with pytest.raises(ModelNotFound, match=said):
        choose(name, "staging", "production")


def test_a_champion_that_was_deleted_is_told_and_counts_as_none(name: str) -> None:
    assert loading.load_champion(name) == (None, "")
    move(name, 2, alias="staging")
    MlflowClient().delete_model_version(name, "2")
    lost = f"the champion models:/{name}/2 was deleted, so only the baseline is compared with"
    assert loading.load_champion(name) == (None, lost)


class TestAccepted:
    def judged(self, name: str, verdict: str = "fail", **given: Any) -> str:
        registry.record_verdict(
            registry.resolve(f"models:/{name}/1"), verdict=verdict, reasons=["too bad"], run_id="r", test_rows=9
        )
        parameters = PromoteParameters(name=name, **{"version": "1", **given})
        return accepted(registry.resolve(f"models:/{name}/1"), parameters)

    def test_a_version_that_passed_needs_no_reason(self, name: str) -> None:
        assert self.judged(name, "pass") == "pass"

    @pytest.mark.parametrize("verdict", ["fail", "undecided"])
    def test_any_other_needs_force_and_a_reason(self, name: str, verdict: str) -> None:
        assert self.judged(name, verdict, force=True, reason="the old one leaks") == verdict
        for given in ({}, {"force": True}, {"reason": "it is urgent"}, {"force": True, "reason": "  "}):
            with pytest.raises(PromotionRefused, match=rf"models:/{name}/1 is: {verdict} \(too bad\)\n.*with a reason"):
                self.judged(name, verdict, **given)

    @pytest.mark.parametrize("reason", ["", "it's | urgent"])
    @pytest.mark.parametrize("version", ["1", "previous"])
    def test_the_refusal_prints_the_command_that_is_accepted(self, name: str, version: str, reason: str) -> None:
        with pytest.raises(PromotionRefused, match="mlflow run .* -e promote .*force=true") as refused:
            self.judged(name, version=version, reason=reason, alias="canary")
        commands = [shlex.split(command) for command in re.findall("`(mlflow run [^`]*)`", str(refused.value))]
        judge, forced = ([word for word in command if "=" in word] for command in commands)
        assert judge == ["config=configs/iris.yaml", f"model=models:/{name}/1"]
        given = dict(word.split("=", 1) for word in forced)
        assert given == {
            "name": name,
            "version": version,
            "alias": "canary",
            "force": "true",
            "reason": reason or "WHY",
        }
        assert self.judged(**given) == "fail"


def set_read_only(database: Path, read_only: bool) -> None:
    """By the file's header, which SQLite heeds for every user: the version of its format for writers, and the counter
    of changes that makes open connections look at it."""
    with database.open("r+b") as file:
        file.seek(18)
        file.write(b"\x09" if read_only else b"\x01")
        file.seek(24)
        count = int.from_bytes(file.read(4))
        file.seek(24)
        file.write((count + 1).to_bytes(4))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Path]:
    """The file of a database of its own, with versions 1 and 2 of model m that passed."""
    with tracked(new_database(tmp_path)):
        model = flowers_model()
        example = flower_parts().train[[feature.name for feature in model.schema.features]].head(2)
        for _ in range(2):
            version = registration.register(model.booster, model.schema, example=example, name="m", tags={})
            registry.record_verdict(version, verdict="pass", reasons=[], run_id="r", test_rows=9)
        yield tmp_path / "mlflow.db"


def test_a_registry_that_cannot_be_written_any_more_at_the_moment_of_the_move_is_one_message_and_no_move(
    database: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    promote.main(["--name=m", "--alias=live", "--version=1"])
    capsys.readouterr()
    set_alias = MlflowClient.set_registered_model_alias

    def too_late(*given: Any) -> None:
        set_read_only(database, True)
        set_alias(*given)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_registered_model_alias", too_late)
        with pytest.raises(SystemExit, match="^1$"):
            promote.main(["--name=m", "--alias=live", "--version=2"])
    set_read_only(database, False)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("TrackingUnavailable: ") == 1
    assert "may not be written" in said.err
    assert "Traceback" not in said.err
    assert registry.aliases_of("m") == {"live": "1"}
    assert [move.to_version for move in aliases.history("m", "live")] == ["1"]

    # In a process of its own, as SQLite's connections of this one stay read-only
    again = Place(database.parent).step("promote", name="m", alias="live", version=2)
    assert again.out.startswith("promote: live now names version 2\n"), again.text
    assert [move.to_version for move in aliases.history("m", "live")] == ["1", "2"]
    assert registry.aliases_of("m") == {"live": "2"}
