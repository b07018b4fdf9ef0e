"""Text from the command line into an entry point's parameters: exact for text, strict for everything else."""

import dataclasses
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from small import QUICK

from steps.core.errors import ParametersInvalid
from steps.core.parameters import Hyperparameters, parameters, parse


@parameters
class Letter(Hyperparameters):
    text: str = "hello"
    force: bool = False


def read(*argv: str) -> Letter:
    return parse(Letter, argv, entry_point="write")


@QUICK
@given(st.text(min_size=1))
@example("--")
@example('it\'s "quoted"')
@example("a = b=c")
@example("--num_boost_round=3")
@example("-")
@example("-- x")
@example("$HOME `date` \\ %s {text}")
@example("two\nlines\t")
@example(" ")
@example("['a', \"b c\"]")
@example("None")
def test_any_text_arrives_as_it_was_given(text: str) -> None:
    assert read(f"--text={text}") == Letter(text=text)


def test_nothing_parsedis_all_defaults() -> None:
    assert read() == Letter(text="hello", force=False)
    assert read().hyperparameters() == {}


def test_an_empty_value_means_the_default_as_mlproject_passes_it() -> None:
    assert read("--text=", "--num_boost_round=", "--force=", "--learning_rate=") == read()


@pytest.mark.parametrize("argv", [["--num_boost_round=12"], ["--num_boost_round", "12"]])
def test_both_spellings_of_a_flag_are_the_same(argv: list[str]) -> None:
    assert read(*argv).num_boost_round == 12


@QUICK
@given(st.integers(1, 100_000), st.integers(1, 64), st.integers(0, 2**31 - 1), st.floats(1e-9, 1))
def test_numbers_within_their_range_arrive_exactly(num_boost_round: int, depth: int, seed: int, rate: float) -> None:
    parsed = read(
        f"--num_boost_round={num_boost_round}", f"--max_depth={depth}", f"--seed={seed}", f"--learning_rate={rate!r}"
    )
    assert parsed == Letter(num_boost_round=num_boost_round, max_depth=depth, seed=seed, learning_rate=rate)


@pytest.mark.parametrize(("text", "value"), [("true", True), ("True", True), ("false", False), ("FALSE", False)])
def test_a_switch_takes_true_and_false(text: str, value: bool) -> None:
    assert read(f"--force={text}").force is value


@pytest.mark.parametrize(
    "flag",
    [
        "num_boost_round=banana",
        "num_boost_round=0",
        "num_boost_round=100001",
        "num_boost_round=2.5",
        "num_boost_round=-1",
        "num_boost_round=None",
        "max_depth=65",
        "seed=-1",
        "seed=2147483648",
        "learning_rate=0",
        "learning_rate=1.5",
        "learning_rate=nan",
        "learning_rate=inf",
        "trials=-1",
        "trials=abc",
        "trials=2.5",
        "time_limit_minutes=0",
        "time_limit_minutes=inf",
        "force=maybe",
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_its_name(flag: str) -> None:
    name, _, value = flag.partition("=")
    with pytest.raises(ParametersInvalid, match=re.escape(f"{name}={value!r}: ")):
        read(f"--{flag}")


def test_a_misspelt_parameter_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(
        ParametersInvalid,
        match=r"-e write .*: 'num_bost_round' is not one of them \(did you mean 'num_boost_round'\?\)",
    ):
        read("--num_bost_round=3")


@pytest.mark.parametrize(
    "argv",
    [["--num_bost_round", "3"], ["--num_bost_round", "-3"], ["--num_bost_round", "a b"], ["--num_bost_round=a b"]],
)
def test_an_undeclared_parameter_is_refused_however_mlflow_passes_it_on(argv: list[str]) -> None:
    with pytest.raises(ParametersInvalid, match="'num_bost_round' is not one of them"):
        read(*argv)


def test_a_parameter_by_its_old_name_is_refused_with_the_new_one() -> None:
    """MLflow hands on what MLproject does not declare, so `-P rounds=5` arrives."""
    with pytest.raises(ParametersInvalid, match="-e write .*: 'rounds' was renamed to 'num_boost_round'\n"):
        read("--rounds", "5")


def test_an_old_name_where_there_is_no_new_one_is_no_parameter_at_all() -> None:
    @parameters
    class Postcard:
        text: str = ""

    with pytest.raises(ParametersInvalid, match="'rounds' is not one of them\n"):
        parse(Postcard, ["--rounds=5"], entry_point="write")


def test_a_name_is_never_completed() -> None:
    with pytest.raises(ParametersInvalid, match=r"'num_boost' is not one of them \(did you mean 'num_boost_round'\?\)"):
        read("--num_boost=3")


def test_the_names_that_there_are_stand_in_the_message() -> None:
    with pytest.raises(
        ParametersInvalid,
        match="among num_boost_round, .*, gamma, trials, time_limit_minutes, engine, train_on, text, force\n",
    ):
        read("--x=1")


def test_all_mistakes_are_reported_at_once() -> None:
    with pytest.raises(ParametersInvalid, match="'colour' is not one of them") as caught:
        read("--colour=red", "--num_boost_round=banana", "--seed=-1")
    assert re.findall(r"    - '?(\w+)", str(caught.value)) == ["colour", "num_boost_round", "seed"]


def test_a_word_that_belongs_to_no_parameter_is_refused() -> None:
    with pytest.raises(ParametersInvalid, match="'stray' does not belong to any parameter"):
        read("--num_boost_round=3", "stray")


def test_a_flag_without_a_value_is_refused() -> None:
    with pytest.raises(ParametersInvalid, match="'text' has no value"):
        read("--text")


def test_help_is_no_special_word() -> None:
    with pytest.raises(ParametersInvalid, match="'help' is not one of them"):
        read("--help")


def test_parameters_cannot_be_changed_afterwards() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError, match="num_boost_round"):
        read("--num_boost_round=3").num_boost_round = 4  # type: ignore[misc]


def test_only_hyperparameters_that_were_parsedreplace_those_of_the_config() -> None:
    assert read("--seed=0", "--num_boost_round=5", "--text=x").hyperparameters() == {"seed": 0, "num_boost_round": 5}
    assert read().hyperparameters() == {}


def test_a_parameter_that_is_parsedtwice_is_refused() -> None:
    with pytest.raises(ParametersInvalid, match="num_boost_round.*twice"):
        read("--num_boost_round=1", "--num_boost_round=2")
