"""A tracking server is asked in the way in which MLflow asks it."""

import http.server
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from http_servers import answering

from steps.core.errors import TrackingUnavailable
from steps.core.tracking import server


class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 127.0.0.1, signed by itself, with its key."""
    path = tmp_path_factory.mktemp("certificate") / "server.pem"
    words = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -keyout {path} -out {path}.crt"
    subprocess.run([*words.split(), "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


@pytest.fixture
def uri(certificate: Path) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Healthy)
    service.socket = context.wrap_socket(service.socket, server_side=True)
    with answering(service) as url:
        yield url.replace("http://", "https://")


def test_a_certificate_that_is_not_trusted_is_told(uri: str) -> None:
    with pytest.raises(
        TrackingUnavailable, match=f"{uri}.*its certificate is not trusted here: name its authority in "
    ):
        server.check_answers(uri)


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize("setting", ["MLFLOW_TRACKING_SERVER_CERT_PATH", "MLFLOW_TRACKING_INSECURE_TLS"])
def test_a_certificate_of_ones_own_is_taken_as_mlflow_takes_it(
    uri: str, certificate: Path, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(setting, f"{certificate}.crt" if setting.endswith("PATH") else "true")
    server.check_answers(uri)
    assert server._unavailability(uri) == ""
