"""One writer of a table in an object store at a time: processes of their own, killed, on a real store."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from deltalake import DeltaTable
from place import BIN, PROJECT, Place, rows_of
from services import Stack

pytestmark = pytest.mark.spark

APPENDS = 60  # of each writer
APPENDER = f"""
import sys
from steps.core import commit, lake, spark, storage
who, path = sys.argv[1:]
table = lake.table_uri(path)
with spark.session(path, data_bytes=0) as session:
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range({APPENDS}):
        rows = session.createDataFrame([(who, number)], "who string, number long")
        def write(metadata):
            rows.write.format("delta").mode("append").option("userMetadata", metadata).save(storage.for_spark(path))
        made = f"{{who}}-{{number}}"
        done = commit.once(table, made_of={{"made": made}}, made_by={{"run_id": made}}, write=write)
        print(made, flush=True)
"""
HOLDER = """
import os, sys, time
from steps.core import errors, lease
from steps.core import lifetime
lease.STALE_SECONDS, lease.WAIT_MINUTES, lease.RENEW_SECONDS = map(float, sys.argv[3:])
lease.ENDED_SECONDS = 3
try:
    with lifetime.guarded(), lease.held(sys.argv[1], run_id=sys.argv[2]):
        print("held", flush=True)
        sys.stdin.readline()
    print("given back", flush=True)
except errors.UserError as err:
    print(err, flush=True)
