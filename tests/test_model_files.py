"""Champions and other versions whose files are lost, through the entry points, on a real registry in SQLite.

Without Spark: the table is written by deltalake, and none of these steps gets as far as committing.
"""

import contextlib
import hashlib
import http.server
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from deltalake import write_deltalake
from http_servers import answering
from mlflow import MlflowClient
from place import new_database
from small import FLOWERS, flowers, sqlite, tracked, without_artifact_check

from steps import evaluate, infer, promote, train
from steps.core.models import aliases, loading, registry
from steps.core.models.scorer import FORMAT_VERSION
from steps.core.workflow import reuse, step_inputs

NAME = "flowers_model"
CHAMPION, CANDIDATE = "1", "2"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a table, two versions of a model that was trained on it, and the first one as the champion."""
    folder = tmp_path_factory.mktemp("home")
    patch = pytest.MonkeyPatch()
    patch.chdir(folder)
    patch.setenv("MLFLOW_TRACKING_URI", sqlite(folder))
    write_deltalake(str(folder / "lake" / "flowers"), pa.Table.from_pandas(flowers(), preserve_index=False))
    for name, metric in (("flowers", "f1_macro"), ("strict", "accuracy")):
        gate = {"metric": metric, "at_least": 1 if name == "strict" else None}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({**FLOWERS, "gate": gate}))
    with tracked(new_database(folder)):
        for rounds in (20, 30):
            train.main(["--config=flowers.yaml", f"--num_boost_round={rounds}"])
        evaluate.main(["--config=flowers.yaml", f"--model=models:/{NAME}/{CHAMPION}"])
        assert registry.aliases_of(NAME) == {"staging": CHAMPION}
        without_artifact_check(patch, folder)
        yield folder
    patch.undo()


def folder_of(home: Path, version: str) -> Path:
    model_id = str(MlflowClient().get_model_version(NAME, version).source).rpartition("/")[2]
    return next(home.glob(f"mlruns/**/{model_id}")) / "artifacts"


@contextlib.contextmanager
def kept(folder: Path) -> Iterator[Path]:
    """`folder` is afterwards as it was."""
    backup = folder.with_name("backup")
    shutil.copytree(folder, backup)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
    backup.rename(folder)


@pytest.fixture
def champion(home: Path) -> Iterator[Path]:
    """The files of the version that `staging` names."""
    aliases.move_alias(registry.resolve(f"models:/{NAME}/{CHAMPION}"), aliases.STAGING, how="promote")
    with kept(folder_of(home, CHAMPION)) as folder:
        yield folder


def judge(config: str = "flowers.yaml", version: str = CANDIDATE) -> dict[str, str]:
    """Evaluate a version; the tags of the run."""
    evaluate.main([f"--config={config}", f"--model=models:/{NAME}/{version}"])
    tags: dict[str, str] = MlflowClient().search_runs(["0"], order_by=["attributes.start_time DESC"])[0].data.tags
    return tags


def test_how_many_versions_the_same_test_rows_have_judged_is_among_the_reasons(champion: Path) -> None:
    reasons = judge()["reasons"].split("; ")
    assert "these test rows have judged 2 versions" in reasons


FILES = ["MLmodel", "scorer.py", "artifacts/booster.ubj", "artifacts/schema.json"]
DAMAGES: list[tuple[str, str, str]] = [
    *[("gone", name, f"{name} is gone") for name in FILES],
    ("half", "scorer.py", "scorer.py ends before it sets the model"),
    ("half", "artifacts/booster.ubj", "artifacts/booster.ubj is not what was logged ("),
    ("half", "artifacts/schema.json", "artifacts/schema.json is not JSON: "),
    ("empty", "MLmodel", "MLmodel does not describe a Python model"),
    ("empty", "scorer.py", "scorer.py ends before it sets the model"),
    ("empty", "artifacts/booster.ubj", "artifacts/booster.ubj is not what was logged (0 bytes)"),
    ("empty", "artifacts/schema.json", "artifacts/schema.json is not JSON: "),
    ("other", "MLmodel", "MLmodel does not describe a Python model"),
    ("other", "scorer.py", "scorer.py is not Python: "),
    ("other", "artifacts/booster.ubj", "artifacts/booster.ubj is not what was logged ("),
    ("other", "artifacts/schema.json", "artifacts/schema.json is not JSON: "),
    ("other", "requirements.txt", "requirements.txt is not text: "),
    ("gone", "", f"{', '.join(FILES)} is gone"),
]


def damage(folder: Path, how: str, name: str) -> None:
    path = folder / name
    content = b"" if path.is_dir() else path.read_bytes()
    if path.is_dir():
        shutil.rmtree(path)
    elif how == "gone":
        path.unlink()
    else:
        half = (
            content[: content.rindex(b"\n\n\n", 0, len(content) // 2)]
            if name == "scorer.py"
            else content[: len(content) // 2]
        )
        path.write_bytes({"half": half, "empty": b"", "other": b"\xff{{ \x00" * 99}[how])


@pytest.mark.parametrize(("how", "name", "reason"), DAMAGES, ids=lambda value: str(value).replace("/", "-")[:30])
def test_a_champion_is_lost_by_any_damage_to_its_files(champion: Path, how: str, name: str, reason: str) -> None:
    damage(champion, how, name)
    lost = f"the champion models:/{NAME}/{CHAMPION} is lost ({reason}"
    loaded, because = loading.load_champion(NAME)
    assert loaded is None
    assert because.startswith(lost)
    assert because.endswith("), so only the baseline is compared with")


@pytest.mark.parametrize(
    ("how", "name", "reason"),
    [each for each in DAMAGES if each[:2] in (("gone", ""), ("half", "artifacts/booster.ubj"), ("other", "scorer.py"))],
    ids=["all is gone", "booster", "code"],
)
def test_a_lost_champion_stops_no_candidate_and_the_alias_is_repaired_with_its_history(
    champion: Path, how: str, name: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(champion, how, name)
    moves = len(aliases.history(NAME, aliases.STAGING))
    tags = judge()
    lost = f"the champion models:/{NAME}/{CHAMPION} is lost ({reason}"
    assert (tags["output.verdict"], tags["output.champion"]) == ("pass", f"models:/{NAME}/{CANDIDATE}")
    assert lost in tags["reasons"]
    assert "so only the baseline is compared with" in tags["reasons"]
    assert f"evaluate: {lost}" in capsys.readouterr().err
    assert registry.aliases_of(NAME) == {"staging": CANDIDATE}
    move = aliases.history(NAME, aliases.STAGING)[moves]
    assert (move.from_version, move.to_version, move.how) == (CHAMPION, CANDIDATE, "gate")


def test_a_candidate_that_fails_beside_a_lost_champion_leaves_no_champion_to_infer_with(champion: Path) -> None:
    damage(champion, "half", "artifacts/booster.ubj")
    tags = judge("strict.yaml")
    assert (tags["output.verdict"], tags["output.champion"]) == ("fail", "")
    assert f"; the champion models:/{NAME}/{CHAMPION} is lost (" in tags["reasons"]
    assert registry.aliases_of(NAME) == {"staging": CHAMPION}


def test_a_model_is_read_without_the_right_to_write_beside_it(home: Path, champion: Path) -> None:
    """It may be another user's; root may write anywhere, so one looks at what was written."""
    folders = [champion, champion.parent, folder_of(home, CANDIDATE)]
    before = [sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*")) for folder in folders]
    judge()
    loading.load(registry.resolve(f"models:/{NAME}/{CHAMPION}"))
    assert before == [sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*")) for folder in folders]


def test_a_champion_with_all_its_files_is_compared_with(champion: Path) -> None:
    tags = judge()
    assert f"of models:/{NAME}/{CHAMPION}: " in tags["reasons"]
    assert "lost" not in tags["reasons"]


@pytest.mark.parametrize(
    ("how", "reason"), [("gone", "is gone"), ("half", r"is damaged: [\d,]+ bytes, [\d,]+ expected")]
)
def test_an_evaluation_is_not_taken_again_once_its_champion_is_lost(champion: Path, how: str, reason: str) -> None:
    uri = f"models:/{NAME}/{CHAMPION}"
    receipt: dict[str, Any] = {
        "artifacts": {},
        "wrote": {"champion": uri},
        "read": {"model": f"models:/{NAME}/{CANDIDATE}"},
    }
    receipt |= {"identities": {uri: step_inputs.identity(uri)}, "models": {uri: registry.files(uri)}}
    run = MlflowClient().create_run("0")
    assert reuse.staleness_reason(run, receipt) == ""
    damage(champion, how, "artifacts/booster.ubj")
    assert re.fullmatch(rf"artifacts/booster.ubj of {uri} {reason}", reuse.staleness_reason(run, receipt))


def refused(command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one message with which the step of this command ends."""
    steps = {"evaluate": evaluate.main, "infer": infer.main, "promote": promote.main}
    with pytest.raises(SystemExit, match="^1$"):
        steps[command[0]](command[1:])
    return capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["infer", "--config=flowers.yaml"],
        ["evaluate", "--config=flowers.yaml", f"--model=models:/{NAME}/{CHAMPION}"],
        ["promote", "--config=flowers.yaml"],
        ["promote", "--config=flowers.yaml", f"--version={CHAMPION}", "--force=true"],
    ],
    ids=" ".join,
)
def test_a_step_that_needs_a_damaged_version_says_what_leads_out(
    champion: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    damage(champion, "half", "artifacts/booster.ubj")
    message = refused(command, capsys)
    assert f"ModelDamaged: models:/{NAME}/{CHAMPION} cannot be loaded: artifacts/booster.ubj is not what was" in message
    assert f"`mlflow run . -e promote -P name={NAME} -P version=N -P alias=staging`" in message
    assert "production" not in registry.aliases_of(NAME)


def test_what_the_message_says_leads_out(champion: Path) -> None:
    damage(champion, "gone", "MLmodel")
    promote.main([f"--name={NAME}", f"--version={CANDIDATE}", "--alias=staging", "--force=true", "--reason=lost"])
    assert registry.aliases_of(NAME) == {"staging": CANDIDATE}


class Answers500(http.server.BaseHTTPRequestHandler):
    """A store that is there and cannot answer."""

    def do_GET(self) -> None:
        self.send_error(500)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def failing_store() -> Iterator[str]:
    with answering(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers500)) as url:
        yield url


@pytest.mark.parametrize("store", ["proxied, does not answer", "proxied, answers with 500", "S3, does not answer"])
def test_a_champion_whose_store_does_not_answer_is_not_lost(
    home: Path,
    champion: Path,
    store: str,
    failing_store: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", "http://127.0.0.1:9")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_MAX_ATTEMPTS"):
        monkeypatch.setenv(name, "1")
    sources = {
        "proxied, does not answer": "http://127.0.0.1:9/api/2.0/mlflow-artifacts/artifacts/model",
        "proxied, answers with 500": f"{failing_store}/api/2.0/mlflow-artifacts/artifacts/model",
        "S3, does not answer": "s3://bucket/model",
    }
    version = MlflowClient().create_model_version(NAME, source=sources[store])
    aliases.move_alias(version, aliases.STAGING, how="promote")
    try:
        message = refused(["evaluate", "--config=flowers.yaml", f"--model=models:/{NAME}/{CANDIDATE}"], capsys)
        assert f"ModelUnreadable: models:/{NAME}/{version.version} cannot be read here: " in message
        assert "-P alias=staging" in message
        assert registry.aliases_of(NAME) == {"staging": str(version.version)}
    finally:
        MlflowClient().delete_model_version(NAME, version.version)


def test_a_booster_that_is_as_it_was_logged_and_cannot_be_loaded_here_is_not_lost(
    champion: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as one that a later XGBoost wrote."""
    booster = champion / "artifacts" / "booster.ubj"
    booster.write_bytes(b"a format to come")
    version = registry.resolve(f"models:/{NAME}/{CHAMPION}")
    logged = version.tags[registry.BOOSTER_SHA256]
    registry.tag(version, {registry.BOOSTER_SHA256: hashlib.sha256(booster.read_bytes()).hexdigest()})
    message = refused(["evaluate", "--config=flowers.yaml", f"--model=models:/{NAME}/{CANDIDATE}"], capsys)
    registry.tag(version, {registry.BOOSTER_SHA256: logged})
    assert f"ModelUnreadable: models:/{NAME}/{CHAMPION} cannot be read here: " in message
    assert registry.aliases_of(NAME) == {"staging": CHAMPION}


def edit_schema(folder: Path, **changes: Any) -> None:
    file = folder / "artifacts" / "schema.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_a_champion_whose_schema_has_fields_of_a_later_release_is_compared_with(champion: Path) -> None:
    edit_schema(champion, thresholds=[0.5])
    tags = judge()
    assert f"of models:/{NAME}/{CHAMPION}: " in tags["reasons"]
    assert "lost" not in tags["reasons"]


@pytest.mark.parametrize("keeps_its_fields", [True, False])
@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "--config=flowers.yaml", f"--model=models:/{NAME}/{CANDIDATE}"],
        ["evaluate", "--config=flowers.yaml", f"--model=models:/{NAME}/{CHAMPION}"],
        ["infer", "--config=flowers.yaml"],
    ],
    ids=["its challenger is judged", "it is judged", "it predicts"],
)
def test_a_champion_of_a_later_format_is_not_lost_and_keeps_its_alias(
    champion: Path, command: list[str], keeps_its_fields: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    later = FORMAT_VERSION + 1
    if keeps_its_fields:
        edit_schema(champion, format_version=later)
    else:
        (champion / "artifacts" / "schema.json").write_text(json.dumps({"format_version": later, "inputs": []}))
    message = refused(command, capsys)
    unreadable = f"ModelUnreadable: models:/{NAME}/{CHAMPION} cannot be read here"
    assert f"{unreadable}: its schema.json has format {later}\n" in message
    assert f"a format up to {FORMAT_VERSION}, which is what this version of the project reads\n" in message
    assert "run the version of the project that trained it, or a later one; or let the alias name another" in message
    assert registry.aliases_of(NAME) == {"staging": CHAMPION}


def test_a_schema_that_is_not_as_train_writes_it_is_told(champion: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit_schema(champion, features=[7])
    message = refused(["infer", "--config=flowers.yaml"], capsys)
    assert f"models:/{NAME}/{CHAMPION} cannot be read here: its schema.json is not as train writes it: " in message


def test_a_step_that_is_called_from_python_is_not_reused_as_its_code_is_not_known(home: Path) -> None:
    """As from a notebook: no launcher has watched what the process loaded."""
    run = next(run for run in MlflowClient().search_runs(["0"]) if run.info.run_name == "train")
    receipt, damage = reuse.read_receipt(run)
    assert damage == ""
    code = {name: digest for name, digest in receipt["inputs"].items() if name.startswith("code.")}
    assert "code.steps/train.py" in code
    assert set(code.values()) == {"unknown"}
    inputs = {name: value for name, value in receipt["inputs"].items() if name not in code}
    decision = reuse.find_reusable("train", inputs, workflow="flowers", experiment_id="0")
    assert (decision.run, decision.reason) == (
        None,
        "the earlier run was not started by `mlflow run`, so its code is not known",
    )
