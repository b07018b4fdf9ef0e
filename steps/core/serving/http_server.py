"""uvicorn with the application: a socket that is bound first, and a stop that finishes what was begun."""

import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from types import FrameType
from typing import Any

import uvicorn

from steps.core.errors import AddressUnusable

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that has the address and does not listen yet; port 0 is any that is free. AddressUnusable."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound_socket = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as err:
        raise AddressUnusable(host, port, _reason(err)) from err
    with bound_socket:
        bound_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound_socket.bind(address)
        except OSError as err:
            raise AddressUnusable(host, port, _reason(err)) from err
        bound_socket.set_inheritable(True)
        yield bound_socket


def _listen(bound_socket: socket.socket, backlog: int) -> None:
    """AddressUnusable where another server, bound as long as neither listened, was first. uvloop would tell nobody."""
    try:
        bound_socket.listen(backlog)
    except OSError as err:
        host, port = bound_socket.getsockname()[:2]
        raise AddressUnusable(host, port, _reason(err)) from err


def url_of(bound_socket: socket.socket) -> str:
    """The address of a server that listens at a bound socket."""
    host, port = bound_socket.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def settings(app: Any, *, grace_seconds: float, **more: Any) -> uvicorn.Config:
    """For an application, or a factory of one. Requests that were begun have `grace_seconds` when the server stops."""
    return uvicorn.Config(
        app,
        lifespan="on",
        ws="none",
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=int(grace_seconds) + 1,
        **more,
    )


class HttpServer(uvicorn.Server):
    """Calls `on_start` when it listens. The first signal stops it, and it finishes; a second Ctrl-C ends it."""

    def __init__(self, config: uvicorn.Config, *, on_start: Callable[[], None] = lambda: None) -> None:
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        for bound_socket in sockets or []:
            _listen(bound_socket, self.config.backlog)
        await super().startup(sockets)
        self._on_start()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """uvicorn's own raises the signal again at the end, so that the process dies by it: this one ends well."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        with stopping_by(self.stop):
            yield

    def stop(self, signum: int) -> None:
        """A process whose launcher is gone sends itself SIGTERM again and again, which is no second wish to end."""
        self.force_exit = self.force_exit or (self.should_exit and signum == signal.SIGINT)
        self.should_exit = True


@contextlib.contextmanager
def stopping_by(stop: Callable[[int], None]) -> Iterator[None]:
    """In this block a signal calls `stop`. What entry_point.start() lets it do is to raise in the main thread, and to
    end the process after a few seconds, which would cut off a long request."""

    def handle(signum: int, frame: FrameType | None) -> None:
        stop(signum)

    with signals_as_before(STOPPING):
        for signum in STOPPING:
            if signal.getsignal(signum) is not signal.SIG_IGN:
                signal.signal(signum, handle)
        yield


@contextlib.contextmanager
def signals_as_before(signums: Iterable[signal.Signals]) -> Iterator[None]:
    """A block that may handle these signals in its own way; after it they are handled as before."""
    wakeup_fd = signal.set_wakeup_fd(-1)
    before = {signum: signal.getsignal(signum) for signum in signums}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
        signal.set_wakeup_fd(wakeup_fd)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
