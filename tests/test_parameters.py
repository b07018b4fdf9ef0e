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
@example("--rounds=3")
@example("-")
@example("-- x")
@example("$HOME `date` \\ %s {text}")
@example("two\nlines\t")
@example(" ")
@example("['a', \"b c\"]")
@example("None")
def test_any_text_arrives_as_it_was_given(text: str) -> None:
    assert read(f"--text={text}") == Letter(text=text)


def test_nothing_given_is_all_defaults() -> None:
    assert read() == Letter(text="hello", force=False, rounds=None, max_depth=None, learning_rate=None, seed=None)


def test_an_empty_value_means_the_default_as_mlproject_passes_it() -> None:
    assert read("--text=", "--rounds=", "--force=", "--learning_rate=") == read()


@pytest.mark.parametrize("argv", [["--rounds=12"], ["--rounds", "12"]])
def test_both_spellings_of_a_flag_are_the_same(argv: list[str]) -> None:
    assert read(*argv).rounds == 12


@QUICK
@given(st.integers(1, 100_000), st.integers(1, 64), st.integers(0, 2**31 - 1), st.floats(1e-9, 1))
def test_numbers_within_their_range_arrive_exactly(rounds: int, depth: int, seed: int, rate: float) -> None:
    given_ = read(f"--rounds={rounds}", f"--max_depth={depth}", f"--seed={seed}", f"--learning_rate={rate!r}")
    assert given_ == Letter(rounds=rounds, max_depth=depth, seed=seed, learning_rate=rate)


@pytest.mark.parametrize(("text", "value"), [("true", True), ("True", True), ("false", False), ("FALSE", False)])
def test_a_switch_takes_true_and_false(text: str, value: bool) -> None:
    assert read(f"--force={text}").force is value


@pytest.mark.parametrize(
    "flag",
    [
        "rounds=banana",
        "rounds=0",
        "rounds=100001",
        "rounds=2.5",
        "rounds=-1",
        "rounds=None",
        "max_depth=65",
        "seed=-1",
        "seed=2147483648",
        "learning_rate=0",
        "learning_rate=1.5",
        "learning_rate=nan",
        "learning_rate=inf",
        "force=maybe",
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_its_name(flag: str) -> None:
    name, _, value = flag.partition("=")
    with pytest.raises(ParametersInvalid, match=re.escape(f"{name}={value!r}: ")):
        read(f"--{flag}")


def test_a_misspelt_parameter_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(
        ParametersInvalid, match=r"-e write .*: 'ruonds' is not one of them \(did you mean 'rounds'\?\)"
    ):
        read("--ruonds=3")


@pytest.mark.parametrize("argv", [["--ruonds", "3"], ["--ruonds", "-3"], ["--ruonds", "a b"], ["--ruonds=a b"]])
def test_an_undeclared_parameter_is_refused_however_mlflow_passes_it_on(argv: list[str]) -> None:
    with pytest.raises(ParametersInvalid, match="'ruonds' is not one of them"):
        read(*argv)


def test_a_name_is_never_completed() -> None:
    with pytest.raises(ParametersInvalid, match=r"'round' is not one of them \(did you mean 'rounds'\?\)"):
        read("--round=3")


def test_the_names_that_there_are_stand_in_the_message() -> None:
    with pytest.raises(ParametersInvalid, match="among rounds, max_depth, learning_rate, seed, text, force\n"):
        read("--x=1")


def test_all_mistakes_are_reported_at_once() -> None:
    with pytest.raises(ParametersInvalid, match="'colour' is not one of them") as caught:
        read("--colour=red", "--rounds=banana", "--seed=-1")
    assert re.findall(r"    - '?(\w+)", str(caught.value)) == ["colour", "rounds", "seed"]


def test_a_word_that_belongs_to_no_parameter_is_refused() -> None:
    with pytest.raises(ParametersInvalid, match="'stray' does not belong to any parameter"):
        read("--rounds=3", "stray")


def test_a_flag_without_a_value_is_refused() -> None:
    with pytest.raises(ParametersInvalid, match="'text' has no value"):
        read("--text")


def test_help_is_no_special_word() -> None:
    with pytest.raises(ParametersInvalid, match="'help' is not one of them"):
        read("--help")


def test_parameters_cannot_be_changed_afterwards() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError, match="rounds"):
        read("--rounds=3").rounds = 4  # type: ignore[misc]


def test_only_hyperparameters_that_were_given_replace_those_of_the_config() -> None:
    assert read("--seed=0", "--rounds=5", "--text=x").hyperparameters() == {"seed": 0, "rounds": 5}
    assert read().hyperparameters() == {}


def test_a_parameter_that_is_given_twice_is_refused() -> None:
    with pytest.raises(ParametersInvalid, match="rounds.*twice"):
        read("--rounds=1", "--rounds=2")
