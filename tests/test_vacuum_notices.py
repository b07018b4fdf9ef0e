"""A vacuum and a step that choose one version at the same moment: whoever is first, no step reads what is deleted."""

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pyarrow as pa
import pytest
import yaml
from deltalake import write_deltalake
from mlflow import MlflowClient
from mlflow.entities import Run
from place import PROJECT, Place, new_database, until
from small import FLOWERS, flowers, sqlite, tracked

from steps.core.errors import LockNotReleased, TableUnreadable
from steps.core.process import processes
from steps.core.tables import snapshot
from steps.core.tables.location import TableUri
from steps.core.tables.snapshot import Snapshot
from steps.core.workflow import vacuum_notices

HERE = processes.this_process()
GONE = HERE.rsplit(":", 2)[0] + ":1:99"  # process 1 began at another time
HELD = """
import os, sys
from steps import {step} as step
from steps.core.tables import vacuum

def delete_files(files_of):  # as Delta's VACUUM does it (test_vacuum.py), without a JVM
    for path, files in files_of.items():
        for name in files:
            os.unlink(os.path.join(path, name))

vacuum.delete_files = delete_files
from {module} import {holder}
held = {holder}.{function}

def hold(*arguments, **settings):
    print("held", flush=True)
    sys.stdin.readline()
    return held(*arguments, **settings)

{holder}.{function} = hold
step.main()
"""


