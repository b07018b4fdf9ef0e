"""The files of all versions from one pass through the log are those that deltalake finds in each version by itself."""

import os
import random
from pathlib import Path
from weakref import WeakSet

import pyarrow as pa
import pytest
from deltalake import DeltaTable, Field, write_deltalake
from deltalake.schema import PrimitiveType

from steps.core.tables import snapshot, version_files
from steps.core.tables.location import TableUri
from steps.core.tables.snapshot import Snapshot
from steps.core.tables.version_files import VersionFiles


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "my t é")


def append(path: str, *letters: str, partitioned: bool = False) -> None:
    rows = pa.table({"letter": list(letters), "n": list(range(len(letters)))})
    partition_by = ["letter"] if partitioned else None
    write_deltalake(path, rows, mode="append", schema_mode="merge", partition_by=partition_by)


def entry(path: str, version: int) -> Path:
    return Path(path, "_delta_log", f"{version:020}.json")


def in_one_pass(path: str) -> list[tuple[str, list[str]] | None]:
    return [of_version(files) for files in version_files.of_all_versions(snapshot.open(TableUri(path))).values()]


def each_by_itself(path: str) -> list[tuple[str, list[str]] | None]:
    versions = range(DeltaTable(path).version() + 1)
    opened = [snapshot.find(TableUri(path, version)) for version in versions]
    return [of_version(VersionFiles(found.identity, found.data_files) if found else None) for found in opened]


def of_version(files: VersionFiles | None) -> tuple[str, list[str]] | None:
    return (files.identity, sorted(files.names)) if files else None


@pytest.mark.parametrize("seed", range(12))
def test_whatever_was_done_to_a_table_the_files_of_each_version_are_known(path: str, seed: int) -> None:
    choose = random.Random(seed)
    partitioned = choose.random() < 0.5
    for letter in ("a", "b c"):
        append(path, letter, partitioned=partitioned)
    for number in range(12):
        table = DeltaTable(path)
        match choose.choice(["append", "append", "replace", "compact", "delete", "column", "checkpoint", "restore"]):
            case "append":
                append(path, *choose.choices(["a", "b c", "100%", "é/ü", "x%20y"], k=3), partitioned=partitioned)
            case "replace":
                write_deltalake(path, table.to_pyarrow_table().slice(0, 2), mode="overwrite")
            case "compact":
                table.optimize.compact()
            case "delete":
                table.delete("n = 1")
            case "column":
                table.alter.add_columns(Field(f"more_{number}", PrimitiveType("long")))
            case "checkpoint":
                table.create_checkpoint()
            case "restore":
                table.restore(choose.randrange(table.version()))
    assert in_one_pass(path) == each_by_itself(path)


@pytest.mark.parametrize("damage", ["gone", "cut", "cut at a line", "empty", "no JSON", "no object", "no action"])
@pytest.mark.parametrize("checkpoint", [None, 2, 3], ids=["no checkpoint", "a checkpoint before", "one of it"])
def test_a_version_is_not_known_where_deltalake_does_not_know_it(
    path: str, damage: str, checkpoint: int | None
) -> None:
    for letter in "abcdef":
        append(path, letter)
        if DeltaTable(path).version() == checkpoint:
            DeltaTable(path).create_checkpoint()
    DeltaTable(path).create_checkpoint()
    damaged = entry(path, 3)
    whole = damaged.read_bytes()
    damaged.write_bytes(
        {
            "cut": whole[:-100],
            "cut at a line": whole.splitlines()[0],
            "no JSON": whole + b"\nadd",
            "no object": whole + b"\n7",
            "no action": whole + b'\n{"add": 7}',
        }.get(damage, b"")
    )
    if damage == "gone":
        os.remove(damaged)
    assert in_one_pass(path) == each_by_itself(path)


def test_a_damaged_checkpoint_hides_what_it_hides_from_deltalake(path: str) -> None:
    for letter in "abcdef":
        append(path, letter)
        if letter in "ce":
            DeltaTable(path).create_checkpoint()
    (checkpoint,) = Path(path, "_delta_log").glob("*02.checkpoint*.parquet")
    checkpoint.write_bytes(checkpoint.read_bytes()[:-10])
    assert in_one_pass(path) == each_by_itself(path)


def test_no_version_is_opened_but_the_first_and_those_with_a_checkpoint_and_one_at_a_time(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An open one takes a megabyte, and a server that logs its requests makes 1,440 versions a day."""
    for letter in "abcdefgh":
        append(path, letter)
        if letter == "d":
            DeltaTable(path).create_checkpoint()
    DeltaTable(path).optimize.compact()
    newest = snapshot.open(TableUri(path))
    find, still_open, opened = snapshot.find, WeakSet[Snapshot](), []

    def find_and_count(uri: TableUri) -> Snapshot | None:
        if version := find(uri):
            still_open.add(version)
        opened.append((uri.version, len(still_open)))
        return version

    monkeypatch.setattr(snapshot, "find", find_and_count)
    assert len(version_files.of_all_versions(newest)) == 9
    assert opened == [(0, 1), (3, 1)]
