"""What no message, log or tag may show: passwords, tokens and signatures in what libraries say."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from place import PROJECT, Place, new_database

from steps.core.errors import TrackingUnavailable
from steps.core.process import console
from steps.core.redaction import HIDDEN, is_secret, redacted

SECRET = "hUnt3r-2/x+y=="
PLAIN = "hUnt3r-2"  # what a user's part of an address may have
SHOWN = {
    f"could not connect to postgresql://mlflow:{PLAIN}@db:5432/mlflow: timed out": (
        "could not connect to postgresql://db:5432/mlflow: timed out"
    ),
    f"postgresql+psycopg2://{PLAIN}@db/mlflow": "postgresql+psycopg2://db/mlflow",
    f"(https://ann:{PLAIN}@example.org/a.git) was refused": "(https://example.org/a.git) was refused",
    f"ssh://git:{PLAIN}@example.org/a.git": "ssh://git@example.org/a.git",
    f"s3a://AKIA:{PLAIN}@lake/iris": "s3a://lake/iris",
    f"(host='s3'): /a?X-Amz-Credential={SECRET}&X-Amz-Signature={SECRET}&x=1": (
        "(host='s3'): /a?X-Amz-Credential=***&X-Amz-Signature=***&x=1"
    ),
    f"https://example.org/a?access_token={SECRET}&page=2": "https://example.org/a?access_token=***&page=2",
    f"https://a.blob.core.windows.net/a?sv=2024&sig={SECRET}": "https://a.blob.core.windows.net/a?sv=2024&sig=***",
    f"AccountName=a;AccountKey={SECRET};EndpointSuffix=b": "AccountName=a;AccountKey=***;EndpointSuffix=b",
    f"{{'Authorization': 'Bearer {SECRET}', 'Accept': '*/*'}}": "{'Authorization': '***', 'Accept': '*/*'}",
    f"> Authorization: Basic {SECRET}\n> Accept: */*": "> Authorization: ***\n> Accept: */*",
    f"authorization: {SECRET}": "authorization: ***",
    f"the server said: Bearer {SECRET} has expired": "the server said: Bearer *** has expired",
    f"host=db user=mlflow password={SECRET} dbname=mlflow": "host=db user=mlflow password=*** dbname=mlflow",
    f"connect(password='{SECRET} with a blank', host='db')": "connect(password='***', host='db')",
    f'{{"client_secret": "{SECRET}", "grant": 1}}': '{"client_secret": "***", "grant": 1}',
    f"MLFLOW_TRACKING_PASSWORD={SECRET}": "MLFLOW_TRACKING_PASSWORD=***",
    f"> x-api-key: {SECRET}\n> Accept: */*": "> x-api-key: ***\n> Accept: */*",
    f"Set-Cookie: session={SECRET}; Path=/\nServer: x": "Set-Cookie: ***\nServer: x",
    f"in ~/.netrc:\n  login: ann\n  password: {SECRET}\n": "in ~/.netrc:\n  login: ann\n  password: ***\n",
    f"user = ann\npassword = {SECRET}": "user = ann\npassword = ***",
    f"login failed (password: {SECRET}), once": "login failed (password: ***), once",
    f"psql --password {SECRET} --host db": "psql --password *** --host db",
    f"Command '['x', '--token', '{SECRET}', '-v']' failed": "Command '['x', '--token', '***', '-v']' failed",
    '{"password": "a\\"b", "user": "ann"}': '{"password": "***", "user": "ann"}',
    '"{\\"api_key\\": \\"abc\\", \\"x\\": 1}"': '"{\\"api_key\\": \\"***\\", \\"x\\": 1}"',
    '{"password": 1234}': '{"password": ***}',
    "at postgresql://ann:a/b?c@db:5432/mlflow": "at postgresql://db:5432/mlflow",
    "postgresql://u:a/b@db": "postgresql://db",
    "{'x-api-key': b'abc123def', 'a': 1}": "{'x-api-key': b'***', 'a': 1}",
    "login(password=b'abc')": "login(password=b'***')",
    f"--conf spark.hadoop.fs.s3a.secret.key={PLAIN}": "--conf spark.hadoop.fs.s3a.secret.key=***",
    f"'fs.s3a.access.key': '{PLAIN}'": "'fs.s3a.access.key': '***'",
    f"fs.azure.account.key.a.dfs.core.windows.net={PLAIN}": "fs.azure.account.key.a.dfs.core.windows.net=***",
    "x-api-key: abc123def\r\nHost: x": "x-api-key: ***\r\nHost: x",
    r"b'x-api-key: abc123def\r\nHost: x'": r"b'x-api-key: ***\r\nHost: x'",
    "password=$uper123 PWD={S3cretPw9} N_API_KEY=abcdef123": "password=*** PWD=***} N_API_KEY=***",
    '{"auths": {"ghcr.io": {"auth": "YW5uOnB3"}}}': '{"auths": {"ghcr.io": {"auth": "***"}}}',
}


@pytest.mark.parametrize(("text", "shown"), SHOWN.items(), ids=SHOWN.values())
def test_a_secret_is_hidden_and_the_rest_is_shown(text: str, shown: str) -> None:
    assert redacted(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/lake/iris@v0 and http://127.0.0.1:9000/lake/iris@v3",
        "models:/iris@production",
        "s3://lake@v3 is no table",
        "abfss://container@account.dfs.core.windows.net/x",
        "git+ssh://git@example.org/a.git",
        "https://example.org/a?page_token=abc&next-token=def&continuation-token=ghi",
        "run `mlflow run . -e promote -P name=iris -P version=2 -P reason='the key=value'`",
        "token = answers.readline()",
        "set SPARK_REMOTE=sc://host:port/;token=..., with the token of the server; password='...'",
        "Basic authentication is required; author=ann",
        "max_token=512, n_token = 7, token=512 and next_page_token: abc",
        "{'token': 'int64', 'secret': string}, token=string, \"password\": null",
        "set MLFLOW_TRACKING_TOKEN=$TOKEN, password: ${PASSWORD}, token=$(cat token), token={token}",
        "column 'token': 3 of 10 files have none; invalid token: expected a comma",
        "column 'cookie': 3 of 10 files have none",
        "Unexpected token: EOF; unknown token: 'x'",
        "sig=0.05, PWD=/home/ann",
        "pass --token and --password to the server",
        "password = settings['password']; token = os.environ[name]",
        "http://localhost:5000/a@b, file://C:/lake/iris@v3 and https://[::1]:8080/x@y",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text


PARTS = [
    "password",
    "token",
    "--token",
    "cookie",
    "=",
    ": ",
    " ",
    "'",
    '"',
    "\\",
    "a",
    "7",
    "\n",
    ",",
    "://",
    "@",
    "***",
]


@given(st.text() | st.lists(st.sampled_from(PARTS)).map("".join))
def test_a_second_time_changes_nothing(text: str) -> None:
    assert redacted(redacted(text)) == redacted(text)


def test_a_long_line_takes_no_longer_than_its_length_asks() -> None:
    """Of an expression that tries again from each character, this would take hours."""
    program = (
        "import sys; from steps.core.redaction import redacted; [redacted(part * 100_000) for part in sys.argv[1:]]"
    )
    parts = [*PARTS, "a://b:c/", "token: ", "'token': '", "a=1 ", "token=a "]
    subprocess.run([sys.executable, "-c", program, *parts], cwd=PROJECT, timeout=120, check=True)


@pytest.mark.parametrize(("name", "expected"), [("X-Amz-Signature", True), ("page_token", False), ("key", False)])
def test_the_mark_of_a_page_is_no_secret(name: str, expected: bool) -> None:
    assert is_secret(name) is expected


def test_a_message_for_the_user_shows_none() -> None:
    error = TrackingUnavailable("http://ann:hunter2@db", "it says Authorization: Bearer hunter2hunter2")
    assert "hunter2" not in str(error)
    assert str(error).startswith("TrackingUnavailable: ")
    assert HIDDEN in str(error)


FAILS = """
from steps import lineage
from steps.core.workflow import entry_point
with entry_point.start(lineage.SPEC, ["--uri=sklearn:iris"]):
    raise RuntimeError("%s refused")