"""


def started(place: Place, script: str, *given: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, given)],
        cwd=place.folder,
        env={**place.environment, "PYTHONPATH": str(PROJECT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.fixture(scope="module")
def place(stack: Stack) -> Place:
    return stack.place("lease")


@contextmanager
def holder(
    place: Place,
    table: str,
    run_id: str,
    *,
    stale_seconds: float = 30,
    wait_minutes: float = 1,
    renew_seconds: float = 0.2,
) -> Iterator[subprocess.Popen[str]]:
    process = started(place, HOLDER, table, run_id, stale_seconds, wait_minutes, renew_seconds)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def lies_there(stack: Stack, table: str) -> dict[str, str]:
    body = stack.store.client().get_object(Bucket="delta", Key=f"_leases/{table}")["Body"].read()
    return dict(json.loads(body))


class TestALease:
    def test_who_comes_second_waits_and_says_for_whom(self, place: Place) -> None:
        with holder(place, "s3://delta/a", "1" * 32) as first:
            assert said(first) == "held"
            with holder(place, "s3://delta/a", "2" * 32) as second:
                told = said(second)
                assert told.startswith("waiting for ")
                assert told.endswith(", run 11111111, which writes s3://delta/a")
                go_on(first)
                assert said(first) == "given back"
                assert said(second) == "held"

    def test_tables_do_not_wait_for_each_other(self, place: Place) -> None:
        with holder(place, "s3://delta/b1", "1" * 32) as one, holder(place, "s3://delta/b2", "2" * 32) as other:
            assert (said(one), said(other)) == ("held", "held")

    def test_one_that_a_living_process_renews_never_goes_stale(self, place: Place) -> None:
        with holder(place, "s3://delta/c", "1" * 32) as first:
            assert said(first) == "held"
            with holder(place, "s3://delta/c", "2" * 32, stale_seconds=1, wait_minutes=4 / 60) as second:
                assert "waiting for" in said(second)
                assert said(second).startswith("TableBusy: s3://delta/c is being written to by ")

    @pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
    def test_one_of_a_process_that_has_ended_on_this_machine_is_taken_when_its_spark_has_too(
        self, stack: Stack, place: Place, name: str
    ) -> None:
        with holder(place, "s3://delta/d", "1" * 32) as first:
            assert said(first) == "held"
            first.send_signal(signal.Signals[name])
            first.wait()
            assert lies_there(stack, "d")["writer"].endswith("run 11111111")  # not given back, also when told to end
            began = time.monotonic()
            with holder(place, "s3://delta/d", "2" * 32) as second:
                assert "waiting for" in said(second)
                assert said(second) == "held"
                assert 3 < time.monotonic() - began < 10
                go_on(second)
                assert said(second) == "given back"

    def test_one_of_another_machine_is_taken_when_it_was_not_renewed(self, stack: Stack, place: Place) -> None:
        left = {"lease_id": "x", "writer": "ada@elsewhere, run 1a2b3c4d", "process": "elsewhere:1:2.0", "renewals": "7"}
        stack.store.client().put_object(Bucket="delta", Key="_leases/e", Body=json.dumps(left).encode())
        began = time.monotonic()
        with holder(place, "s3://delta/e", "2" * 32, stale_seconds=3) as second:
            assert said(second) == "waiting for ada@elsewhere, run 1a2b3c4d, which writes s3://delta/e"
            assert said(second) == "held"
            assert time.monotonic() - began > 3
            assert lies_there(stack, "e")["writer"].endswith("run 22222222")

    @pytest.mark.parametrize("left", [b"", b"{}", b"[1]", b"not json"])
    def test_what_is_no_lease_of_ours_goes_stale_too(self, stack: Stack, place: Place, left: bytes) -> None:
        stack.store.client().put_object(Bucket="delta", Key="_leases/f", Body=left)
        with holder(place, "s3://delta/f", "2" * 32, stale_seconds=1) as second:
            assert said(second) == "waiting for an unknown writer, which writes s3://delta/f"
            assert said(second) == "held"

    @pytest.mark.parametrize(("name", "renew_seconds"), [("g", 0.2), ("h", 60)], ids=["renewing", "before it renews"])
    def test_a_writer_that_slept_while_it_was_taken_over_is_told_and_gives_nothing_back(
        self, stack: Stack, place: Place, name: str, renew_seconds: float
    ) -> None:
        with holder(place, f"s3://delta/{name}", "1" * 32, renew_seconds=renew_seconds) as first:
            assert said(first) == "held"
            first.send_signal(signal.SIGSTOP)
            with holder(place, f"s3://delta/{name}", "2" * 32, stale_seconds=2) as second:
                assert "waiting for" in said(second)
                assert said(second) == "held"
                first.send_signal(signal.SIGCONT)
                time.sleep(1)  # one that renews finds the other's in between
                go_on(first)
                assert said(first).startswith(f"LeaseLost: s3://delta/{name} was taken over by another writer")
                assert lies_there(stack, name)["writer"].endswith("run 22222222")


class TestTwoWriters:
    def test_every_commit_that_was_reported_is_there(self, stack: Stack, place: Place) -> None:
        writers = [started(place, APPENDER, who, "s3://delta/both") for who in ("a", "b")]
        reported = ran(writers)
        assert len(reported) == 2 * APPENDS
        assert stored(stack, "both") == sorted(reported)

    def test_when_one_is_killed_the_other_goes_on_and_nothing_is_lost(self, stack: Stack, place: Place) -> None:
        killed, other = (started(place, APPENDER, who, "s3://delta/killed") for who in ("a", "b"))
        assert (said(killed), said(other)) == ("ready", "ready")
        go_on(killed)
        go_on(other)
        lines = [said(killed) for _ in range(10)]
        killed.kill()
        lines += killed.communicate()[0].splitlines() + other.communicate(timeout=120)[0].splitlines()
        reported = [line for line in lines if line.startswith(("a-", "b-"))]
        assert f"b-{APPENDS - 1}" in reported
        there = stored(stack, "killed")
        assert len(set(there)) == len(there)
        assert set(reported) <= set(there)
        assert len(set(there) - set(reported)) <= 1  # what was committed and not yet reported when the kill came


class TestTwoWorkflowsAtOnce:
    def test_on_one_store_and_server_both_end_right(self, stack: Stack) -> None:
        place = stack.place("two", lake="s3://delta/two")
        command = [BIN / "mlflow", "run", PROJECT, "-e", "main", "--env-manager", "local"]
        started = [
            subprocess.Popen(
                [*map(str, command), "-P", f"max_depth={depth}"],
                cwd=place.folder,
                env=place.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for depth in (2, 6)
        ]
        texts = [process.communicate(timeout=240)[0] for process in started]
        assert [process.returncode for process in started] == [0, 0], "\n".join(texts)
        history = DeltaTable("s3://delta/two/iris_predictions", storage_options=stack.store.deltalake_options).history()
        made_with = [json.loads(commit["userMetadata"])["model"] for commit in history]
        told = [line.split()[1] for text in texts for line in text.splitlines() if line.startswith("infer  ")]
        assert sorted(told) == [f"s3://delta/two/iris_predictions@v{version}" for version in range(len(told))]
        assert len(set(made_with)) == len(made_with) == 2
        assert rows_of("s3://delta/two/iris", options=stack.store.deltalake_options).num_rows == 150


def ran(writers: list[subprocess.Popen[str]]) -> list[str]:
    """What the writers reported, started in the same moment."""
    for writer in writers:
        assert said(writer) == "ready"
    for writer in writers:
        go_on(writer)
    texts = [writer.communicate(timeout=240)[0] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], "\n".join(texts)
    return [line for text in texts for line in text.splitlines() if line.startswith(("a-", "b-"))]


def stored(stack: Stack, table: str) -> list[str]:
    rows = rows_of(f"s3://delta/{table}", options=stack.store.deltalake_options)
    return sorted(
        f"{who}-{number}" for who, number in zip(rows["who"].to_pylist(), rows["number"].to_pylist(), strict=True)
    )
