"""A large source is read by Spark's workers, each part once."""

import csv
import pickle
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark import TaskContext
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from steps.core import config
from steps.core.columns import Column
from steps.core.errors import SourceUnreadable
from steps.core.process import progress
from steps.core.sources import ingestion, kinds, spark_ingestion
from steps.core.sources.job import Bundle, Job, Result
from steps.core.sources.rows import BatchesPart, Part
from steps.core.spark.session import spark_session

pytestmark = pytest.mark.spark

COLUMNS = {"number": Column(type="long"), "text": Column(type="string")}
FILES, ROWS = 30, 200  # of which each file's last has no number


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of rows, the later ones larger, each with one row that breaks the contract."""
    folder = tmp_path_factory.mktemp("numbers")
    for file in range(FILES):
        with (folder / f"{file:02}.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(COLUMNS)
            writer.writerows([file * ROWS + row, f"text {row}" * (1 + file)] for row in range(ROWS - 1))
            writer.writerow(["none", "a row without a number"])
    return folder


@pytest.fixture(scope="module")
def session(served: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in served.items():
            patch.setenv(name, value)
        with spark_session(str(tmp_path_factory.mktemp("session")), data_bytes=0) as session:
            yield session


def job_in(folder: Path) -> Job:
    (folder / "rows").mkdir(parents=True)
    (folder / "rejects").mkdir()
    return Job(
        columns=COLUMNS,
        key=(),
        target="",
        folder=str(folder / "rows"),
        rejects_folder=str(folder / "rejects"),
        table="numbers",
    )


def parts_of(path: Path) -> list[Part]:
    return kinds.resolve(config.Source(uri=str(path))).parts(COLUMNS)


def one_by_one(path: Path) -> list[Bundle]:
    return [Bundle([part]) for part in parts_of(path)]


def sum_of(results: Iterator[tuple[int, Result]]) -> Result:
    return spark_ingestion._sum(results)


def numbers_in(job: Job, result: Result) -> list[int]:
    tables = [pq.read_table(Path(job.folder, name)) for name in result.files]
    return sorted(pa.concat_tables(tables)["number"].to_pylist())


class TestWorkersOfThisMachine:
    def test_they_find_and_write_what_one_process_does(
        self, session: SparkSession, folder: Path, tmp_path: Path
    ) -> None:
        job, here = job_in(tmp_path / "workers"), job_in(tmp_path / "here")
        found = sum_of(spark_ingestion.run_bundles(session, one_by_one(folder), job))
        expected = here(parts_of(folder))
        assert found.fingerprint_of(COLUMNS) == expected.fingerprint_of(COLUMNS)
        assert found.rows_read == expected.rows_read
        assert found.broken == expected.broken
        assert found.profile.as_dict()["columns"]["number"] == expected.profile.as_dict()["columns"]["number"]
        assert numbers_in(job, found) == numbers_in(here, expected)

    def test_every_row_is_in_one_of_the_two_by_a_count_of_the_files(
        self, session: SparkSession, folder: Path, tmp_path: Path
    ) -> None:
        job = job_in(tmp_path)
        found = sum_of(spark_ingestion.run_bundles(session, one_by_one(folder), job))
        expected = [file * ROWS + row for file in range(FILES) for row in range(ROWS - 1)]
        assert numbers_in(job, found) == expected
        assert (found.rows, found.rejected) == (len(expected), FILES)
        rejects = pa.concat_tables(pq.read_table(Path(job.rejects_folder, name)) for name in found.reject_files)
        assert sorted(rejects["file"].to_pylist()) == sorted(map(str, folder.glob("*.csv")))
        assert set(rejects["line"].to_pylist()) == {ROWS + 1}

    def test_each_bundle_is_a_task_and_the_largest_comes_first(self, session: SparkSession, folder: Path) -> None:
        def task_of(bundle: Bundle) -> tuple[int, int]:
            task = TaskContext.get()
            assert task is not None
            return task.partitionId(), bundle.size_bytes

        bundles = one_by_one(folder)
        done = list(spark_ingestion.run_bundles(session, bundles, task_of))
        tasks = sorted(result for _, result in done)
        assert [task for task, _ in tasks] == list(range(FILES))
        assert [size for _, size in tasks] == sorted((bundle.size_bytes for bundle in bundles), reverse=True)
        assert all(bundles[position].size_bytes == size for position, (_, size) in done)

    def test_a_users_mistake_that_a_worker_meets_arrives_as_it_is(self, session: SparkSession, tmp_path: Path) -> None:
        (tmp_path / "rows").mkdir()
        for name in "abcd":
            pq.write_table(pa.table({"number": [1], "text": ["x"]}), tmp_path / "rows" / f"{name}.parquet")
        bundles = one_by_one(tmp_path / "rows")
        damaged = tmp_path / "rows" / "c.parquet"
        damaged.write_bytes(bytes(damaged.stat().st_size))
        with pytest.raises(SourceUnreadable, match=r"c\.parquet") as here:
            job_in(tmp_path / "here")(bundles[2])
        with pytest.raises(SourceUnreadable, match=r"c\.parquet") as failure:
            list(spark_ingestion.run_bundles(session, bundles, job_in(tmp_path / "workers")))
        assert str(failure.value) == str(here.value)

    def test_any_other_error_keeps_its_traceback(self, session: SparkSession, folder: Path, tmp_path: Path) -> None:
        job = replace(job_in(tmp_path), folder="/sys/rows")
        with pytest.raises(PySparkException, match="(?s)Traceback.*in _end_file.*/sys/rows"):
            list(spark_ingestion.run_bundles(session, one_by_one(folder), job))

    def test_a_part_that_spark_runs_twice_counts_once(self, session: SparkSession, folder: Path) -> None:
        twice = session.createDataFrame([(7, b"x"), (7, b"x"), (8, b"x")], "number int, bundle binary")

        def as_found(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                result = [pickle.dumps(number) for number in batch["number"].to_pylist()]
                yield pa.record_batch({"number": batch["number"], "result": pa.array(result, pa.binary())})

        assert list(spark_ingestion._results(session, twice, as_found)) == [(7, 7), (8, 8)]

    def test_rows_of_a_data_frame_are_processed_once_in_each_partition(self, session: SparkSession) -> None:
        def total(batches: Iterable[pa.RecordBatch]) -> tuple[int, int]:
            values = [value for batch in batches for value in batch["id"].to_pylist()]
            return len(values), sum(values)

        rows = session.range(0, 100_000, 1, 4)
        done = dict(spark_ingestion.run_dataframe(session, rows, total))
        assert sorted(done) == [0, 1, 2, 3]
        assert sum(count for count, _ in done.values()) == 100_000
        assert sum(values for _, values in done.values()) == sum(range(100_000))


class TestProgress:
    """The session of these tests is open, so its line is the one that they see."""

    def test_spark_says_how_many_tasks_of_a_query_are_done(self, session: SparkSession) -> None:
        def slowly(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                time.sleep(0.4)
                yield batch

        seen = []
        with progress.shown() as shown:
            for _ in session.range(0, 24, 1, 24).mapInArrow(slowly, "id long").toLocalIterator():
                seen.append(shown.text())
        assert "24 of 24 tasks, " in shown.text(), seen
        assert any(re.search(r"\b([1-9]|1\d|2[0-3]) of 24 tasks, ", text) for text in seen), seen

    def test_the_rows_that_workers_have_read_are_counted(
        self, session: SparkSession, folder: Path, tmp_path: Path
    ) -> None:
        with progress.shown() as shown:
            before = shown.numbers().get("rows_read", 0)
            sum_of(spark_ingestion.run_bundles(session, one_by_one(folder), job_in(tmp_path)))
        assert shown.numbers()["rows_read"] - before == FILES * ROWS


def test_a_source_that_this_process_reads_shows_its_rows_and_bytes(folder: Path, tmp_path: Path) -> None:
    with progress.shown() as shown:
        before = shown.numbers()
        ingestion.run(kinds.resolve(config.Source(uri=str(folder))), job_in(tmp_path))
    read = {name: number - before.get(name, 0) for name, number in shown.numbers().items()}
    assert read["rows_read"] == FILES * ROWS
    assert read["bytes_read"] == sum(path.stat().st_size for path in folder.iterdir())


def test_a_small_source_takes_no_worker(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spark_ingestion, "run", lambda *given: pytest.fail("workers were asked for"))
    source = kinds.resolve(config.Source(uri=str(folder)))
    assert ingestion.run(source, job_in(tmp_path)).rows == FILES * (ROWS - 1)


def test_a_huge_source_is_some_thousand_bundles_and_each_part_is_in_one() -> None:
    gib = 2**30
    parts = [BatchesPart(file=str(number), size_bytes=2**26, batches=iter(())) for number in range(16_384)]  # a TiB
    bundles = list(ingestion.bundles(parts))
    assert 2_000 <= len(bundles) <= 2_500
    assert [part.file for bundle in bundles for part in bundle] == [part.file for part in parts]
    assert max(bundle.size_bytes for bundle in bundles) <= gib
    assert [len(bundle.parts) for bundle in ingestion.bundles(parts[:3])] == [1, 1, 1]
