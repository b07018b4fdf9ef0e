"""Versions and aliases on a real MLflow registry, in SQLite."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from place import PROJECT, new_database
from small import QUICK, sqlite, tracked

from steps import promote
from steps.core import config, parameters
from steps.core.errors import ModelNotFound, ParametersInvalid
from steps.core.models import aliases, registry
from steps.core.models.aliases import Move


@pytest.fixture(scope="module", autouse=True)
def _store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with tracked(new_database(tmp_path_factory.mktemp("registry"))):
        yield


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A model's name that no other test uses."""
    return re.sub(r"\W", "_", request.node.name)


def register(name: str, count: int = 1) -> list[ModelVersion]:
    client = MlflowClient()
    client.create_registered_model(name)
    return [client.create_model_version(name, source="file:///nowhere") for _ in range(count)]


class TestResolve:
    def test_a_version_is_found_by_its_number(self, name: str) -> None:
        register(name, 3)
        assert registry.uri_of(registry.resolve(f"models:/{name}/2")) == f"models:/{name}/2"

    def test_a_version_is_found_by_an_alias_as_it_is_now(self, name: str) -> None:
        first, second = register(name, 2)
        for version in (first, second):
            MlflowClient().set_registered_model_alias(name, "live", version.version)
            assert registry.uri_of(registry.resolve(f"models:/{name}@live")) == registry.uri_of(version)

    @pytest.mark.parametrize("tail", ["/9", "/007", "@nope", "@latest"])
    def test_what_the_model_does_not_have_is_told_with_what_it_has(self, tail: str, name: str) -> None:
        register(name, 2)
        MlflowClient().set_registered_model_alias(name, "live", "1")
        there_is = f"there is models:/{name}/2, models:/{name}/1, models:/{name}@live\n"
        with pytest.raises(ModelNotFound, match=f"models:/{name}{tail} does not exist\n.*{there_is}"):
            registry.resolve(f"models:/{name}{tail}")

    def test_a_model_that_is_not_there_is_told_with_those_that_are(self, name: str) -> None:
        register(name)
        with pytest.raises(ModelNotFound, match=r"models:/nope/1 does not exist\n.*models:/\w+"):
            registry.resolve("models:/nope/1")

    @pytest.mark.parametrize(
        "uri", ["", "iris", "models:/iris", "models:/iris/", "models:/iris@", "models:/iris/two", "models:/iris/-1",
                "models:/iris/1/", "models:/a/b/1", "models:/iris@a@b", "runs:/abc/model", "models:/iris/1\n",
                "models:/m-0123456789abcdef"]
    )  # fmt: skip
    def test_what_is_no_uri_of_a_version_is_told_as_such(self, uri: str) -> None:
        message = f"{uri!r} does not name a version of a model\n  expected  models:/<name>/<version> or"
        with pytest.raises(ModelNotFound, match=re.escape(message)):
            registry.resolve(uri)

    def test_a_number_that_no_store_can_hold_is_no_version(self, name: str) -> None:
        register(name)
        with pytest.raises(ModelNotFound, match="does not exist"):
            registry.resolve(f"models:/{name}/99999999999999999999")

    def test_a_store_that_fails_is_not_taken_for_a_missing_model(self, tmp_path: Path) -> None:
        (tmp_path / "mlflow.db").write_text("no database" * 99)
        with tracked(sqlite(tmp_path)), pytest.raises(Exception, match="file is not a database"):
            registry.resolve("models:/iris/1")


class TestNewest:
    def test_the_newest_is_the_one_with_the_highest_number(self, name: str) -> None:
        """Of more than nine, as text would sort 9 after 12; and of more than a page of ten."""
        register(name, 12)
        assert registry.newest_uri(name) == f"models:/{name}/12"

    def test_a_model_without_versions_is_told(self, name: str) -> None:
        register(name, 0)
        with pytest.raises(ModelNotFound, match=f"model {name} has no version\n"):
            registry.newest_uri(name)

    def test_a_name_with_blanks_and_accents_is_one_name(self) -> None:
        register("Fleur d été (2)", 2)
        assert registry.newest_uri("Fleur d été (2)") == "models:/Fleur d été (2)/2"

    def test_a_name_with_an_apostrophe_which_the_config_takes_is_found(self) -> None:
        assert config.Model(name="l'iris").name == "l'iris"
        register("l'iris")
        assert registry.newest_uri("l'iris") == "models:/l'iris/1"
        with pytest.raises(ModelNotFound, match='model l"iris has no version'):
            registry.newest_uri('l"iris')


