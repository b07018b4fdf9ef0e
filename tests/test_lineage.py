"""What something was made of and what was made of it, against trees that were written down by hand."""

import json
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake
from mlflow import MlflowClient
from place import BIN, Place, new_database, rows_of
from small import tracked

from steps import lineage
from steps.core.workflow.lineage_tree import downstream, lines, upstream
from steps.core.workflow.provenance import ProvenanceIndex

MODEL = "models:/iris_xgboost_classifier"


class TestEntryPoint:
    """On what the entry points left: two versions of a model on one table, each with its predictions."""

    pytestmark = pytest.mark.spark

    @pytest.fixture(scope="class")
    @classmethod
    def made(cls, place: Place) -> Place:
        for name in ("ingest", "train", "evaluate", "infer", "ingest"):  # the second ingest finds nothing changed
            assert place.step(name).exit_code == 0
        assert place.step("train", max_depth=2).exit_code == 0
        assert place.step("infer", model=f"{MODEL}/2").exit_code == 0
        return place

    def test_predictions_are_told_back_to_their_source_and_code(self, made: Place) -> None:
        ended = made.mlflow_run("lineage", uri=made.lake("iris_predictions@v0"))
        assert ended.exit_code == 0, ended.text
        assert named(made, ended.out) == (
            "What it was made of\n"
            "  LAKE/iris_predictions@v0\n"
            "    infer, run infer-1, commit CODE, TIME\n"
            "    models:/iris_xgboost_classifier/1\n"
            "      train, run train-1, commit CODE, TIME\n"
            "      LAKE/iris@v0\n"
            "        ingest, run ingest-1, commit CODE, TIME, fingerprint ROWS\n"
            "        sklearn:iris\n"
            "    LAKE/iris@v0 (see above)\n"
            "What was made of it\n"
            "  LAKE/iris_predictions@v0\n"
            "    nothing\n"
        )

    def test_a_source_is_told_forward_to_all_that_was_made_of_it(self, made: Place) -> None:
        """Each thing once; the ingest is the one that wrote the version, not the later one that found it unchanged."""
        ended = made.step("lineage", uri="sklearn:iris")
        assert ended.exit_code == 0, ended.text
        assert named(made, ended.out) == (
            "What it was made of\n"
            "  sklearn:iris\n"
            "What was made of it\n"
            "  sklearn:iris\n"
            "    LAKE/iris@v0\n"
            "      ingest, run ingest-1, commit CODE, TIME, fingerprint ROWS\n"
            "      models:/iris_xgboost_classifier/1\n"
            "        train, run train-1, commit CODE, TIME\n"
            "        verdict: pass\n"
            "          evaluate, run evaluate-1, commit CODE, TIME\n"
            "        LAKE/iris_predictions@v0\n"
            "          infer, run infer-1, commit CODE, TIME\n"
            "      models:/iris_xgboost_classifier/2\n"
            "        train, run train-2, commit CODE, TIME\n"
            "        LAKE/iris_predictions@v1\n"
            "          infer, run infer-2, commit CODE, TIME\n"
        )

    def test_the_code_is_the_commit_of_this_checkout(self, made: Place) -> None:
        head = made.run("git", "-C", Path(__file__).parent, "rev-parse", "HEAD").out.strip()
        assert f"commit {head[:7]}, " in made.step("lineage").out

    @pytest.mark.parametrize("column", ["model_uri", "table_uri", "run_id"])
    def test_a_prediction_rows_columns_are_taken_as_they_stand(self, made: Place, column: str) -> None:
        (value,) = rows_of(made.lake("iris_predictions"), 1)[column].unique().to_pylist()
        ended = made.step("lineage", uri=value)
        first = ended.out.splitlines()[1].strip()
        assert first == {"run_id": made.lake("iris_predictions@v1")}.get(column, value)

    @pytest.mark.parametrize(
        ("given", "meant"),
        [("", "iris_predictions@v1"), ("lake/iris", "iris@v0"), (f"{MODEL}@staging", f"{MODEL}/1")],
    )
    def test_an_unpinned_uri_is_pinned(self, made: Place, given: str, meant: str) -> None:
        expected = meant if meant.startswith(MODEL) else made.lake(meant)
        assert made.step("lineage", uri=given).out.splitlines()[1] == f"  {expected}"

    def test_both_files_are_on_the_run(self, made: Place) -> None:
        ended = made.step("lineage", uri=f"{MODEL}/2")
        run = made.runs()[0]
        assert run.data.tags["input.uri"] == f"{MODEL}/2"
        read = {name: Path(made.client.download_artifacts(run.info.run_id, name)) for name in LOGGED}
        assert read["lineage.txt"].read_text() == ended.out
        trees = json.loads(read["lineage.json"].read_text())
        trained = next(run for run in made.runs() if run.info.run_name == "train")
        (model,) = trees["made_of"]
        assert (model["name"], model["provenance"]["run_id"]) == (f"{MODEL}/2", trained.info.run_id)
        assert [node["name"] for node in trees["made"][0]["nodes"]] == [made.lake("iris_predictions@v1")]
        (table,) = model["nodes"]
        commit = DeltaTable(made.lake("iris")).history()[-1]
        assert table["provenance"]["fingerprint"] == json.loads(commit["userMetadata"])["fingerprint"]

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ("sklearn:wine", "NothingKnown: sklearn:wine: no run has ingested it\n"),
            ("0" * 32, "NothingKnown: 0{32}: there is no such run\n"),
            (f"{MODEL}/9", f"ModelNotFound: {MODEL}/9 does not exist\n"),
            ("models:/a/b/1", "ModelNotFound: 'models:/a/b/1' does not name a version of a model\n"),
            ("lake/nope", "TableNotFound: .*/lake/nope is not a Delta table\n"),
            ("lake/nope@v3", "TableNotFound: .*/lake/nope@v3 is not a Delta table\n"),
            ("lake/iris@v7", "TableVersionGone: .*/lake/iris@v7: there is no such version yet\n"),
        ],
    )
    def test_what_is_not_there_is_told_in_three_lines(self, made: Place, given: str, said: str) -> None:
        ended = made.step("lineage", uri=given)
        assert ended.exit_code == 1
        assert ended.out == ""
        assert re.match(rf"{said}  expected  .+\n  next      .+\n$", ended.err), ended.err

    def test_a_run_is_told_as_deleted_and_then_as_gone_and_the_tree_goes_on(self, made: Place) -> None:
        """The last test here: it deletes the first runs."""
        ids = {label: run_id for run_id, label in labels(made).items()}
        known = {run_id: label for label, run_id in ids.items()}
        line = "infer, run infer-1, commit CODE, TIME"
        for name in ("infer", "ingest"):
            made.client.delete_run(ids[f"{name}-1"])
        text = named(made, made.step("lineage", uri=made.lake("iris_predictions@v0")).out, known)
        assert f"    {line}, its run was deleted\n    {MODEL}/1\n" in text
        assert "fingerprint ROWS, its run was deleted\n        sklearn:iris\n" in text

        store = f"sqlite:///{made.folder / 'mlflow.db'}"
        collected = made.run(BIN / "mlflow", "gc", "--backend-store-uri", store, "--tracking-uri", store)
        assert collected.exit_code == 0, collected.text

        text = named(made, made.step("lineage", uri=made.lake("iris_predictions@v0")).out, known)
        assert f"    {line}, its run is gone\n    {MODEL}/1\n" in text
        assert "fingerprint ROWS, its run is gone\n        sklearn:iris\n" in text
        forward = named(made, made.step("lineage", uri=f"{MODEL}/1").out, known)
        assert f"LAKE/iris_predictions@v0\n      {line}, its run is gone\n" in forward


