"""The tracking server of a team: whether it answers, at once and for as long as somebody waits for it."""

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlparse

from steps.core.errors import TrackingUnavailable
from steps.core.process import waiting

SCHEMES = ("http://", "https://")
DEFAULT_PORTS = {"http": 80, "https": 443}
ANSWER_SECONDS = 5
# Modules of MLflow's, by the beginning of their names: a thread in one of them waits for the server.
REQUEST_MODULES = ("mlflow.utils.rest_utils", "mlflow.utils.request_utils", "mlflow.store.", "mlflow.tracking.")


def check_answers(uri: str) -> None:
    """TrackingUnavailable if there is a server at `uri` that does not answer: MLflow would try for minutes."""
    if uri.startswith(SCHEMES):
        import requests  # takes a fifth of a second, which an embedded database does not pay

        try:
            status = requests.get(f"{uri.rstrip('/')}/health", timeout=ANSWER_SECONDS, **_certificates()).status_code
        except requests.exceptions.SSLError as err:
            reason = "its certificate is not trusted here: name its authority in MLFLOW_TRACKING_SERVER_CERT_PATH"
            raise TrackingUnavailable(uri, reason) from err
        except requests.RequestException as err:
            raise TrackingUnavailable(uri, "it does not answer") from err
        if status >= 500:  # a proxy whose server is gone
            raise TrackingUnavailable(uri, f"it answers with {status}")


def watched(uri: str, on_failure: Callable[[Exception], None]) -> contextlib.AbstractContextManager[object]:
    """A block in which `on_failure` is called when the main thread waits for a server at `uri` that is silent.

    A database is not watched.
    """
    if not uri.startswith(SCHEMES):
        return contextlib.nullcontext()
    service = waiting.Service(
        name=f"the tracking server {uri}",
        unavailability=lambda: _unavailability(uri),
        error=lambda reason: TrackingUnavailable(uri, reason),
    )
    return waiting.Watch(service, on_failure=on_failure, matters=_is_main_thread_in_a_request)


def address(uri: str) -> str:
    """The server's address, the same for every spelling of its URI."""
    parsed = urlparse(uri)
    host, port = (parsed.hostname or "").lower(), parsed.port or DEFAULT_PORTS.get(parsed.scheme.lower(), 0)
    name = "localhost" if host in ("127.0.0.1", "::1") else host
    return f"{parsed.scheme.lower()}://{name}:{port}{parsed.path.rstrip('/')}"


def _certificates() -> dict[str, Any]:
    """What requests takes of the server's certificate and of this client's, as MLflow's own requests do."""
    from mlflow import environment_variables as settings

    trusted = settings.MLFLOW_TRACKING_SERVER_CERT_PATH.get() or True
    return {
        "verify": False if settings.MLFLOW_TRACKING_INSECURE_TLS.get() else trusted,
        "cert": settings.MLFLOW_TRACKING_CLIENT_CERT_PATH.get(),
    }


def _unavailability(uri: str) -> str:
    """Why a server does not answer what it must ask its database for; "" if it does. A refusal is an answer."""
    import requests

    question = f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/get?experiment_id=0"
    user, password = (os.environ.get(f"MLFLOW_TRACKING_{name}", "") for name in ("USERNAME", "PASSWORD"))
    try:
        auth = (user, password) if user else None
        status = requests.get(question, auth=auth, timeout=waiting.PROBE_SECONDS, **_certificates()).status_code
    except requests.RequestException:
        return "it does not answer"
    return f"it answers with {status}" if status >= 500 else ""


def _is_main_thread_in_a_request() -> bool:
    """Whether the main thread waits for MLflow, rather than being at work."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame:
        if str(frame.f_globals.get("__name__")).startswith(REQUEST_MODULES):
            return True
        frame = frame.f_back
    return False
