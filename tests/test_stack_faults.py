"""When a service of the stack goes away, refuses or is full: one message, nothing lost, and on from there."""

import contextlib
import http.server
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from place import Ended, Place, rows_of
from services import HeldRequests, ObjectStore, Stack

pytestmark = pytest.mark.spark

MODEL = "iris_xgboost_classifier"
LIMIT_SECONDS = 10  # for a service that is silent, where a test waits for it
LESS = {
    "petal_length": {"source": "petal length (cm)", "type": "double"},
    "species": {"source": "target", "type": "string"},
}


class NobodyBehindIt(http.server.BaseHTTPRequestHandler):
    """A proxy whose server is gone."""

    def do_GET(self) -> None:
        self.send_error(502)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One of their own, whose services may be stopped."""
    made = Stack(tmp_path_factory.mktemp("stack"))
    yield made
    made.stop()


@pytest.fixture
def mended(stack: Stack) -> Iterator[Stack]:
    """The stack for a test that stops something of it."""
    yield stack
    stack.repair()


@pytest.fixture
def place(request: pytest.FixtureRequest, mended: Stack) -> Place:
    """Where a user stands with a lake of their own, and who does not wait long for a tracking server."""
    name = f"{request.cls.__name__}-{request.node.name}".replace("[", "-").replace("]", "")
    return mended.place(name, lake=f"s3://delta/{name}", MLFLOW_HTTP_REQUEST_MAX_RETRIES="3")


def interfered(place: Place, step: str, proxy: HeldRequests, act: Callable[[], None], **parameters: object) -> Ended:
    """A step, and `act` at the moment of the request that `proxy` holds back; its seconds from then on."""
    there = replace(place, extra={**place.extra, "WORKFLOW_ANSWER_SECONDS": str(LIMIT_SECONDS)})
    proxy.hold()
    with ThreadPoolExecutor() as beside:
        running = beside.submit(there.step, step, **parameters)
        proxy.wait_for_request()
        act()
        proxy.release()
        began = time.monotonic()
        ended = running.result()
    return replace(ended, seconds=time.monotonic() - began)


def is_one_message(ended: Ended, kind: str) -> None:
    assert (ended.exit_code, ended.out) == (1, ""), ended.text
    given, expected, following = ended.err.splitlines()[-3:]
    assert given.startswith(f"{kind}: ")
    assert expected.startswith("  expected  ")
    assert following.startswith("  next      ")
    assert "Traceback" not in ended.text


def stored(stack: Stack, place: Place, table: str) -> int:
    return int(rows_of(f"{place.extra['LAKE_URI']}/{table}", options=stack.store.deltalake_options).num_rows)


def trained(place: Place) -> str:
    """The number of a model's version that was just trained."""
    assert place.step("ingest").exit_code == 0
    return place.step("train").out.strip().rpartition("/")[2]


def staging(place: Place) -> str:
    return str(place.client.get_registered_model(MODEL).aliases.get("staging", ""))


def moves_to(place: Place, version: str) -> int:
    """How often the history of `staging` has a move to this version."""
    tags = place.client.get_registered_model(MODEL).tags
    moves = [json.loads(text) for name, text in tags.items() if name.startswith("alias_history.staging.")]
    return sum(move["to_version"] == version for move in moves)


@contextlib.contextmanager
def store_through_proxy(stack: Stack, place: Place, objects: str) -> Iterator[tuple[Place, HeldRequests]]:
    """The place, with its object store behind a proxy that can hold back the put of an object whose name fits."""
    with HeldRequests(stack.store.port, name=objects) as proxy:
        yield replace(place, extra={**place.extra, "MLFLOW_S3_ENDPOINT_URL": proxy.url}), proxy


@contextlib.contextmanager
def tracking_through_proxy(stack: Stack, place: Place, path: str) -> Iterator[tuple[Place, HeldRequests]]:
    """The place, with its tracking server behind a proxy that can hold back what is posted to a path that fits."""
    with HeldRequests(stack.mlflow.port, name=path, method="POST") as proxy:
        yield replace(place, extra={**place.extra, "MLFLOW_TRACKING_URI": proxy.url}), proxy