"""


def test_the_tag_of_an_error_shows_none(tmp_path: Path) -> None:
    store = new_database(tmp_path)
    program = FAILS % f"postgresql://mlflow:{PLAIN}@db:5432/a?X-Amz-Signature={SECRET}"
    environment = {"PYTHONPATH": str(PROJECT), "MLFLOW_TRACKING_URI": store}
    ended = Place(tmp_path, environment).run(sys.executable, "-c", program)
    assert ended.exit_code == 1
    (run,) = MlflowClient(store).search_runs(["0"])
    assert run.data.tags["error"] == f"RuntimeError: postgresql://db:5432/a?X-Amz-Signature={HIDDEN} refused"


def test_a_line_for_the_terminal_shows_none(capsys: pytest.CaptureFixture[str]) -> None:
    console.message(f"serve: the registry at https://ann:{PLAIN}@example.org does not answer")
    assert capsys.readouterr().err == "serve: the registry at https://example.org does not answer\n"


RAISES = """
import logging, threading, warnings
from steps.core.process import startup
startup.after_imports()
def connect():
    raise RuntimeError("postgresql://mlflow:%(secret)s@db refused")
logging.getLogger("library").warning("%%d rows", "many")
try:
    connect()
except RuntimeError:
    logging.getLogger("library").exception("at https://ann:%%s@example.org", "%(secret)s")
warnings.warn("at https://ann:%(secret)s@example.org")
thread = threading.Thread(target=connect, name="reader")
thread.start()
thread.join()
connect()
"""


def test_tracebacks_warnings_and_logs_show_none() -> None:
    command = [sys.executable, "-c", RAISES % {"secret": PLAIN}]
    ended = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "at https://example.org\nTraceback" in ended.stderr
    assert "UserWarning: at https://example.org\n" in ended.stderr
    assert "Exception in thread reader:\nTraceback" in ended.stderr
    assert ended.stderr.count("RuntimeError: postgresql://db refused") == 3
    assert PLAIN not in ended.stderr
    assert "TypeError: %d format: a real number is required, not str" in ended.stderr  # of a library's own mistake