LOGGED = ("lineage.txt", "lineage.json")


def labels(place: Place) -> dict[str, str]:
    """Each run's id, with its step and which run of that step it is."""
    counts: dict[str, int] = {}
    found = {}
    for run in reversed(place.runs()):
        name = str(run.info.run_name)
        counts[name] = counts.get(name, 0) + 1
        found[run.info.run_id] = f"{name}-{counts[name]}"
    return found


def named(place: Place, text: str, known: dict[str, str] | None = None) -> str:
    """`text` with what differs from time to time under a name."""
    text = text.replace(place.lake(""), "LAKE/").replace("LAKE//", "LAKE/")
    for run_id, label in (known or labels(place)).items():
        text = text.replace(f"run {run_id[:8]},", f"run {label},")
    text = re.sub(r"commit [0-9a-f]{7}\b", "commit CODE", text)
    text = re.sub(r"fingerprint \.\.\.\S+\|150\|-?\d+", "fingerprint ROWS", text)
    return re.sub(r"2\d{3}-\d\d-\d\d \d\d:\d\d UTC", "TIME", text)


@pytest.fixture
def lake_folder(tmp_path: Path) -> Iterator[Path]:
    with tracked(new_database(tmp_path)):
        yield tmp_path / "lake"


def ran(step: str, *, reads: dict[str, str], wrote: dict[str, str], ended: int | None = None) -> str:
    """A run of a step that finished at `ended`, in ms, or now, as steps/core/workflow/step_run.py records it."""
    tags = {f"input.{name}": uri for name, uri in reads.items()}
    tags |= {f"output.{name}": uri for name, uri in wrote.items()}
    client = MlflowClient()
    run = client.create_run("0", tags={"mlflow.runName": step, "mlflow.source.git.commit": "c0de" * 10, **tags})
    client.set_terminated(run.info.run_id, end_time=ended)
    return str(run.info.run_id)


