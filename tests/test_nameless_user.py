"""A user id without a name in /etc/passwd, as containers and OpenShift have them, works like any other."""

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from place import PROJECT, Ended, Place, new_database, rows_of

pytestmark = pytest.mark.spark

USER_ID = 12345
OF_A_NAME = ("LOGNAME", "USER", "LNAME", "USERNAME", "HOME")  # environment variables that tell who somebody is


def nameless(place: Place, *command: object, **variables: str) -> Ended:
    """A command as that user, who may read the files of whoever runs the tests: Python and the project among them."""
    may_read = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    as_user = ("setpriv", f"--reuid={USER_ID}", f"--regid={USER_ID}", "--clear-groups", *may_read)
    without = [word for name in OF_A_NAME for word in ("-u", name)]
    given = [f"{name}={value}" for name, value in variables.items()]
    return place.run(*as_user, "env", *without, *given, *map(str, command))


@pytest.fixture
def place() -> Iterator[Place]:
    if os.getuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("only root becomes another user, by setpriv")
    with pytest.raises(KeyError, match=str(USER_ID)):
        pwd.getpwuid(USER_ID)
    folder = Path(tempfile.mkdtemp(prefix="nameless-"))  # pytest's own are closed to other users
    new_database(folder)
    (folder / "tmp").mkdir()
    (folder / "home").mkdir()
    for path in (folder, *folder.rglob("*")):
        os.chown(path, USER_ID, USER_ID)
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")  # where the jars are
    surroundings = {"PYTHONPATH": str(PROJECT), "TMPDIR": str(folder / "tmp"), "PYTHONDONTWRITEBYTECODE": "1"}
    yield Place(folder, {**surroundings, "XDG_CACHE_HOME": cache})
    shutil.rmtree(folder)


def test_mlflow_run_works_with_spark_where_home_and_a_name_are_set(place: Place) -> None:
    command = ["mlflow", "run", PROJECT, "-e", "ingest", "-P", "config=configs/churn.yaml", "--env-manager", "local"]
    variables = {"HOME": str(place.folder / "home"), "LOGNAME": "somebody", "WORKFLOW_IN_MEMORY_MEBIBYTES": "0"}
    ended = nameless(place, *command, **variables)
    assert ended.exit_code == 0, ended.text
    assert rows_of(place.lake("churn")).num_rows == 400
    assert place.runs()[0].data.tags["mlflow.user"] == "somebody"
    assert [path.name for path in place.folder.rglob("*") if path.name == "?"] == []


def test_a_step_by_itself_gives_the_user_a_name(place: Place) -> None:
    ended = nameless(place, "python", "-m", "steps", "promote", HOME=str(place.folder / "home"))
    assert "Traceback" not in ended.text
    assert place.runs()[0].data.tags["mlflow.user"] == f"uid{USER_ID}"


def test_a_missing_home_is_one_message(place: Place) -> None:
    ended = nameless(place, "python", "-m", "steps", "ingest")
    assert ended.exit_code == 1
    assert ended.text == (
        "SettingInvalid: HOME= in the environment\n"
        f"  expected  a folder that may be written, as user id {USER_ID} has no name and no home in /etc/passwd\n"
        "  next      set HOME\n"
    )


def test_a_home_that_may_not_be_written_is_told(place: Place) -> None:
    (of_another := place.folder / "of another").mkdir(mode=0o755)
    source, config = PROJECT / "configs" / "data" / "churn.csv", PROJECT / "configs" / "churn.yaml"
    command = ["python", "-m", "steps", "ingest", f"--source={source}", f"--config={config}"]
    variables = {"HOME": str(of_another), "XDG_CACHE_HOME": "", "WORKFLOW_IN_MEMORY_MEBIBYTES": "0"}
    ended = nameless(place, *command, **variables)
    assert ended.exit_code == 1
    assert "Permission denied" in ended.text
    assert "set HOME or XDG_CACHE_HOME to a folder that may be written" in ended.text
    assert "Traceback" not in ended.text
