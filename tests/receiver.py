"""A real HTTP server that takes the messages of a webhook, and answers as a test wants."""

import contextlib
import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from http_servers import answering

SECRET = "secret-4b1f0ac9"  # in the address, so that it can be looked for in all that is left


class Receiver(ThreadingHTTPServer):
    """Answers the requests with `statuses`, one after the other, and then with 200; `before` is called first."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.statuses: list[int] = []
        self.before: Callable[[Handler], object] = lambda handler: None
        self.received: list[tuple[str, dict[str, str], dict[str, Any]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/{SECRET}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no error of the test."""


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.received.append((self.path, dict(self.headers), body))
        self.server.before(self)
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        self.send_response(status)
        self.send_header("Location", self.server.url)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def serving() -> Iterator[Receiver]:
    server = Receiver()
    with answering(server):
        yield server