def committed(path: Path, **metadata: str) -> str:
    """A version of a table that a step committed."""
    path.parent.mkdir(exist_ok=True)
    properties = CommitProperties(custom_metadata={"userMetadata": json.dumps(metadata)})
    write_deltalake(str(path), pa.table({"n": [1]}), mode="overwrite", commit_properties=properties)
    return f"{path}@v{DeltaTable(str(path)).version()}"


def registered(name: str, *, table: str, run_id: str) -> str:
    client = MlflowClient()
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    version = client.create_model_version(name, "file:///nowhere", tags={"table_uri": table, "run_id": run_id})
    return f"models:/{name}/{version.version}"


def backward(uri: str) -> list[str]:
    return without_time_and_commit(lines(upstream(uri, ProvenanceIndex([]), shown=set())))


def forward(uri: str) -> list[str]:
    index = ProvenanceIndex([])
    return without_time_and_commit(lines(downstream(uri, index.provenance(uri), index, shown=set())))


def without_time_and_commit(found: Iterable[str]) -> list[str]:
    return [re.sub(r", commit c0dec0d|, 2\d{3}-\d\d-\d\d \d\d:\d\d UTC", "", line) for line in found]


def short(run_id: str) -> str:
    return f"run {run_id[:8]}"


def plain(uri: str) -> str:
    """`uri` with another letter for each that a filter might take for something else."""
    return re.sub(r"[^A-Za-z0-9/@]", "x", uri)


