"""Files of a table that cannot be deleted are told, and none of them is said to be gone."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from place import PROJECT, Ended, Place

DELETE = """
import sys
from pathlib import Path
from steps.core.errors import DiskUnusable
from steps.core.tables import vacuum
[path] = sys.argv[1:]
files = {file.relative_to(path).as_posix(): 1 for file in Path(path).rglob("*.parquet")}
try:
    vacuum.delete_files({path: files})
except DiskUnusable as err:
    sys.exit(str(err))
"""


@pytest.fixture
def table() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="deletion-"))  # pytest's own are closed to other users
    folder.chmod(0o755)
    for number in range(2):
        write_deltalake(folder / "table", pa.table({"x": [number]}), mode="overwrite")
    yield folder / "table"
    shutil.rmtree(folder)


def delete_as_another_user(table: Path) -> Ended:
    as_user = ("setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", "--inh-caps=+dac_read_search")
    command = (*as_user, "--ambient-caps=+dac_read_search", sys.executable, "-c", DELETE, str(table))
    return Place(table.parent, {"PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"}).run(*command)


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="only root becomes another user")
def test_a_folder_of_which_nothing_may_be_deleted_is_told_before_anything_is(table: Path) -> None:
    files = set(table.rglob("*.parquet"))
    ended = delete_as_another_user(table)
    assert ended.exit_code == 1
    assert f"DiskUnusable: {table}: this user may not delete files in it; no file was deleted\n" in ended.err
    assert set(table.rglob("*.parquet")) == files


@pytest.mark.spark
def test_a_file_that_is_left_is_named(table: Path) -> None:
    """A folder in its place, which is not empty, is not deleted as a file is."""
    first = sorted(table.rglob("*.parquet"))[0]
    first.unlink()
    first.mkdir()
    (first / "kept").write_text("")
    ended = Place(table.parent, {"PYTHONPATH": str(PROJECT)}).run(sys.executable, "-c", DELETE, str(table))
    assert ended.exit_code == 1
    assert f"DiskUnusable: {table}: " in ended.err
    assert f"still there, such as {first.name}\n" in ended.err
    assert (first / "kept").exists()
