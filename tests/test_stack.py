"""The workflow on the stack: the same commands on a real PostgreSQL, S3 object store and MLflow server."""

import json
import re
import sys
from collections.abc import Iterator
from io import BytesIO
from itertools import permutations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
from composed import ModelServer
from deltalake import DeltaTable
from place import FEATURES, Ended, Place, rows_of, until
from services import KEY, SECRET, Stack, reaching

from steps.core import config
from steps.core.sources import kinds
from steps.core.storage import s3, s3_files

pytestmark = pytest.mark.spark

MODEL = "iris_xgboost_classifier"


@pytest.fixture(scope="module")
def ada(stack: Stack) -> Place:
    return stack.place("ada")


@pytest.fixture(scope="module")
def finished(ada: Place) -> Ended:
    """`mlflow run <project> -e main` with the three settings in the environment, and nothing else."""
    ended = ada.mlflow_run("main")
    assert ended.exit_code == 0, ended.text
    return ended


@pytest.fixture(scope="module")
def alone(ada: Place, finished: Ended, served_at_store: dict[str, str]) -> Place:
    """Where ada runs one step at a time, after her workflow."""
    return Place(ada.folder, {**ada.extra, **served_at_store})


def iris(stack: Stack, table: str, version: int | None = None, *, bucket: str = "delta"):  # type: ignore[no-untyped-def]
    return rows_of(f"s3://{bucket}/{table}", version, options=stack.store.deltalake_options)


class TestTheWorkflow:
    def test_ends_with_150_predictions_in_the_bucket(self, stack: Stack, finished: Ended) -> None:
        rows = iris(stack, "iris_predictions")
        assert rows.num_rows == 150
        assert set(rows["model_uri"].to_pylist()) == {f"models:/{MODEL}/1"}
        assert set(rows["table_uri"].to_pylist()) == {"s3://delta/iris@v0"}
        assert sum(a == b for a, b in zip(*(rows[c].to_pylist() for c in ("species", "prediction")), strict=True)) > 140

    def test_names_its_tables_in_the_summary(self, finished: Ended) -> None:
        made = [line.split()[1] for line in finished.out.splitlines() if line.startswith(("ingest ", "infer "))]
        assert made == ["s3://delta/iris@v0", "s3://delta/iris_predictions@v0"]

    def test_is_tracked_in_postgresql(self, stack: Stack, finished: Ended) -> None:
        found = stack.postgres.query("select name, status from runs where name in ('main', 'ingest', 'train', 'infer')")
        assert dict(found) == dict.fromkeys(["main", "ingest", "train", "infer"], "FINISHED")
        assert stack.postgres.query("select alias, version from registered_model_aliases") == [("staging", 1)]

    def test_keeps_its_artifacts_in_the_object_store(self, stack: Stack, finished: Ended) -> None:
        names = {Path(name).name for name in stack.store.names("mlflow")}
        assert {"report.html", "booster.ubj", "workflow.json", "receipt.json"} <= names

    def test_leaves_nothing_in_the_folder_where_the_user_stands(self, ada: Place, finished: Ended) -> None:
        assert sorted(path.name for path in ada.folder.iterdir()) == ["tmp"]
        assert [path.name for path in (ada.folder / "tmp").iterdir() if path.name.startswith("workflow")] == []

    def test_needs_no_key_for_the_artifacts(self, stack: Stack, ada: Place, finished: Ended) -> None:
        without = {name: value for name, value in ada.extra.items() if not name.startswith(("AWS_", "MLFLOW_S3"))}
        script = f"import mlflow; print(type(mlflow.pyfunc.load_model('models:/{MODEL}/1')).__name__)"
        ended = Place(ada.folder, {**without, "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false"}).run(
            sys.executable, "-c", script
        )
        assert ended.out == "PyFuncModel\n", ended.text

    def test_runs_nothing_again_and_starts_no_spark(self, ada: Place, finished: Ended) -> None:
        """Where a step that ran would start it."""
        no_java = Place(ada.folder, {**ada.extra, "JAVA_HOME": "/nowhere", "WORKFLOW_IN_MEMORY_MEBIBYTES": "0"})
        assert "JavaUnusable: " in no_java.step("main", reuse="false").err
        ended = no_java.step("main")
        assert ended.exit_code == 0, ended.text
        assert ended.out.count("reused, run") == 4

    @pytest.mark.parametrize(
        ("bucket", "name", "damage"),
        [
            ("mlflow", "booster.ubj", "train +would run +artifacts/booster.ubj of models:/.+/1 is damaged: 12 bytes"),
            ("mlflow", "report.html", "evaluate +would run +report.html of run [0-9a-f]{8} is damaged: 12 bytes"),
            ("delta", ".parquet", "ingest +would run +a file of s3://delta/iris@v0 is damaged: 12 bytes"),
        ],
    )
    def test_notices_a_result_that_was_cut_off(
        self, stack: Stack, ada: Place, finished: Ended, bucket: str, name: str, damage: str
    ) -> None:
        prefix = "iris/" if bucket == "delta" else ""
        key = next(key for key in stack.store.names(bucket, prefix) if key.endswith(name))
        client = stack.store.client()
        content = client.get_object(Bucket=bucket, Key=key)["Body"].read()
        client.put_object(Bucket=bucket, Key=key, Body=content[:12])
        ended = ada.step("main", dry_run="true")
        client.put_object(Bucket=bucket, Key=key, Body=content)
        assert ended.exit_code == 0, ended.text
        assert re.search(rf"{damage}, {len(content):,} expected", ended.out), ended.out