class Held:
    """A process that runs a step and stands still before it calls a function, until go()."""

    def __init__(self, place: Place, step: str, function: str, *arguments: str) -> None:
        module, holder, name = function.rsplit(".", 2)
        code = HELD.format(step=step, module=module, holder=holder, function=name)
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, "--config=flowers.yaml", *arguments],
            cwd=place.folder,
            env={**place.environment, "PYTHONPATH": str(PROJECT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdout is not None
        assert (line := self._process.stdout.readline()) == "held\n", line + self.go()[1]

    def go(self) -> tuple[int, str]:
        """Its exit code and what it told, once it has ended."""
        text, _ = self._process.communicate("\n", timeout=120)
        return self._process.returncode, text

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Where the table `flowers` has three versions, of which nothing has been made."""
    place = Place(tmp_path)
    new_database(tmp_path)
    (tmp_path / "flowers.yaml").write_text(yaml.safe_dump(FLOWERS))
    (tmp_path / "lake").mkdir()
    for seed in range(3):
        rows = pa.Table.from_pandas(flowers(200, seed=seed), preserve_index=False)
        write_deltalake(place.lake("flowers"), rows, mode="overwrite")
    return place


class TestProcesses:
    DELETE = "steps.core.tables.vacuum.delete_files"
    ANNOUNCE = "steps.core.workflow.retention.announce"
    READ = "steps.core.tables.snapshot.Snapshot.batches"

    def test_a_version_that_a_step_has_chosen_since_the_vacuum_looked_stays(self, place: Place) -> None:
        vacuum = Held(place, "vacuum", self.ANNOUNCE, "--keep_days=0")
        train = Held(place, "train", self.READ, f"--table={place.lake('flowers@v0')}")
        exit_code, text = vacuum.go()
        assert exit_code == 0, text
        assert place.lake("flowers@v0") in text.partition("kept beyond the limit")[2]
        versions = [snapshot.open(TableUri(place.lake("flowers"), version)) for version in range(3)]
        assert [version.is_readable for version in versions] == [True, False, True]
        exit_code, text = train.go()
        assert exit_code == 0, text

    def test_a_step_that_chooses_what_a_vacuum_is_deleting_waits_and_ends_with_one_message(self, place: Place) -> None:
        """By another spelling of the lake, as another machine has it."""
        (place.folder / "mount").symlink_to(place.lake(""))
        vacuum = Held(place, "vacuum", self.DELETE, "--keep_days=0")
        with ThreadPoolExecutor(1) as thread:
            train = thread.submit(place.step, "train", config="flowers.yaml", table="mount/flowers@v0")
            assert until(lambda: "input.table" in place.runs()[0].data.tags, seconds=60)
            time.sleep(3)  # in which it would end without waiting
            assert not train.done()
            exit_code, text = vacuum.go()
            assert exit_code == 0, text
            ended = train.result(60)
        assert ended.exit_code == 1, ended.text
        assert "TableVersionGone: " in ended.err
        assert "/flowers@v0: version 0 was vacuumed: files of it are gone\n" in ended.err
        assert len(place.client.search_model_versions("name = 'flowers_model'")) == 0

    def test_a_step_does_not_wait_for_a_vacuum_that_was_killed(self, place: Place) -> None:
        vacuum = Held(place, "vacuum", self.DELETE, "--keep_days=0")
        (run,) = place.runs()
        with ThreadPoolExecutor(1) as thread:
            train = thread.submit(place.step, "train", config="flowers.yaml", table=place.lake("flowers@v0"))
            assert until(lambda: "input.table" in place.runs()[0].data.tags, seconds=60)
            vacuum.kill()
            ended = train.result(60)
        assert ended.exit_code == 0, ended.text
        assert place.client.get_run(run.info.run_id).info.status == "KILLED"


class TestAStepThatLooks:
    """At a vacuum's run that is made by hand, on a real store."""

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _store(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        with tracked(sqlite(tmp_path_factory.mktemp("store"))):
            yield

    @pytest.fixture
    def table(self, tmp_path: Path) -> Snapshot:
        write_deltalake(str(tmp_path / "t"), pa.table({"n": [1, 2]}))
        return snapshot.open(TableUri(str(tmp_path / "t")))

    @pytest.fixture
    def own(self) -> Run:
        return MlflowClient().create_run("0", tags={"process": HERE})

    @staticmethod
    @contextmanager
    def vacuum(*identities: str, process: str = HERE, experiment: str = "0") -> Iterator[Run]:
        """One at work that has announced to delete these."""
        run = MlflowClient().create_run(experiment, tags={"process": process})
        vacuum_notices.post(run.info.run_id, dict.fromkeys(identities, "/elsewhere/t@v0"))
        yield run
        MlflowClient().set_terminated(run.info.run_id)

    def test_sees_each_of_many_versions_that_a_vacuum_has_announced(self) -> None:
        """MLflow takes a hundred tags at once."""
        announced = [f"{number:032}" for number in range(250)]
        with self.vacuum(*announced) as vacuum:
            tags = MlflowClient().get_run(vacuum.info.run_id).data.tags
        assert {name for name in tags if name.startswith(vacuum_notices.NOTICE)} == {
            f"{vacuum_notices.NOTICE}{identity}" for identity in announced
        }

    def test_goes_on_at_once_where_no_vacuum_deletes_its_version(
        self, table: Snapshot, own: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(vacuum_notices, "WAIT_MINUTES", 0)
        with self.vacuum(table.identity):
            pass  # it has ended
        with self.vacuum("f" * 32, "0" * 32):
            vacuum_notices.wait_for_vacuums(table, own)

    def test_waits_for_one_in_an_experiment_that_began_just_now(self, table: Snapshot, own: Run) -> None:
        vacuum_notices.wait_for_vacuums(table, own)
        experiment = mlflow.create_experiment("new")
        with ThreadPoolExecutor(1) as thread:
            many = [f"{number:032x}" for number in range(150)]  # more tags than MLflow takes at once
            with self.vacuum(*many, table.identity, experiment=experiment):
                waiting = thread.submit(vacuum_notices.wait_for_vacuums, table, own)
                time.sleep(1)
                assert not waiting.done()
            waiting.result(10)

    def test_says_that_the_version_is_gone_when_one_file_is(self, table: Snapshot, own: Run) -> None:
        with ThreadPoolExecutor(1) as thread:
            with self.vacuum(table.identity):
                waiting = thread.submit(vacuum_notices.wait_for_vacuums, table, own)
                time.sleep(1)
                next(Path(table.path).glob("*.parquet")).unlink()
            with pytest.raises(TableUnreadable, match="t@v0 cannot be read: files of it are gone"):
                waiting.result(10)

    def test_does_not_wait_for_a_process_that_is_gone(self, table: Snapshot, own: Run) -> None:
        with self.vacuum(table.identity, process=GONE) as run:
            vacuum_notices.wait_for_vacuums(table, own)
            assert mlflow.get_run(run.info.run_id).info.status == "KILLED"

    def test_gives_up_with_the_name_of_the_one_it_waited_for(
        self, table: Snapshot, own: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(vacuum_notices, "WAIT_MINUTES", 0.01)
        with self.vacuum(table.identity) as run:
            told = rf"vacuum \(run {run.info.run_id[:8]}\) has been at work on {table} for more than 0.01 minutes"
            with pytest.raises(LockNotReleased, match=told):
                vacuum_notices.wait_for_vacuums(table, own)
