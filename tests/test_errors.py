"""What every message to a user holds: what was given, what was expected, what to do next."""

import pickle
import re

import pytest

from steps.core import errors
from steps.core.errors import UserError
from steps.core.monitoring import errors as of_monitoring

EXAMPLES: list[UserError] = [
    errors.ParametersInvalid("train", ["'num_bost_round' is not one of them"], ["num_boost_round"]),
    errors.ConfigNotFound("my.yaml", ["/here", "/there"]),
    errors.ConfigInvalid("my.yaml", ["target is missing"]),
    errors.NoTrainingWindow(),
    errors.JavaUnusable("there is no Java on PATH"),
    errors.TableChanged("/lake/iris"),
    errors.SettingInvalid("SPARK_DRIVER_MEMORY", "much", expected="a size such as 4g or 1500m"),
    errors.SparkUnavailable("it does not answer", next="start the server"),
    errors.PackageMissing("/usr/bin/python3", "No module named 'yaml'"),
    errors.ProjectBroken("steps/train.py", "is not Python: '(' was never closed", line=7),
    errors.DiskUnusable("/lake/iris", "No space left on device"),
    errors.MatrixTooLarge(needed="51.0 GiB", memory="8.0 GiB", disk="100.0 GiB", folder="/tmp"),
    errors.SearchTooLarge(needed="51.0 GiB", memory="8.0 GiB"),
    errors.UpsertTooLarge("/lake/iris", rows=1_000_000_000, needed="51.0 GiB", memory="8.0 GiB"),
    errors.RunUnusable("MLFLOW_RUN_ID=1a2b", "it was deleted", next="unset it"),
    errors.TrackingUnavailable("http://localhost:1", "it does not answer"),
    errors.LockNotReleased("table /lake/iris", "process 17 (python)", minutes=60),
    errors.LakeUndefined("tracking is on a server, and no lake is given"),
    errors.ObjectStoreUnavailable("s3://delta", "http://localhost:9000", "there is no such bucket"),
    errors.SourceChanged("/data/large.csv"),
    errors.SourceIngestedMeanwhile("/lake/iris", ingested=1, files=2),
    errors.TableBusy("s3://delta/iris", attempts=100),
    errors.TableNotWritten("s3://delta/iris", "No space left on device (os error 28)"),
    errors.SourceUnreadable("a.csv", "there is no such file or folder"),
    errors.FormUnclear("a.csv", "byte 12 is no UTF-8", likely={"encoding": "cp1252"}, next="say its encoding"),
    errors.FormatsMixed("data", "its format does not follow from the names of its files (.csv, .md)"),
    errors.NotText("a.csv", "a PDF document"),
    errors.FeaturesMissing("a.csv", ["id  long: no feature, as it counts the rows"]),
    errors.ContractBroken("a.csv", ["it has no rows"]),
    errors.TargetNotFound("a.csv", "churnd", ["id", "churned"]),
    errors.TargetUnfit("a.csv", "price", "its numbers have fractions"),
    errors.TableNotFound("/lake/iris"),
    errors.TableUnreadable("/lake/iris", "its log is no JSON"),
    errors.TableVersionGone("/lake/iris@v9", "there is no such version yet", versions="0 to 2"),
    errors.TableUnfit("/lake/iris@v9", ["has no column 'x'"], expected="the columns x", next="ingest again"),
    errors.SourceUnlabelled("/new.csv", "its target, column 'species', is empty in all 12 rows", table="/lake/iris"),
    errors.ModelNotFound("models:/iris/9 does not exist", known=[]),
    errors.ModelDamaged("models:/iris/9", "MLmodel is gone"),
    errors.ModelUnreadable("models:/iris/9", "API request failed with code 500"),
    errors.ModelProtected("iris_xgboost_classifier", "ada"),
    errors.PromotionRefused("the verdict is: fail", expected="a version that passed", next="run evaluate"),
    errors.NothingToInferWith("models:/iris/1", "fail", "f1_macro 0.1 is not at least 0.8"),
    errors.AddressUnusable("127.0.0.1", 5002, "Address already in use"),
    of_monitoring.NothingToWatch("there are no predictions yet", expected="rows", next="run infer"),
    of_monitoring.ReferenceUnknown("models:/iris/1", "does not tell what its training rows looked like"),
    of_monitoring.TooManyWindows(8_760, most=400),
    of_monitoring.LabelsUnusable("labels.csv", ["it has no rows"]),
    of_monitoring.LabelsContradictory("labels.csv", keys=1, examples=["id 1 has yes and no"]),
    errors.NothingKnown("sklearn:wine", "no run has ingested it"),
]


def family(cls: type[UserError] = UserError) -> set[type[UserError]]:
    return {cls}.union(*(family(child) for child in cls.__subclasses__()))


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_a_message_says_in_three_lines_what_was_given_what_was_expected_and_what_comes_next(error: UserError) -> None:
    given, expected, following = str(error).split("\n")
    assert re.fullmatch(rf"{type(error).__name__}: \S.*", given)
    assert re.fullmatch(r"  expected  \S.*", expected)
    assert re.fullmatch(r"  next      \S.*", following)


def test_every_error_of_the_family_has_an_example_here() -> None:
    assert {type(example) for example in EXAMPLES} == family() - {UserError, errors.StepFailed}


def test_the_family_is_drawn_whole_at_the_top_of_the_module() -> None:
    drawn = set(re.findall(r"\b[A-Z][a-z]+[A-Z]\w+", str(errors.__doc__)))
    assert drawn == {cls.__name__ for cls in family()}


def test_a_failed_step_carries_its_own_message_and_the_command_that_runs_it_again() -> None:
    message = str(errors.TableNotFound("/lake/iris"))
    lines = str(errors.StepFailed("train", message, "mlflow run . -e train")).split("\n")
    assert lines == ["train failed", *message.split("\n"), "  again     mlflow run . -e train"]


def test_one_mistake_stays_on_its_line_and_several_have_one_each() -> None:
    assert errors.listed("config a.yaml", ["x is missing"]) == "config a.yaml: x is missing"
    assert errors.listed("config a.yaml", iter(["x", "y"])).split("\n") == ["config a.yaml:", "    - x", "    - y"]


def test_several_mistakes_keep_the_two_lines_that_follow_them() -> None:
    lines = str(errors.ConfigInvalid("a.yaml", ["x is missing", "y is missing"])).split("\n")
    assert [line[:12] for line in lines[-2:]] == ["  expected  ", "  next      "]


def test_the_nearest_known_name_is_offered_and_a_far_one_is_not() -> None:
    assert errors.did_you_mean("num_bost_round", ["seed", "num_boost_round"]) == " (did you mean 'num_boost_round'?)"
    assert errors.did_you_mean("f1", ["accuracy", "f1_macro"]) == " (did you mean 'f1_macro'?)"
    assert errors.did_you_mean("banana", ["seed", "num_boost_round"]) == ""
    assert errors.did_you_mean("s", ["seed_of_all", "num_boost_round"]) == ""
    assert errors.did_you_mean("banana", []) == ""


def test_a_missing_model_is_told_what_models_there_are() -> None:
    assert "there is models:/a/1, models:/a/2\n" in str(errors.ModelNotFound("x", known=["models:/a/1", "models:/a/2"]))
    assert "there is no model yet\n" in str(errors.ModelNotFound("x", known=[]))


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_of_another_process_arrives_as_it_was(error: UserError) -> None:
    arrived = pickle.loads(pickle.dumps(error))
    assert (type(arrived), str(arrived), vars(arrived)) == (type(error), str(error), vars(error))
