"""An object store that accepts connections and never answers: each of its clients gives up within the one limit."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError
from deltalake import DeltaTable
from http_servers import answering

from steps.core.errors import ObjectStoreUnavailable
from steps.core.process import waiting
from steps.core.storage import filesystem, s3
from steps.core.tables import location, snapshot

LIMIT_SECONDS = 4


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Its URL; the environment names it, with keys."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)  # the kernel accepts, nobody reads
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
        monkeypatch.setenv(waiting.LIMIT, str(LIMIT_SECONDS))
        monkeypatch.setattr(waiting, "PROBE_SECONDS", 1)
        monkeypatch.setattr(s3, "_usable", {})
        s3._client.cache_clear()
        yield url
        s3._client.cache_clear()


@contextlib.contextmanager
def refusing() -> Iterator[str]:
    """The URL of a store that denies access to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<Error><Code>AccessDenied</Code></Error>"
            self.send_response(403)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with answering(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        yield url


@pytest.mark.parametrize(
    "ask",
    [
        lambda: filesystem.files("s3://delta/iris"),
        lambda: filesystem.read("s3://delta/iris.csv"),
        lambda: DeltaTable("s3://delta/iris", storage_options=s3.for_deltalake()),
        lambda: DeltaTable.is_deltatable("s3://delta/iris", s3.for_deltalake()),
    ],
    ids=["list", "read", "open a table", "look for a table"],
)
def test_a_client_gives_up_within_the_limit(silent: str, ask: Callable[[], object]) -> None:
    began = time.monotonic()
    with pytest.raises(Exception, match="(?i)time.*out|error sending request"):
        ask()
    assert time.monotonic() - began < LIMIT_SECONDS + 2  # the machine may be shared


def test_it_is_told_in_one_message_with_its_address(silent: str) -> None:
    with pytest.raises(ObjectStoreUnavailable, match=f"s3://delta at {silent} cannot be used: Read timeout"):
        s3.check("s3://delta/iris")
    with pytest.raises(ObjectStoreUnavailable, match=f"{silent} cannot be used: Read timeout"):
        snapshot.open(location.TableUri("s3://delta/iris"))


def test_its_silence_is_told_from_a_refusal(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Read timeout" in s3.service("s3://delta/iris").unavailability()
    with refusing() as url:
        monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", url)
        assert s3.unavailability("s3://delta/iris") == "these keys may not use it"
        assert s3.service("s3://delta/iris").unavailability() == ""


def test_keys_that_are_missing_are_not_its_silence(
    silent: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    no_keys = tmp_path / "empty"
    no_keys.touch()
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(no_keys))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert s3.unavailability("s3://delta/iris") == "Unable to locate credentials"
    assert s3.service("s3://delta/iris").unavailability() == ""


def test_one_that_is_gone_is_silent_too(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", "http://127.0.0.1:9")
    assert "Could not connect" in s3.service("s3://delta/iris").unavailability()


@pytest.mark.parametrize(
    "error",
    [ReadTimeoutError(endpoint_url="http://there"), ConnectionClosedError(endpoint_url="http://there")],
    ids=lambda error: type(error).__name__,
)
def test_an_error_without_an_answer_has_no_code_and_its_own_words(error: Exception) -> None:
    assert s3.code(error) == ""
    assert s3.reason(error) == str(error)


def test_an_error_without_an_answer_is_the_stores_also_when_it_answers_by_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "_usable", {"delta": "s3://delta"})
    error = ReadTimeoutError(endpoint_url="http://there")
    assert 'Read timeout on endpoint URL: "http://there"' in str(s3.store_failure(error))


def test_a_new_client_has_the_keys_that_the_environment_has_now(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("first", "second"):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
        s3._client.cache_clear()
        url = s3.client().generate_presigned_url("list_objects_v2", Params={"Bucket": "delta"})
        assert f"{key}%2F" in url or f"AWSAccessKeyId={key}&" in url
