"""One interface for files in a folder and in an object store: the same questions have the same answers."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from services import ObjectStore, object_store, reaching

from steps.core.storage import disk, filesystem, s3


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with object_store(tmp_path_factory.mktemp("store"), bucket="files") as store:
        yield store


@pytest.fixture(params=["folder", "object store"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place of each test's own for files, where a.csv, sub é/b.csv and sub é/deep/c.json are."""
    if request.param == "object store":
        return str(request.getfixturevalue("object_root"))
    return filled(f"{tmp_path}/place")


@pytest.fixture
def object_root(store: ObjectStore, tmp_path: Path) -> Iterator[str]:
    """Such a place in the object store."""
    with reaching(store):
        yield filled(f"s3://files/{tmp_path.name}")


def filled(root: str) -> str:
    for name in ("a.csv", "sub é/b.csv", "sub é/deep/c.json"):
        filesystem.write(f"{root}/{name}", name.encode())
    filesystem.write(f"{root}-other/d.csv", b"beside it, under a name that begins alike")
    return root


def test_files_are_listed_with_their_sizes_at_any_depth(root: str) -> None:
    listed = filesystem.files(root)
    assert {name: file.size_bytes for name, file in listed.items()} == {
        "a.csv": 5,
        "sub é/b.csv": len("sub é/b.csv".encode()),
        "sub é/deep/c.json": len("sub é/deep/c.json".encode()),
    }
    assert filesystem.files(f"{root}/nothing") == {}


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.csv", ["a.csv"]),
        ("*.csv", ["a.csv"]),
        ("*/b.csv", ["sub é/b.csv"]),
        ("[s]ub*", ["sub é/b.csv", "sub é/deep/c.json"]),
        ("sub é", ["sub é/b.csv", "sub é/deep/c.json"]),
        ("**/*.csv", ["a.csv", "sub é/b.csv"]),
        ("**/deep/*.json", ["sub é/deep/c.json"]),
        ("sub*/**/c.json", ["sub é/deep/c.json"]),
        ("sub é/**", ["sub é/b.csv", "sub é/deep/c.json"]),
        ("a.csv/**", []),
        ("b.csv", []),
        ("a.cs", []),
    ],
)
def test_a_path_a_folder_or_a_glob_means_files(root: str, pattern: str, names: list[str]) -> None:
    assert sorted(filesystem.matching_files(f"{root}/{pattern}")) == [f"{root}/{name}" for name in names]


@pytest.mark.parametrize("write", [filesystem.write, lambda path, content: Path(path).write_bytes(content)])
def test_a_disk_that_is_full_is_told_with_the_file(tmp_path: Path, write: Callable[[str, bytes], object]) -> None:
    """/dev/full takes no byte. Python's own error has no name, of which the second one is the proof."""
    (tmp_path / "part.parquet").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device") as raised:
        write(f"{tmp_path}/part.parquet", b"rows")
    expected = f"{tmp_path}/part.parquet" if write is filesystem.write else "a file"
    assert str(disk.failure(raised.value)).startswith(f"DiskUnusable: {expected}: No space left on device")


def test_a_file_is_read_whole_or_from_anywhere(root: str) -> None:
    path = f"{root}/numbers"
    filesystem.write(path, content := bytes(range(256)) * 1000)
    assert filesystem.read(path) == content
    with filesystem.opened(path, len(content)) as file:
        assert file.read(7) == content[:7]
        file.seek(-10, 2)
        assert file.read() == content[-10:]
        file.seek(100_000)
        assert file.read(3) == content[100_000:100_003]


@pytest.mark.parametrize("size_bytes", [300_000, 250_000, 100_000, 0])
def test_an_object_that_is_replaced_while_it_is_read_is_told(object_root: str, size_bytes: int) -> None:
    filesystem.write(path := f"{object_root}/numbers", bytes(300_000))
    with filesystem.opened(path, 300_000) as file:
        assert file.read(7) == bytes(7)
        filesystem.write(path, b"1" * size_bytes)
        file.seek(200_000)
        with pytest.raises(filesystem.Replaced, match=path):
            file.read(100_000)