class TestAModelsServer:
    """compose's profile serve, with the packages of its image and no others."""

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, stack: Stack, finished: Ended, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
        keys = {"MINIO_ROOT_USER": KEY, "MINIO_ROOT_PASSWORD": SECRET}
        settings = {**keys, "SERVE_MODEL": f"models:/{MODEL}/1", "SERVE_LOG": "true"}
        server = ModelServer(tmp_path_factory.mktemp("serve"), settings, store=stack.store, tracking=stack.mlflow)
        assert not server.is_healthy
        server.start()
        yield server
        server.stop()

    def test_has_no_spark_and_tells_its_size(self, server: ModelServer) -> None:
        told = re.match(r"\d+ packages, (\d+) MiB; the largest in MiB: ", server.size)
        assert told is not None
        assert int(told[1]) < 750
        installed = {path.name for path in (server.folder / "packages").glob("lib/python*/site-packages/*")}
        assert {"xgboost", "deltalake", "mlflow"} <= installed
        assert installed.isdisjoint({"pyspark", "py4j", "delta", "nvidia", "sklearn", "matplotlib"})

    def test_answers_by_the_registrys_model_and_keeps_what_it_was_asked(
        self, stack: Stack, server: ModelServer
    ) -> None:
        assert server.is_healthy
        flowers = iris(stack, "iris_predictions").select([*FEATURES, "prediction", "probability"]).to_pylist()
        rows = [{name: flower[name] for name in FEATURES} for flower in flowers]
        answer = requests.post(f"{server.url}/invocations", json={"dataframe_records": rows}, timeout=30)
        assert (answer.status_code, answer.headers["X-Model-Uri"]) == (200, f"models:/{MODEL}/1")
        expected = [(flower["prediction"], flower["probability"]) for flower in flowers]
        assert [(row["prediction"], row["probability"]) for row in answer.json()["predictions"]] == expected
        assert server.end() == 0
        logged = iris(stack, "iris_requests").to_pylist()
        assert sorted((row["row"], row["prediction"], row["probability"]) for row in logged) == [
            (number, *pair) for number, pair in enumerate(expected)
        ]
        assert {row["model_uri"] for row in logged} == {f"models:/{MODEL}/1"}


