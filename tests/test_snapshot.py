"""Tables by URI and version, read from Delta tables that delta-rs wrote: a second implementation, without a JVM."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from deltalake import CommitProperties, DeltaTable, write_deltalake
from small import FLOWERS, flowers, tracked
from sqlalchemy import make_url

from steps import evaluate, infer, train
from steps.core.errors import LakeUndefined, TableNotFound, TableUnfit, TableUnreadable, TableVersionGone
from steps.core.tables import collation, location, snapshot
from steps.core.tables.location import TableUri

pytestmark = pytest.mark.usefixtures("own_store")

ROWS = pa.table({"length": [1.5, 2.5], "color": ["red", None], "petals": [3, None]})


def write(path: Path, *versions: pa.Table) -> TableUri:
    path.parent.mkdir(parents=True, exist_ok=True)
    for rows in versions or (ROWS,):
        write_deltalake(str(path), rows, mode="overwrite")
    return TableUri(str(path))


def numbered(*values: int) -> pa.Table:
    return pa.table({"number": list(values)})


def vacuum(table: TableUri) -> None:
    DeltaTable(table.path).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)


class TestUris:
    @pytest.mark.parametrize(
        ("text", "path", "version"),
        [
            ("/lake/iris", "/lake/iris", None),
            ("/lake/iris@v3", "/lake/iris", 3),
            ("/lake/iris@v0", "/lake/iris", 0),
            ("/lake/iris@v3/", "/lake/iris", 3),
            ("/lake/iris//", "/lake/iris", None),
            ("/lake/iris@v3/part", "/lake/iris@v3/part", None),
            ("/lake/iris@v3@v4", "/lake/iris@v3", 4),
            ("/lake/iris@v", "/lake/iris@v", None),
            ("/lake/iris@vx", "/lake/iris@vx", None),
            ("/lake/../data//iris@v2", "/data/iris", 2),
            ("/my lake é/iris@v1", "/my lake é/iris", 1),
            ("file:///my%20lake/iris@v2", "/my lake/iris", 2),
        ],
    )
    def test_a_version_is_what_follows_at_v_at_the_end(self, text: str, path: str, version: int | None) -> None:
        assert location.parse_table(text) == TableUri(path, version)

    def test_a_version_beyond_all_is_soon_told(self, tmp_path: Path) -> None:
        table = location.parse_table(f"{write(tmp_path / 't')}@v{10**23}")
        with pytest.raises(TableVersionGone, match="there is no such version yet"):
            snapshot.open(table)

    def test_a_pinned_uri_reads_back_as_itself(self) -> None:
        for table in (TableUri("/my lake/iris", 12), TableUri("/lake/iris")):
            assert location.parse_table(str(table)) == table

    def test_the_name_is_the_last_part(self) -> None:
        assert TableUri("/lake/iris", 3).name == "iris"

    def test_a_relative_path_starts_beside_the_tracking_store(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir("/")
        assert location.parse_table("data/iris@v1") == TableUri(f"{tmp_path}/data/iris", 1)

    def test_a_tilde_is_the_home_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", "/users/me")
        assert location.absolute("~/lake") == "/users/me/lake"

    def test_a_link_is_the_place_that_it_leads_to(self, tmp_path: Path) -> None:
        (tmp_path / "real" / "lake").mkdir(parents=True)
        (tmp_path / "link").symlink_to(tmp_path / "real")
        (tmp_path / "lake").symlink_to(tmp_path / "real" / "lake")
        assert location.lake_root(f"{tmp_path}/lake") == location.lake_root("link/lake") == f"{tmp_path}/real/lake"
        assert str(location.parse_table("link/lake/iris@v1")) == str(location.parse_table("lake/iris@v1"))

    @pytest.mark.parametrize("uri", ["http://host/lake", "dbfs:/lake"])
    def test_what_is_not_a_folder_nor_in_an_object_store_is_refused(self, uri: str) -> None:
        with pytest.raises(LakeUndefined, match=f"{uri} is not a folder and not at s3://: .*: is not supported"):
            location.absolute(uri)

    @pytest.mark.parametrize(
        ("given", "means"),
        [
            ("s3://bucket", "s3://bucket"),
            ("s3a://bucket/", "s3://bucket"),
            ("S3://bucket/Lake", "s3://bucket/Lake"),
            ("FILE:///lake", "/lake"),
            ("s3a://my.bucket-1/a//b é/", "s3://my.bucket-1/a/b é"),
        ],
    )
    def test_a_place_in_an_object_store_has_one_spelling(self, given: str, means: str) -> None:
        assert location.absolute(given) == means

    @pytest.mark.parametrize("uri", ["s3://", "s3:///iris", "s3://A_B/iris", "s3:iris"])
    def test_what_can_be_no_bucket_is_refused(self, uri: str) -> None:
        with pytest.raises(LakeUndefined, match=f"{uri} names no bucket that there can be"):
            location.absolute(uri)


class TestRoot:
    def test_what_is_given_goes_before_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LAKE_URI", "/from/environment")
        assert location.lake_root("/given") == "/given"
        assert location.lake_root("") == "/from/environment"

    def test_by_default_it_is_the_folder_lake_beside_the_tracking_store(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("LAKE_URI", raising=False)
        assert location.lake_root("") == f"{tmp_path}/lake"

    def test_with_a_tracking_server_it_has_to_be_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("LAKE_URI", raising=False)
        with tracked("http://localhost:5000"):
            with pytest.raises(LakeUndefined, match="tracking is on a server.*\n.*\n.*-P lake=URI or set LAKE_URI"):
                location.lake_root("")
            assert location.lake_root("/given") == "/given"

    def test_with_a_tracking_server_home_is_the_working_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with tracked("http://localhost:5000"):
            assert location.home() == tmp_path

    def test_a_relative_store_is_in_the_working_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with tracked("sqlite:///mlflow.db"):
            assert location.home() == tmp_path

    @pytest.mark.parametrize(
        "folder",
        [
            "my project é",
            "a+b",
            "c#",
            *(name for name in ("my%20project", "50%25")),
        ],
    )
    def test_home_is_where_sqlalchemy_puts_the_database(self, folder: str) -> None:
        uri = f"sqlite:////users/me/{folder}/mlflow.db"
        with tracked(uri):
            assert str(location.home() / "mlflow.db") == make_url(uri).database


class TestVersions:
    def test_an_unpinned_table_is_pinned_to_its_newest_version(self, tmp_path: Path) -> None:
        table = write(tmp_path / "t", numbered(1), numbered(2), numbered(3))
        assert snapshot.open(table).uri == TableUri(table.path, 2)

    def test_a_pinned_table_stays_at_its_version(self, tmp_path: Path) -> None:
        table = write(tmp_path / "t", numbered(1), numbered(2))
        assert snapshot.open(TableUri(table.path, 0)).uri == TableUri(table.path, 0)

    def test_each_version_has_its_own_rows(self, tmp_path: Path) -> None:
        table = write(tmp_path / "t", numbered(1), numbered(2, 3))
        for version, rows in ((0, [1]), (1, [2, 3])):
            pinned = snapshot.open(TableUri(table.path, version))
            assert pinned.read(["number"]).column(0).to_pylist() == rows
            assert pinned.row_count == len(rows)

    @pytest.mark.parametrize("made", ["nothing", "folder", "file"])
    def test_what_is_not_a_delta_table_is_told(self, made: str, tmp_path: Path) -> None:
        path = tmp_path / "iris"
        if made == "folder":
            path.mkdir()
        if made == "file":
            path.write_text("length\n1\n")
        with pytest.raises(TableNotFound, match="iris@v1 is not a Delta table\n.*<lake>/<name>@v<N>\n.*-e ingest"):
            snapshot.open(TableUri(str(path), 1))

    def test_a_table_is_there_once_it_has_a_version(self, tmp_path: Path) -> None:
        assert collation.open_newest(TableUri(str(tmp_path / "nothing"))) is None
        assert collation.open_newest(TableUri(str(tmp_path))) is None
        assert collation.open_newest(write(tmp_path / "t"))

    def test_a_file_in_a_tables_place_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "iris").write_text("length")
        with pytest.raises(TableNotFound, match="iris is not a Delta table\n.*\n  next      move that file away"):
            collation.open_newest(TableUri(str(tmp_path / "iris")))

    def test_a_table_that_cannot_be_read_is_not_told_as_one_that_is_not_there(self, tmp_path: Path) -> None:
        table = write(tmp_path / "t", numbered(1), numbered(2))
        (tmp_path / "t" / "_delta_log" / f"{1:020d}.json").write_text("no JSON")
        with pytest.raises(TableUnreadable, match="t cannot be read: .*\n.*\n  next      restore it, or move it away"):
            snapshot.open(table)
        with pytest.raises(TableUnreadable, match="t cannot be read: "):
            snapshot.find(table)

    def test_a_version_that_is_not_there_yet_is_told_with_those_that_are(self, tmp_path: Path) -> None:
        table = write(tmp_path / "t", numbered(1), numbered(2))
        with pytest.raises(TableVersionGone, match="t@v2: there is no such version yet\n.*a version from 0 to 1\n"):
            snapshot.open(TableUri(table.path, 2))

    def test_a_version_whose_log_entry_is_gone_is_told(self, tmp_path: Path) -> None:
        table = write(tmp_path / "t", numbered(1), numbered(2), numbered(3))
        DeltaTable(table.path).create_checkpoint()
        for version in (0, 1):
            os.remove(tmp_path / "t" / "_delta_log" / f"{version:020d}.json")
        with pytest.raises(TableVersionGone, match="t@v0: its log entry is no longer kept\n.*a version from 2 to 2\n"):
            snapshot.open(TableUri(table.path, 0))
        assert snapshot.open(table).read(["number"]).num_rows == 1

    def test_a_version_whose_log_entry_is_damaged_is_told_as_such(self, tmp_path: Path) -> None:
        table = write(tmp_path / "t", numbered(1), numbered(2), numbered(3))
        DeltaTable(table.path).create_checkpoint()
        (tmp_path / "t" / "_delta_log" / f"{1:020d}.json").write_text('{"add"')
        with pytest.raises(TableVersionGone, match="t@v1: its log entry is there, and cannot be read: "):
            snapshot.open(TableUri(table.path, 1))

    def test_a_vacuumed_version_is_told_as_such(self, tmp_path: Path) -> None:
        table = write(tmp_path / "t", numbered(1), numbered(2))
        vacuum(table)
        with pytest.raises(TableVersionGone, match="t@v0: version 0 was vacuumed: "):
            snapshot.open(TableUri(table.path, 0)).read(["number"])

    def test_a_vacuum_leaves_the_newest_version(self, tmp_path: Path) -> None:
        table = write(tmp_path / "t", numbered(1), numbered(2))
        vacuum(table)
        assert snapshot.open(table).read(["number"]).to_pydict() == {"number": [2]}

    def test_files_that_someone_deleted_are_told_too(self, tmp_path: Path) -> None:
        table = write(tmp_path / "t")
        for file in (tmp_path / "t").glob("*.parquet"):
            file.unlink()
        with pytest.raises(
            TableUnreadable, match="t@v0 cannot be read: files of it are gone\n(.|\n)*run `mlflow run . -e main`"
        ):
            snapshot.open(table).read(["length"])

    @pytest.mark.parametrize("bytes_left", [0, 100])
    def test_a_file_that_is_cut_off_is_named(self, tmp_path: Path, bytes_left: int) -> None:
        table = write(tmp_path / "t")
        (file,) = (tmp_path / "t").glob("*.parquet")
        os.truncate(file, bytes_left)
        with pytest.raises(
            TableUnreadable, match=f"t@v0 cannot be read: its file {file.name} is damaged: {bytes_left} bytes"
        ):
            snapshot.open(table).read(["length"])

    @pytest.mark.parametrize("place", [4, 10, -1], ids=["a page's header", "a page", "the end"])
    def test_a_file_with_other_bytes_of_the_same_number_is_no_bug(self, tmp_path: Path, place: int) -> None:
        table = write(tmp_path / "t")
        (file,) = (tmp_path / "t").glob("*.parquet")
        content = bytearray(file.read_bytes())
        content[place] ^= 0xFF
        file.write_bytes(content)
        with pytest.raises(TableUnreadable, match="t@v0 cannot be read: .*Parquet(.|\n)*move it away and run"):
            snapshot.open(table).read(["length"])


class TestReading:
    def test_rows_and_types_are_those_that_were_written(self, tmp_path: Path) -> None:
        table = snapshot.open(write(tmp_path / "t"))
        assert table.read(["length", "color", "petals"]).equals(ROWS)
        assert table.schema.equals(ROWS.schema)
        assert table.row_count == 2

    def test_columns_come_in_the_order_that_was_asked_for(self, tmp_path: Path) -> None:
        table = snapshot.open(write(tmp_path / "t"))
        assert table.read(["petals", "length"]).column_names == ["petals", "length"]

    def test_names_that_need_quoting_are_read(self, tmp_path: Path) -> None:
        rows = pa.table({'a "quoted" name': [1], "user.age": [2], "user;age": [3], "Größe": [4], "Upper": [5]})
        table = snapshot.open(write(tmp_path / "t", rows))
        assert table.read(rows.column_names).equals(rows)

    def test_a_missing_column_is_told_with_those_that_there_are(self, tmp_path: Path) -> None:
        table = snapshot.open(write(tmp_path / "t"))
        with pytest.raises(TableUnfit, match="t@v0:\n    - has no column 'Color'\n    - has no column 'x'\n") as caught:
            table.read(["Color", "length", "x"])
        assert "it has length, color, petals\n" in str(caught.value)

    def test_a_table_without_rows_is_read(self, tmp_path: Path) -> None:
        table = snapshot.open(write(tmp_path / "t", ROWS.slice(0, 0)))
        assert (table.row_count, table.size_bytes) == (0, 0)
        assert table.read(["length"]).num_rows == 0

    def test_a_feature_of_delta_that_is_not_read_is_named_with_the_way_out(self, tmp_path: Path) -> None:
        """As the table of another engine may have it."""
        table = write(tmp_path / "t")
        features = {"readerFeatures": ["typeWidening"], "writerFeatures": ["typeWidening"]}
        protocol = {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, **features}}
        (tmp_path / "t" / "_delta_log" / f"{1:020}.json").write_text(json.dumps(protocol))
        with pytest.raises(
            TableUnreadable, match=r"t@v1 cannot be read: .*TypeWidening.*\n(.|\n)*without these features"
        ):
            snapshot.open(TableUri(table.path)).read(["length"])

    @pytest.mark.parametrize("folder", ["t", "my lake"])
    def test_a_partitioned_table_is_read(self, folder: str, tmp_path: Path) -> None:
        """On disk its folders are called `kind=a%20b`, and its log says `kind=a%2520b`."""
        rows = pa.table({"kind": ["a b", "é", "x/y", "100%"], "number": [1, 2, 3, 4]})
        (tmp_path / folder).mkdir()
        write_deltalake(str(tmp_path / folder), rows, partition_by=["kind"])
        read = snapshot.open(TableUri(str(tmp_path / folder))).read(["kind", "number"])
        assert sorted(read.to_pylist(), key=lambda row: row["number"]) == rows.to_pylist()

    def test_its_size_is_that_of_the_files_of_this_version(self, tmp_path: Path) -> None:
        table = write(tmp_path / "t")
        first = {file: file.stat().st_size for file in (tmp_path / "t").glob("*.parquet")}
        write_deltalake(table.path, ROWS, mode="append")
        assert snapshot.open(TableUri(table.path, 0)).size_bytes == sum(first.values())
        assert snapshot.open(TableUri(table.path, 1)).size_bytes == 2 * sum(first.values())

    @pytest.mark.parametrize("folder", ["a%20b", "50%25", "é%C3"])
    def test_a_folder_whose_name_would_be_decoded_is_refused_before_anything_is_written(self, folder: str) -> None:
        for ask in (lambda: location.lake_root(f"in/{folder}"), lambda: location.parse_table(f"in/{folder}/t@v0")):
            with pytest.raises(LakeUndefined, match=f"in/{folder}.* holds a percent sequence"):
                ask()

    def test_a_lake_whose_name_has_a_backslash_is_refused(self) -> None:
        with pytest.raises(LakeUndefined, match=r"in/a\\b holds a backslash"):
            location.lake_root("in/a\\b")

    @pytest.mark.parametrize("folder", ["my lake", "é", "c#", "q?x", "data [2026]", "50% off", "a^b", "a|b"])
    def test_a_lake_in_a_folder_of_any_other_name_is_read(self, folder: str, tmp_path: Path) -> None:
        """D02."""
        write(tmp_path / "plain" / "t")
        (tmp_path / "plain").rename(tmp_path / folder)
        table = snapshot.open(TableUri(f"{tmp_path}/{folder}/t"))
        assert table.read(["length", "color", "petals"]).equals(ROWS)

    def test_a_vacuumed_version_in_a_folder_with_blanks_is_told_as_such(self, tmp_path: Path) -> None:
        write(tmp_path / "plain" / "t", numbered(1), numbered(2))
        (tmp_path / "plain").rename(tmp_path / "my lake")
        table = TableUri(f"{tmp_path}/my lake/t")
        vacuum(table)
        assert snapshot.open(TableUri(table.path, 1)).read(["number"]).num_rows == 1
        with pytest.raises(TableVersionGone, match="my lake/t@v0: version 0 was vacuumed: "):
            snapshot.open(TableUri(table.path, 0)).read(["number"])


def metadata_of(table: TableUri) -> dict[str, Any]:
    return dict(snapshot.open(table).commit.metadata)


class TestCommits:
    def write(self, path: Path, metadata: str) -> TableUri:
        properties = CommitProperties(custom_metadata={"userMetadata": metadata})
        write_deltalake(str(path), ROWS, commit_properties=properties, mode="append")
        return TableUri(str(path))

    def test_each_version_has_its_own_also_when_others_came_after_it_was_opened(self, tmp_path: Path) -> None:
        for number in range(3):
            table = self.write(tmp_path, json.dumps({"number": number}))
        first, newest = snapshot.open(TableUri(table.path, 0)), snapshot.open(table)
        self.write(tmp_path, json.dumps({"number": 3}))
        assert first.commit.metadata == {"number": 0}
        assert {version: commit.metadata for version, commit in newest.commits.items()} == {
            version: {"number": version} for version in (2, 1, 0)
        }

    @pytest.mark.parametrize("kept", ["entry", "entry with null", "checkpoint"])
    def test_one_that_does_not_say_when_is_of_the_time_of_its_file(self, kept: str, tmp_path: Path) -> None:
        """As Delta's readers have it; the protocol asks for no commitInfo, nor for a timestamp in it."""
        self.write(tmp_path, "")
        table = self.write(tmp_path, "")
        entry = tmp_path / "_delta_log" / f"{1:020}.json"
        if kept == "checkpoint":
            DeltaTable(table.path).create_checkpoint()
            entry.unlink()
            entry = next((tmp_path / "_delta_log").glob(f"{1:020}.checkpoint*.parquet"))
        else:
            lines = [line for line in entry.read_text().splitlines() if "commitInfo" not in line]
            lines += ['{"commitInfo": {"timestamp": null}}'] * (kept == "entry with null")
            entry.write_text("\n".join(lines))
        os.utime(entry, (1_700_000_000, 1_700_000_000))
        assert snapshot.open(table).commit.when == datetime.fromtimestamp(1_700_000_000, UTC)

    def test_a_damaged_entry_is_not_taken_for_one_without_metadata(self, tmp_path: Path) -> None:
        table = snapshot.open(self.write(tmp_path, '{"step": "old"}'))
        (tmp_path / "_delta_log" / f"{0:020}.json").write_text('{"commitInfo"')
        with pytest.raises(TableUnreadable, match="@v0 cannot be read: its log entry is no JSON"):
            _ = table.commit

    def test_what_the_newest_commit_carries_is_read_back(self, tmp_path: Path) -> None:
        self.write(tmp_path, '{"step": "old"}')
        table = self.write(tmp_path, json.dumps({"step": "ingest", "fingerprint": "a|b"}))
        assert metadata_of(table) == {"step": "ingest", "fingerprint": "a|b"}

    @pytest.mark.parametrize("metadata", ["", "a note of someone's", "[1]", "3"])
    def test_what_is_not_ours_is_nothing(self, metadata: str, tmp_path: Path) -> None:
        assert metadata_of(self.write(tmp_path, metadata)) == {}

    def test_a_later_commit_of_someone_else_hides_ours(self, tmp_path: Path) -> None:
        """So the next ingest or infer writes again, rather than trust a table that another hand changed."""
        self.write(tmp_path, '{"step": "ingest"}')
        write_deltalake(str(tmp_path), ROWS, mode="append")
        assert metadata_of(TableUri(str(tmp_path))) == {}


def test_a_step_opens_each_version_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time it is opened, all of its log is read, from an object store too."""
    (tmp_path / "flowers.yaml").write_text(yaml.safe_dump(FLOWERS))
    table = f"{write(tmp_path / 'lake' / 'flowers', pa.Table.from_pandas(flowers(200), preserve_index=False))}"
    opened: list[str] = []
    construct = DeltaTable.__init__

    def count(self: DeltaTable, path: str, *rest: Any, **settings: Any) -> None:
        construct(self, path, *rest, **settings)
        opened.append(str(path))

    monkeypatch.setattr(DeltaTable, "__init__", count)
    monkeypatch.setenv("LAKE_URI", str(tmp_path / "lake"))
    predictions = f"{table}_predictions"
    for step, arguments, expected in (
        (train, [], [table]),
        (evaluate, [], [table]),
        (infer, ["--model=models:/flowers_model/1"], [table, predictions]),  # which are opened when they are written
        (infer, ["--model=models:/flowers_model/1"], [table, predictions]),  # to see that they are there already
    ):
        opened.clear()
        step.main([f"--config={tmp_path}/flowers.yaml", *arguments])
        assert opened == expected, step.__name__