class TestTheObjectStore:
    def test_that_stops_while_ingest_writes_loses_nothing(self, mended: Stack, place: Place) -> None:
        with store_through_proxy(mended, place, r"/iris/\S*") as (there, proxy):
            ended = interfered(there, "ingest", proxy, mended.store.stop)
        is_one_message(ended, "ObjectStoreUnavailable")
        assert ended.seconds < 3 * LIMIT_SECONDS
        assert place.runs()[0].info.status == "FAILED"
        assert place.runs()[0].data.tags["error"].startswith("ObjectStoreUnavailable: s3://delta at http://127.0.0.1")
        mended.store.start()
        assert "/iris@v" in place.step("ingest").out
        assert stored(mended, place, "iris") == 150

    def test_that_stops_while_infer_writes_loses_nothing(self, mended: Stack, place: Place) -> None:
        for step in ("ingest", "train", "evaluate"):
            assert place.step(step).exit_code == 0
        with store_through_proxy(mended, place, r"/iris_predictions/_delta_log/\S*") as (there, proxy):
            ended = interfered(there, "infer", proxy, mended.store.stop)
        is_one_message(ended, "ObjectStoreUnavailable")
        assert ended.seconds < 3 * LIMIT_SECONDS
        mended.store.start()
        assert "/iris_predictions@v" in place.step("infer").out
        assert stored(mended, place, "iris_predictions") == 150

    def test_that_accepts_and_never_answers_while_ingest_writes_is_told_within_the_limit(
        self, mended: Stack, place: Place
    ) -> None:
        with store_through_proxy(mended, place, r"/iris/\S*") as (there, proxy):
            ended = interfered(there, "ingest", proxy, mended.store.pause)
        is_one_message(ended, "ObjectStoreUnavailable")
        assert ended.seconds < 3 * LIMIT_SECONDS
        assert place.runs()[0].info.status == "FAILED"
        mended.store.resume()
        assert "/iris@v" in place.step("ingest").out
        assert stored(mended, place, "iris") == 150

    def test_that_is_not_there_is_told_at_once(self, mended: Stack, place: Place) -> None:
        mended.store.stop()
        ended = place.step("ingest")
        is_one_message(ended, "ObjectStoreUnavailable")
        assert ended.seconds < 30

    @pytest.mark.parametrize(
        ("setting", "value", "reason"),
        [
            ("AWS_ACCESS_KEY_ID", "nobody", "it does not know the key in AWS_ACCESS_KEY_ID"),
            ("AWS_SECRET_ACCESS_KEY", "wrong", "the secret in AWS_SECRET_ACCESS_KEY is not that of the key"),
            ("LAKE_URI", "s3://nowhere-to-be-found", "there is no such bucket"),
        ],
        ids=["key", "secret", "bucket"],
    )
    def test_that_refuses_is_told_with_the_setting_to_correct(
        self, place: Place, setting: str, value: str, reason: str
    ) -> None:
        ended = Place(place.folder, {**place.extra, setting: value}).step("ingest")
        is_one_message(ended, "ObjectStoreUnavailable")
        assert reason in ended.err
        assert value not in ended.err or setting == "LAKE_URI"

    def test_whose_address_is_no_url_is_told(self, place: Place) -> None:
        ended = Place(place.folder, {**place.extra, "MLFLOW_S3_ENDPOINT_URL": "localhost:9000"}).step("ingest")
        is_one_message(ended, "ObjectStoreUnavailable")
        assert "at localhost:9000 cannot be used: an endpoint is a URL, http://<host>:<port>" in ended.err

    def test_without_any_key_says_so(self, place: Place) -> None:
        keyless = {name: value for name, value in place.extra.items() if not name.startswith("AWS_")}
        ended = Place(place.folder, {**keyless, "AWS_EC2_METADATA_DISABLED": "true", "HOME": str(place.folder)}).step(
            "ingest"
        )
        is_one_message(ended, "ObjectStoreUnavailable")
        assert "Unable to locate credentials" in ended.err

    def test_that_is_full_is_told_and_the_table_is_as_it_was(
        self, mended: Stack, place: Place, small_disk: Path
    ) -> None:
        store = ObjectStore(small_disk.parent / "full", data=small_disk)
        store.start()
        try:
            store.client().create_bucket(Bucket="delta")
            settings = {**store.settings, "LAKE_URI": "s3://delta"}
            here = Place(place.folder, {**place.extra, **settings})
            assert here.step("ingest").exit_code == 0
            free = shutil.disk_usage(small_disk).free
            with contextlib.suppress(OSError):  # the store may have written meanwhile, and the disk be full before
                (small_disk / "filler").write_bytes(b"x" * (free - 4096))
            ended = here.step("ingest", config=here.config(columns=LESS))
            is_one_message(ended, "ObjectStoreUnavailable")
            assert "its disk is full" in ended.err
            (small_disk / "filler").unlink()
            table = rows_of("s3://delta/iris", options=store.deltalake_options)
            assert (table.num_rows, len(table.column_names)) == (150, 5)
        finally:
            store.stop()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 MB, where this user can have one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"no small disk can be made: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