class TestStepsAlone:
    def test_ingest_of_the_same_rows_makes_no_version(self, stack: Stack, alone: Place) -> None:
        ended = alone.step("ingest")
        assert ended.out == "ingest: table = s3://delta/iris@v0\n", ended.text

    def test_a_new_model_is_trained_judged_promoted_and_inferred_with(self, stack: Stack, alone: Place) -> None:
        assert "models:/iris_xgboost_classifier/2" in alone.step("train", table="s3a://delta/iris@v0", max_depth=2).out
        assert "verdict = pass" in alone.step("evaluate", model=f"models:/{MODEL}/2").out
        assert alone.step("infer").out == "infer: predictions = s3://delta/iris_predictions@v1\n"
        assert alone.step("infer").out == "infer: predictions = s3://delta/iris_predictions@v1\n"
        assert "production now names version 2" in alone.step("promote").out
        assert set(iris(stack, "iris_predictions")["model_uri"].to_pylist()) == {f"models:/{MODEL}/2"}
        assert set(iris(stack, "iris_predictions", 0)["model_uri"].to_pylist()) == {f"models:/{MODEL}/1"}

    def test_lineage_and_status_tell_of_the_object_store(self, alone: Place) -> None:
        told = alone.step("lineage", uri="s3://delta/iris@v0").out
        assert (
            told.index("s3://delta/iris@v0") < told.index("sklearn:iris") < told.index("s3://delta/iris_predictions@v0")
        )
        status = alone.step("main", dry_run="true").out
        assert "s3://delta/iris@v0  150 rows" in status

    def test_vacuum_removes_what_nobody_needs(self, stack: Stack, alone: Place) -> None:
        before = stack.store.names("delta", "iris_predictions/")
        planned = alone.step("vacuum", keep_days=0, dry_run="true").out
        assert "s3://delta/iris_predictions@v0  1 file" in planned
        assert stack.store.names("delta", "iris_predictions/") == before
        assert alone.step("vacuum", keep_days=0).out == planned.replace("would remove", "removed")
        after = stack.store.names("delta", "iris_predictions/")
        assert len([name for name in before if name not in after]) == 1
        assert iris(stack, "iris_predictions").num_rows == 150

    @pytest.mark.parametrize("table", ["iris", "iris_predictions"])
    def test_tables_ask_nothing_special_of_their_readers(self, stack: Stack, alone: Place, table: str) -> None:
        protocol = DeltaTable(f"s3://delta/{table}", storage_options=stack.store.deltalake_options).protocol()
        assert (protocol.min_reader_version, protocol.min_writer_version) == (1, 2)

    @pytest.fixture(scope="class")
    @classmethod
    def numbers(cls, stack: Stack, alone: Place) -> Path:
        """A config whose source is in the object store: 40 numbers in two files."""
        lines = ["number,word", *(f"{n},{'even' if n % 2 == 0 else 'odd'}" for n in range(40))]
        for part in (0, 1):
            text = "\n".join([lines[0], *lines[1 + 20 * part : 21 + 20 * part]])
            stack.store.client().put_object(Bucket="delta", Key=f"raw/part {part}.csv", Body=text.encode())
        return alone.config(
            name="numbers",
            source={"uri": "s3://delta/raw"},
            columns={"number": {"type": "long"}, "word": {"type": "string"}},
            target="word",
        )

    def test_one_spark_for_everyone_does_as_well(
        self, stack: Stack, ada: Place, numbers: Path, served_at_store: dict[str, str]
    ) -> None:
        port = Path(served_at_store["WORKFLOW_SPARK"], "port")
        assert until(port.exists, seconds=120)
        remote = f"sc://localhost:{port.read_text()}/;token={served_at_store['SPARK_CONNECT_AUTHENTICATE_TOKEN']}"
        by_workers = {"WORKFLOW_IN_MEMORY_MEBIBYTES": "0", "JAVA_HOME": "/nowhere"}
        shared = Place(ada.folder, {**ada.extra, **by_workers, "SPARK_REMOTE": remote})
        ended = shared.step("ingest", config=numbers, lake="s3://delta/shared")
        assert ended.out == "ingest: table = s3://delta/shared/numbers@v0\n", ended.text
        assert sorted(iris(stack, "shared/numbers")["number"].to_pylist()) == list(range(40))
        without = Place(ada.folder, {**ada.extra, **by_workers})
        assert "JavaUnusable: " in without.step("ingest", config=numbers, lake="s3://delta/shared").err

    def test_temporary_keys_for_a_part_of_the_bucket_do_with_their_session_token(
        self, stack: Stack, ada: Place
    ) -> None:
        team = "arn:aws:s3:::delta"
        policy = {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Action": ["s3:*Object"], "Resource": [f"{team}/team/*"]},
                {
                    "Effect": "Allow",
                    "Action": ["s3:ListBucket"],
                    "Resource": [team],
                    "Condition": {"StringLike": {"s3:prefix": ["team", "team/*"]}},
                },
            ],
        }
        given = stack.store.client("sts").assume_role(
            RoleArn="arn:aws:iam::000000000000:role/any", RoleSessionName="test", Policy=json.dumps(policy)
        )["Credentials"]
        keys = {"AWS_ACCESS_KEY_ID": given["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": given["SecretAccessKey"]}
        of_the_team = Place(ada.folder, {**ada.extra, **keys, "AWS_SESSION_TOKEN": given["SessionToken"]})
        ended = of_the_team.step("ingest", lake="s3://delta/team")
        assert ended.out == "ingest: table = s3://delta/team/iris@v0\n", ended.text
        assert "these keys may not use it" in of_the_team.step("ingest", lake="s3://delta/other").err
        without_token = Place(ada.folder, {**ada.extra, **keys})
        assert "ObjectStoreUnavailable: s3://delta" in without_token.step("ingest", lake="s3://delta/team").err

    def test_a_source_may_be_in_the_object_store(self, stack: Stack, alone: Place, numbers: Path) -> None:
        assert alone.step("ingest", config=numbers).out == "ingest: table = s3://delta/numbers@v0\n"
        assert sorted(iris(stack, "numbers")["number"].to_pylist()) == list(range(40))
        assert alone.step("ingest", config=numbers, source="s3a://delta/raw/*0.csv").exit_code == 0
        assert iris(stack, "numbers").num_rows == 20


class TestSources:
    """Files in the bucket, read in this process."""

    @pytest.fixture(autouse=True)
    def _store(self, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setattr(s3, "_usable", {})
        with reaching(stack.store):
            yield

    @staticmethod
    def read(uri: str, **columns: str) -> list[dict[str, object]]:
        """The rows of these columns, of these types, as they stand in the files."""
        source = kinds.resolve(config.Source(uri=uri))
        wanted = {name: config.Column(type=kind) for name, kind in columns.items()}
        return [row for part in source.parts(wanted) for raw in part.read() for row in raw.columns.to_pylist()]

    @pytest.mark.parametrize("order", list(permutations(range(3)))[::2])
    def test_csv_files_are_read_by_the_names_of_their_columns(self, stack: Stack, order: tuple[int, ...]) -> None:
        texts = ["a,b\n1,2\n", "b,a\n4,3\n", "a,c,b\n5,x,6\n"]
        folder = f"sources/csv{''.join(map(str, order))}"
        for place, number in enumerate(order):
            key = f"{folder}/day={place}/f.csv"
            stack.store.client().put_object(Bucket="delta", Key=key, Body=texts[number].encode())
        rows = self.read(f"s3://delta/{folder}", a="string", b="string", day="string")
        assert sorted((row["a"], row["b"]) for row in rows) == [("1", "2"), ("3", "4"), ("5", "6")]
        assert {row["a"]: row["day"] for row in rows} == {
            "135"[number]: str(place) for place, number in enumerate(order)
        }

    def test_of_parquet_files_only_the_footers_and_the_columns_that_are_asked_for_are_transferred(
        self, stack: Stack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        noise = np.random.default_rng(1).random(1_000_000)
        tables = [
            pa.table({"x": noise, "n": pa.repeat(7, len(noise))}),
            pa.table({"n": [-1], "more": ["?"], "x": [2.5]}),
        ]
        size_bytes = 0
        for place, table in enumerate(tables):
            buffer = BytesIO()
            pq.write_table(table, buffer)
            size_bytes += buffer.tell()
            key = f"sources/parquet/f{place}.parquet"
            stack.store.client().put_object(Bucket="delta", Key=key, Body=buffer.getvalue())
        get, sizes = s3_files._get, []

        def counting(uri: str, **settings: str) -> object:
            answer = get(uri, **settings)
            sizes.append(answer["ContentLength"])
            return answer

        monkeypatch.setattr(s3_files, "_get", counting)
        rows = self.read("s3://delta/sources/parquet/*.parquet", n="long")
        assert (len(rows), sum(int(str(row["n"])) for row in rows)) == (1_000_001, 7_000_000 - 1)
        assert size_bytes > 8_000_000
        assert 0 < sum(sizes) < size_bytes / 4

    def test_an_object_whose_name_has_the_letters_of_a_glob_is_read(self, stack: Stack) -> None:
        for name, text in (("[x]*?.csv", "a\nright\n"), ("xyz.csv", "b,c\nwrong,wrong\n")):
            stack.store.client().put_object(Bucket="delta", Key=f"sources/globs/{name}", Body=text.encode())
        assert self.read("s3://delta/sources/globs/[x]*?.csv", a="string") == [{"a": "right"}]
