"""Which version of a model a number, an alias or "previous" means, on a real registry in SQLite."""

import re
from collections.abc import Iterator

import pytest
from mlflow import MlflowClient
from place import new_database
from small import tracked

from steps.core.errors import ModelNotFound, PromotionRefused
from steps.core.models import aliases, registry
from steps.promote import choose


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