class TestFind:
    def test_what_is_there_is_found_and_what_is_not_is_none(self, name: str) -> None:
        register(name)
        version = registry.find(name, "1")
        assert version is not None
        assert registry.uri_of(version) == f"models:/{name}/1"
        assert registry.find(name, "2") is None
        assert registry.find("nope", "1") is None

    def test_the_champion_is_what_staging_names(self, name: str) -> None:
        _, second = register(name, 2)
        assert aliases.champion(name) is None
        aliases.move_alias(second, "staging", how="gate")
        champion = aliases.champion(name)
        assert champion is not None
        assert champion.version == second.version

    def test_a_model_that_is_not_there_has_no_champion_and_no_aliases(self) -> None:
        assert aliases.champion("nope") is None
        assert registry.aliases_of("nope") == {}

    def test_an_alias_whose_version_was_deleted_names_nothing(self, name: str) -> None:
        version, _ = register(name, 2)
        aliases.move_alias(version, "staging", how="gate")
        MlflowClient().delete_model_version(name, version.version)
        assert aliases.champion(name) is None


class TestMoves:
    def test_an_alias_names_the_version_that_it_was_moved_to(self, name: str) -> None:
        first, second = register(name, 2)
        assert aliases.move_alias(first, "live", how="promote")
        assert aliases.move_alias(second, "live", how="promote")
        assert registry.aliases_of(name) == {"live": "2"}

    def test_every_move_is_in_the_history_oldest_first(self, name: str) -> None:
        versions = register(name, 3)
        for version in (versions[0], versions[2], versions[1]):
            aliases.move_alias(version, "live", how="gate")
        moves = aliases.history(name, "live")
        assert [(move.from_version, move.to_version) for move in moves] == [("", "1"), ("1", "3"), ("3", "2")]
        assert [move.when for move in moves] == sorted(move.when for move in moves)
        assert {move.how for move in moves} == {"gate"}
        assert all(move.who for move in moves)

    def test_a_move_to_where_the_alias_is_already_is_none(self, name: str) -> None:
        (version,) = register(name)
        aliases.move_alias(version, "live", how="gate")
        assert not aliases.move_alias(version, "live", how="promote")
        assert len(aliases.history(name, "live")) == 1

    def test_a_move_that_was_written_down_and_not_made_is_made_the_next_time(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first, second = register(name, 2)
        aliases.move_alias(first, "live", how="promote")

        def die(*_: object) -> None:
            raise KeyboardInterrupt("told to end")

        with monkeypatch.context() as patch:
            patch.setattr(MlflowClient, "set_registered_model_alias", die)
            with pytest.raises(KeyboardInterrupt, match="told to end"):
                aliases.move_alias(second, "live", how="promote")
        assert [move.to_version for move in aliases.history(name, "live")] == ["1"]
        aliases.move_alias(second, "live", how="promote")
        assert registry.aliases_of(name) == {"live": "2"}
        assert [move.to_version for move in aliases.history(name, "live")] == ["1", "2"]

    def test_aliases_with_a_common_beginning_have_their_own_histories(self, name: str) -> None:
        first, second = register(name, 2)
        aliases.move_alias(first, "prod", how="promote")
        aliases.move_alias(second, "prod-eu", how="promote")
        assert [move.to_version for move in aliases.history(name, "prod")] == ["1"]
        assert [move.to_version for move in aliases.history(name, "prod-eu")] == ["2"]

    def test_a_reason_is_kept_and_a_history_without_reasons_can_be_read(self, name: str) -> None:
        first, second = register(name, 2)
        aliases.move_alias(first, "live", how="promote")
        aliases.move_alias(second, "live", how="promote", reason="it's | quick")
        assert [move.reason for move in aliases.history(name, "live")] == ["", "it's | quick"]

    def test_a_history_that_a_later_release_wrote_more_into_can_be_read(self, name: str) -> None:
        (version,) = register(name)
        aliases.move_alias(version, "live", how="promote")
        ((key, written),) = MlflowClient().get_registered_model(name).tags.items()
        MlflowClient().set_registered_model_tag(name, key, written.replace("{", '{"ticket": "A-1", ', 1))
        assert [move.to_version for move in aliases.history(name, "live")] == ["1"]

    def test_a_history_whose_last_version_was_deleted_is_whole(self, name: str) -> None:
        first, second = register(name, 2)
        aliases.move_alias(first, "live", how="promote")
        MlflowClient().delete_model_version(name, "1")
        assert [move.to_version for move in aliases.history(name, "live")] == ["1"]
        assert aliases.deleted(name, "live") == "1"
        aliases.move_alias(second, "live", how="promote")
        assert [move.to_version for move in aliases.history(name, "live")] == ["1", "2"]
        assert aliases.deleted(name, "live") == ""

    def test_a_history_is_empty_before_the_first_move(self, name: str) -> None:
        register(name)
        assert aliases.history(name, "live") == []

    def test_a_later_verdict_replaces_an_earlier_one(self, name: str) -> None:
        (version,) = register(name)
        registry.record_verdict(version, verdict="fail", reasons=["too bad", "and worse"], run_id="r1", test_rows=9)
        registry.record_verdict(version, verdict="pass", reasons=["good", "enough"], run_id="r2", test_rows=8)
        tags = registry.resolve(f"models:/{name}/1").tags
        assert tags == {
            "verdict": "pass",
            "verdict.reasons": "good; enough",
            "verdict.run_id": "r2",
            "verdict.test_rows": "8",
        }


MOVER = """
import sys
import mlflow
from steps.core.models import aliases, model_page, registry
uri, name, versions = sys.argv[1], sys.argv[2], sys.argv[3:]
mlflow.set_tracking_uri(uri)
print("ready", flush=True)
sys.stdin.readline()
for number in versions:
    with aliases.deciding(name):
        aliases.move_alias(registry.resolve(f"models:/{name}/{number}"), "live", how="promote", reason="turn " + number)
        model_page.describe(name)
"""


class TestSeveralAtOnce:
    def test_no_move_is_lost_of_processes_that_spell_the_database_otherwise(self, tmp_path: Path) -> None:
        """Each move in the history goes on from the one before, and the alias names what the last one says."""
        (tmp_path / "link").symlink_to(tmp_path)
        spellings = [new_database(tmp_path), f"sqlite:///{tmp_path}//link/mlflow.db", "sqlite:///mlflow.db"]
        with tracked(spellings[0]):
            register("iris", 2)
            movers = []
            for number, uri in enumerate(spellings):
                temporary = tmp_path / f"tmp-{number}"
                temporary.mkdir()
                movers.append(
                    subprocess.Popen(
                        [sys.executable, "-c", MOVER, uri, "iris", *["1", "2"] * 5],
                        cwd=tmp_path,
                        env={**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(PROJECT)},
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        text=True,
                    )
                )
            for mover in movers:
                assert mover.stdout is not None
                assert mover.stdout.readline() == "ready\n"
            for mover in movers:
                assert mover.stdin is not None
                mover.stdin.write("go\n")
                mover.stdin.flush()
            assert [mover.wait(timeout=120) for mover in movers] == [0] * len(movers)
            for mover in movers:
                mover.communicate()
            moves = aliases.history("iris", "live")
            assert [move.from_version for move in moves] == ["", *[move.to_version for move in moves[:-1]]]
            assert registry.aliases_of("iris") == {"live": moves[-1].to_version}
            page = MlflowClient().get_registered_model("iris").description.replace("&nbsp;", "")
            listed = re.findall(r"UTC \| (.) \| (\d) \| \w+ \(promote\) \| turn \2 \|", page)
            assert listed == [(move.from_version or "–", move.to_version) for move in moves[:-11:-1]]
            assert f"| live | [version {moves[-1].to_version}](" in page


def parsed(alias: str) -> str:
    """What the entry point `promote` takes as an alias."""
    return parameters.parse(promote.PromoteParameters, [f"--alias={alias}"], entry_point="promote").alias


class TestAliasNames:
    @pytest.mark.parametrize("alias", ["production", "prod_2", "a-b", "V", "vv1", "1a", "x" * 200])
    def test_what_mlflow_takes_is_taken_and_can_be_moved(self, alias: str, name: str) -> None:
        assert parsed(alias) == alias
        (version,) = register(name)
        aliases.move_alias(version, alias, how="promote")
        assert registry.aliases_of(name) == {alias: "1"}
        assert len(aliases.history(name, alias)) == 1

    @pytest.mark.parametrize("alias", ["latest", "v3", "3", "a b", "a.b", "a/b", "a@b", "é", "x\n", "x" * 256])
    def test_what_mlflow_reserves_or_refuses_is_refused_with_the_rule(self, alias: str) -> None:
        with pytest.raises(ParametersInvalid, match=rf"alias: {re.escape(repr(alias))} given; an alias has at most"):
            parsed(alias)

    def test_the_refusal_names_all_parameters_of_promote(self) -> None:
        with pytest.raises(ParametersInvalid, match="NAME among config, name, version, alias, force, reason\n"):
            parsed("v3")

    @pytest.mark.parametrize("alias", ["Latest", "LATEST", "V3"])
    def test_reserved_names_are_refused_in_any_case(self, alias: str) -> None:
        with pytest.raises(ParametersInvalid, match="an alias has at most 200 letters"):
            parsed(alias)

    def test_an_alias_too_long_for_its_history_is_refused(self) -> None:
        with pytest.raises(ParametersInvalid, match="an alias has at most 200 letters"):
            parsed("x" * 255)


class TestPrevious:
    """Against the plainest model of it: a stack, on which a move forward puts a version and a step back takes one."""

    def replay(self, actions: list[str]) -> tuple[list[str], list[str]]:
        """`actions` are versions to move to, or "back"; what the alias then names by our code, and by the stack."""
        moves: list[Move] = []
        now, stack, ours, expected = "", [""], [], []
        for action in actions:
            if action == "back":
                to = aliases.previous(moves)
                if len(stack) > 2:
                    stack.pop()
            else:
                to = action
                if stack[-1] != action:
                    stack.append(action)
            if to and to != now:
                how = "previous" if action == "back" else "promote"
                moves.append(Move(when="", who="", from_version=now, to_version=to, how=how))  # type: ignore[arg-type]
                now = to
            ours.append(now)
            expected.append(stack[-1])
        return ours, expected

    @QUICK
    @given(st.lists(st.booleans(), max_size=12))
    def test_going_back_undoes_one_move_forward_at_a_time(self, forward: list[bool]) -> None:
        actions = [str(number) if on else "back" for number, on in enumerate(forward, start=1)]
        ours, expected = self.replay(actions)
        assert ours == expected

    def test_going_back_twice_goes_back_two(self) -> None:
        assert self.replay(["1", "2", "3", "back", "back"])[0] == ["1", "2", "3", "2", "1"]

    def test_before_the_first_move_there_was_nothing(self) -> None:
        first = Move(when="", who="", from_version="", to_version="1", how="gate")
        assert aliases.previous([first]) == ""
        assert aliases.previous([]) == ""

    def test_a_version_that_was_moved_to_twice_is_no_trap(self) -> None:
        ours, expected = self.replay(["1", "2", "1", "back", "back", "back"])
        assert expected == ["1", "2", "1", "2", "1", "1"]
        assert ours == expected