def test_a_file_that_is_not_there_is_not_found(root: str) -> None:
    with pytest.raises(FileNotFoundError, match="No such file or directory: .*nothing"):
        filesystem.read(f"{root}/nothing")


def test_a_file_is_created_once_and_written_any_number_of_times(root: str) -> None:
    assert [filesystem.create(f"{root}/new", text) for text in (b"first", b"second")] == [True, False]
    assert filesystem.read(f"{root}/new") == b"first"
    filesystem.write(f"{root}/new", b"third")
    assert filesystem.read(f"{root}/new") == b"third"


def test_what_is_missing_or_of_another_size_is_named(root: str) -> None:
    expected = {"a.csv": 5, "sub é/b.csv": 1, "gone": 9}
    assert filesystem.missing(root, expected) == ["gone"]
    assert filesystem.damaged(root, expected) == {"sub é/b.csv": 12, "gone": None}


def test_a_file_that_goes_while_it_is_looked_at_breaks_no_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a vacuum removes files beside a writer: they go right after the first question about them."""
    root, stat = filled(f"{tmp_path}/place"), os.stat

    def stat_and_remove(path: str | Path, **settings: bool) -> os.stat_result:
        status = stat(path, **settings)
        if str(path).endswith((".csv", ".json")):
            os.unlink(path)
        return status

    monkeypatch.setattr(os, "stat", stat_and_remove)
    assert filesystem.missing(root, ["a.csv", "gone", "a.csv/below", "sub é/b.csv"]) == ["gone", "a.csv/below"]
    assert set(filesystem.files(root)) == {"sub é/deep/c.json"}
    assert filesystem.files(root) == {}


def test_a_link_to_nothing_or_in_a_circle_is_no_file_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "nowhere").symlink_to("/nowhere")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    assert filesystem.files(str(tmp_path)) == {}
    assert filesystem.missing(str(tmp_path), ["nowhere", "circle"]) == ["nowhere", "circle"]


def test_tables_are_the_folders_with_a_log(root: str) -> None:
    for name in ("u", "t"):
        filesystem.write(f"{root}/{name}/_delta_log/{0:020}.json", b"{}")
    assert filesystem.tables(root) == [f"{root}/t", f"{root}/u"]
    assert (filesystem.is_delta(f"{root}/t"), filesystem.is_delta(root)) == (True, False)
    assert filesystem.tables(f"{root}/nothing") == []


def test_a_table_whose_log_shows_no_file_is_still_one(tmp_path: Path) -> None:
    """As a log that may not be read: a vacuum stops at it, rather than not know what it was made of."""
    (tmp_path / "t" / "_delta_log").mkdir(parents=True)
    assert filesystem.tables(str(tmp_path)) == [f"{tmp_path}/t"]


def test_a_folder_is_removed_with_what_is_in_it_and_nothing_beside_it(root: str) -> None:
    filesystem.remove_folder(root)
    assert filesystem.files(root) == {}
    assert list(filesystem.files(f"{root}-other")) == ["d.csv"]


def test_a_file_is_removed_and_nothing_beside_it(root: str) -> None:
    filesystem.remove_file(f"{root}/sub é/b.csv")
    assert set(filesystem.files(root)) == {"a.csv", "sub é/deep/c.json"}


def test_an_object_of_no_bytes_that_stands_for_a_folder_is_no_file(store: ObjectStore, object_root: str) -> None:
    """As AWS's console and Hadoop write them; they go with the folder."""
    markers = [f"{object_root}/", f"{object_root}/sub é/", f"{object_root}/other_$folder$"]
    for marker in markers:
        filesystem.write(marker, b"")
    filesystem.write(f"{object_root}/full_$folder$", b"rows")
    expected = {"a.csv", "sub é/b.csv", "sub é/deep/c.json", "full_$folder$"}
    assert set(filesystem.files(object_root)) == expected
    assert set(filesystem.matching_files(object_root)) == {f"{object_root}/{name}" for name in expected}
    filesystem.remove_folder(object_root)
    assert store.names("files", f"{s3.locate(object_root).key}/") == []