class TestRecords:
    """On records as steps leave them, in a real store and in tables of deltalake's."""

    def test_a_table_that_was_made_anew_is_not_what_an_older_model_was_trained_on(self, lake_folder: Path) -> None:
        old = ran("ingest", reads={"source": "/old.csv"}, wrote={"table": f"{lake_folder}/t@v0"})
        table = committed(lake_folder / "t", step="ingest", run_id=old, source="/old.csv")
        trainer = ran("train", reads={"table": table}, wrote={"model": "models:/m/1"})
        model = registered("m", table=table, run_id=trainer)
        shutil.rmtree(lake_folder / "t")
        new = ran("ingest", reads={"source": "/new.csv"}, wrote={"table": table})
        committed(lake_folder / "t", step="ingest", run_id=new, source="/new.csv")
        MlflowClient().set_terminated(new)  # a step ends after its commit

        assert backward(model) == [
            model,
            f"  train, {short(trainer)}",
            f"  {table}",
            f"    ingest, {short(old)}, another has its name now",
            "    /old.csv",
        ]
        assert backward(table) == [table, f"  ingest, {short(new)}", "  /new.csv"]
        assert forward(table) == [table, f"  ingest, {short(new)}"]
        later = ran("train", reads={"table": table}, wrote={"model": "models:/m/2"})
        newer = registered("m", table=table, run_id=later)
        assert forward("/new.csv")[3:] == [f"    {newer}", f"      train, {short(later)}"]
        assert forward("/old.csv")[1:] == [
            f"  {table}",
            f"    ingest, {short(old)}, another has its name now",
            f"    {model}",
            f"      train, {short(trainer)}",
        ]

    def test_a_table_that_is_gone_is_told_from_the_run_that_handed_it_on(self, lake_folder: Path) -> None:
        run = ran("ingest", reads={"source": "/a.csv"}, wrote={"table": f"{lake_folder}/t@v0"})
        ran("main", reads={}, wrote={"table": f"{lake_folder}/t@v0"})
        assert backward(f"{lake_folder}/t@v0") == [
            f"{lake_folder}/t@v0",
            f"  ingest, {short(run)}, it is no longer there",
            "  /a.csv",
        ]

    def test_a_version_whose_files_are_gone_is_told_as_vacuumed(self, lake_folder: Path) -> None:
        run = ran("ingest", reads={"source": "/a.csv"}, wrote={"table": f"{lake_folder}/t@v0"})
        for _ in range(2):
            committed(lake_folder / "t", step="ingest", run_id=run, source="/a.csv")
        table = DeltaTable(str(lake_folder / "t"))
        table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
        assert backward(f"{lake_folder}/t@v0")[1] == f"  ingest, {short(run)}, its files were vacuumed"
        assert backward(f"{lake_folder}/t@v1")[1] == f"  ingest, {short(run)}"

    def test_a_model_whose_version_was_deleted_is_told_from_its_run(self, lake_folder: Path) -> None:
        trainer = ran("train", reads={"table": "/t@v0"}, wrote={"model": "models:/m/1"})
        registered("m", table="/t@v0", run_id=trainer)
        MlflowClient().delete_model_version("m", "1")
        assert backward("models:/m/1")[1:3] == [f"  train, {short(trainer)}, it is no longer there", "  /t@v0"]

    @pytest.mark.parametrize("is_run_of_train_kept", [True, False])
    def test_a_promotion_whose_version_was_deleted_is_told_as_such(
        self, lake_folder: Path, is_run_of_train_kept: bool, capsys: pytest.CaptureFixture[str]
    ) -> None:
        trainer = ran("train", reads={"table": "/t@v0"}, wrote={"model": "models:/m/1"})
        registered("m", table="/t@v0", run_id=trainer)
        promotion = ran("promote", reads={"version": "models:/m/1"}, wrote={"model": "models:/m/1"})
        MlflowClient().delete_model_version("m", "1")
        gone = "it is no longer there, and how it was made is not known"
        made = [f"    train, {short(trainer)}, it is no longer there", "    /t@v0", f"      {gone}"]
        if not is_run_of_train_kept:
            MlflowClient().delete_tag(trainer, "output.model")
            made = [f"    {gone}"]
        lineage.main([f"--uri={promotion}"])
        assert without_time_and_commit(capsys.readouterr().out.splitlines()) == [
            *("What it was made of", "  models:/m/1", *made),
            *("What was made of it", "  models:/m/1", "    nothing"),
        ]

    def test_the_model_of_a_prediction_is_told_when_its_version_was_deleted(
        self, lake_folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        predictions = committed(lake_folder / "p", step="infer", model="models:/m/1", table="/t@v0")
        lineage.main(["--uri=models:/m/1", f"--lake={lake_folder}"])
        gone = "    it is no longer there, and how it was made is not known"
        assert without_time_and_commit(capsys.readouterr().out.splitlines())[:5] == [
            *("What it was made of", "  models:/m/1", gone),
            *("What was made of it", "  models:/m/1"),
        ]
        lineage.main([f"--uri={predictions}"])
        assert f"  models:/m/1\n  {gone}\n" in capsys.readouterr().out

    def test_a_commit_of_another_hand_is_told_as_such(self, lake_folder: Path) -> None:
        lake_folder.mkdir()
        write_deltalake(str(lake_folder / "t"), pa.table({"n": [1]}))
        assert backward(f"{lake_folder}/t@v0")[1:] == ["  WRITE by another program"]

    def test_the_same_rows_of_another_source_say_which_source_wrote_them(self, lake_folder: Path) -> None:
        first = ran("ingest", reads={"source": "/a.csv"}, wrote={"table": f"{lake_folder}/t@v0"})
        table = committed(lake_folder / "t", step="ingest", run_id=first, source="/a.csv")
        ran("ingest", reads={"source": "/copy.csv"}, wrote={"table": table})
        assert forward("/copy.csv") == ["/copy.csv", f"  {table}", f"    ingest, {short(first)}", "    also of /a.csv"]

    def test_a_champion_and_a_promotion_are_no_product(self, lake_folder: Path) -> None:
        judged = {"table": "/t@v0", "model": "models:/m/2", "champion": "models:/m/1"}
        run = ran("evaluate", reads=judged, wrote={"verdict": "fail", "champion": "models:/m/1"})
        ran("evaluate", reads={"table": "/t@v0", "model": "models:/m/2", "champion": ""}, wrote={"champion": ""})
        ran("promote", reads={"version": "models:/m/2"}, wrote={"model": "models:/m/2"})
        assert forward("models:/m/1") == ["models:/m/1", "  how it was made is not known"]
        assert forward("models:/m/2")[2:] == ["  verdict: fail", f"    evaluate, {short(run)}", "    also of /t@v0"]

    def test_predictions_on_a_later_table_are_under_their_model_and_under_that_table(self, lake_folder: Path) -> None:
        for version in (0, 1):
            ran("ingest", reads={"source": "/a.csv"}, wrote={"table": f"{lake_folder}/t@v{version}"})
            committed(lake_folder / "t", step="ingest", run_id="", source="/a.csv")
        model = registered("m", table=f"{lake_folder}/t@v0", run_id="")
        made = committed(lake_folder / "t_predictions", step="infer", model=model, table=f"{lake_folder}/t@v1")
        assert forward(f"{lake_folder}/t@v0")[2:] == [
            f"  {model}",
            "    train",
            f"    {made}",
            "      infer",
            f"      also of {lake_folder}/t@v1",
        ]
        assert forward(f"{lake_folder}/t@v1")[2:] == [f"  {made}", "    infer", f"    also of {model}"]

    @pytest.mark.parametrize("name", ["it's", 'a "b"', """it's "b" \\""", "50% off_", "; drop", "a'--", "`x`", "é"])
    def test_a_path_of_any_characters_is_found(self, lake_folder: Path, name: str) -> None:
        source, table = f"/data/{name}.csv", f"/lakes/{name}/t@v0"
        run = ran("ingest", reads={"source": source}, wrote={"table": table})
        ran("ingest", reads={"source": plain(source)}, wrote={"table": plain(table)})
        model = registered("m", table=table, run_id="")
        registered("m", table=plain(table), run_id="")
        gone = f"    ingest, {short(run)}, it is no longer there"
        assert backward(model) == [model, "  train", f"  {table}", gone, f"    {source}"]
        assert forward(source) == [source, f"  {table}", gone, f"    {model}", "      train"]

    def test_a_circle_ends(self, lake_folder: Path) -> None:
        """Nothing of ours makes one; records that someone wrote by hand may."""
        names = {
            ran("train", reads={"table": one}, wrote={"predictions": other}, ended=10**12): other
            for one, other in (("/a@v0", "/b@v0"), ("/b@v0", "/a@v0"))
        }
        made = {other: f"train, {short(run_id)}, it is no longer there" for run_id, other in names.items()}
        assert backward("/a@v0") == [
            "/a@v0",
            f"  {made['/a@v0']}",
            "  /b@v0",
            f"    {made['/b@v0']}",
            "    /a@v0 (see above)",
        ]
        assert forward("/a@v0")[2:4] == ["  /b@v0", f"    {made['/b@v0']}"]
        assert len(forward("/a@v0")) < 8

    def test_a_name_that_was_used_before_it_was_made_is_not_known(self, lake_folder: Path) -> None:
        ran("train", reads={"table": "/a@v0"}, wrote={"predictions": "/b@v0"}, ended=10**12)
        ran("train", reads={"table": "/b@v0"}, wrote={"predictions": "/a@v0"}, ended=10**12 + 1)
        assert backward("/b@v0")[2:] == ["  /a@v0", "    it is no longer there, and how it was made is not known"]