class TestTheTrackingServer:
    TRAINED = "/logged-models"  # a path to which train posts only once it has trained

    def test_that_stops_while_train_works_registers_nothing_and_is_told(self, mended: Stack, place: Place) -> None:
        assert place.step("ingest").exit_code == 0
        versions = len(place.client.search_model_versions(f"name = '{MODEL}'"))
        with tracking_through_proxy(mended, place, self.TRAINED) as (there, proxy):
            ended = interfered(there, "train", proxy, mended.mlflow.stop)
        is_one_message(ended, "TrackingUnavailable")
        mended.mlflow.start()
        assert len(place.client.search_model_versions(f"name = '{MODEL}'")) == versions
        left = place.runs()[0]
        assert left.info.status == "RUNNING"  # nobody could be told
        assert place.step("train").exit_code == 0
        assert place.client.get_run(left.info.run_id).info.status == "KILLED"
        assert len(place.client.search_model_versions(f"name = '{MODEL}'")) == versions + 1

    def test_that_accepts_and_never_answers_while_train_works_is_told_within_the_limit(
        self, mended: Stack, place: Place
    ) -> None:
        assert place.step("ingest").exit_code == 0
        patient = Place(place.folder, {**place.extra, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "7"})  # MLflow's own
        with tracking_through_proxy(mended, patient, self.TRAINED) as (there, proxy):
            ended = interfered(there, "train", proxy, mended.mlflow.pause)
        is_one_message(ended, "TrackingUnavailable")
        assert ended.seconds < 3 * LIMIT_SECONDS
        mended.mlflow.resume()
        assert place.step("train").exit_code == 0

    def test_that_stops_at_the_moment_of_a_move_leaves_the_alias_and_the_next_evaluate_moves_it(
        self, mended: Stack, place: Place
    ) -> None:
        version = trained(place)
        named = staging(place)
        with tracking_through_proxy(mended, place, "/registered-models/alias") as (there, proxy):
            ended = interfered(there, "evaluate", proxy, mended.mlflow.stop)
        is_one_message(ended, "TrackingUnavailable")
        mended.mlflow.start()
        assert staging(place) == named != version
        assert place.step("evaluate").exit_code == 0
        assert staging(place) == version
        assert moves_to(place, version) == 1

    def test_that_moves_an_alias_and_loses_its_answer_is_asked_again(self, mended: Stack, place: Place) -> None:
        version = trained(place)
        alias = "/registered-models/alias"
        with HeldRequests(mended.mlflow.port, name=alias, method="POST", lose_answers=True) as proxy:
            there = Place(place.folder, {**place.extra, "MLFLOW_TRACKING_URI": proxy.url})
            proxy.hold()
            proxy.release()
            ended = there.step("evaluate")
        assert ended.exit_code == 0, ended.text
        assert staging(place) == version
        assert moves_to(place, version) == 1

    def test_whose_database_restarts_while_train_works_is_waited_for(self, mended: Stack, place: Place) -> None:
        assert place.step("ingest").exit_code == 0

        def restart() -> None:
            mended.postgres.stop()
            mended.postgres.start()

        with tracking_through_proxy(mended, place, self.TRAINED) as (there, proxy):
            ended = interfered(there, "train", proxy, restart)
        assert ended.exit_code == 0, ended.text
        assert place.runs()[0].info.status == "FINISHED"

    def test_whose_proxy_answers_in_its_place_is_told(self, place: Place) -> None:
        with http.server.HTTPServer(("127.0.0.1", 0), NobodyBehindIt) as proxy:
            threading.Thread(target=proxy.serve_forever, daemon=True).start()
            ended = Place(
                place.folder, {**place.extra, "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{proxy.server_port}"}
            ).step("ingest")
            proxy.shutdown()
        is_one_message(ended, "TrackingUnavailable")
        assert "it answers with 502" in ended.err
