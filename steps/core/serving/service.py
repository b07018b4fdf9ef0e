"""All parts of one serving process: the model, what follows its alias, the application, the request log."""

import socket
from collections.abc import Callable
from dataclasses import dataclass

from fastapi import FastAPI

from steps.core.serving import app, http_server, scored_rows
from steps.core.serving.followed_model import FollowedModel
from steps.core.serving.http_server import HttpServer
from steps.core.serving.invocations import Invocations, Limits
from steps.core.serving.metrics import Metrics
from steps.core.serving.request_log import RequestLog
from steps.core.serving.scored_rows import Recorder


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`model` is a URI with a version or an alias, which is asked for each `poll_seconds`. `open_log` makes the request
    log, and can be pickled."""

    model: str
    poll_seconds: float
    limits: Limits
    open_log: Callable[[], RequestLog] | None = None


class Service:
    """A loaded model and the application that answers by it; close() when it has answered the last request."""

    def __init__(self, settings: Settings) -> None:
        metrics = Metrics()
        self.followed = FollowedModel(
            settings.model,
            poll_seconds=settings.poll_seconds,
            check=scored_rows.check_names if settings.open_log else lambda model: None,
            on_load=lambda model: metrics.loaded(model.name, model.version),
        )
        self._recorder = Recorder(settings.open_log()) if settings.open_log else None
        self._invocations = Invocations(self.followed, limits=settings.limits, metrics=metrics, recorder=self._recorder)
        self.app: FastAPI = app.create(
            self.followed,
            self._invocations,
            metrics,
            log_state=self._recorder.state if self._recorder else None,
            on_stop=self.close,
        )
        self._grace_seconds = settings.limits.seconds
        self._is_closed = False
        self.followed.start()

    def run(self, bound_socket: socket.socket, *, on_start: Callable[[str], None]) -> None:
        """Serve until a signal; `on_start` is called with the model's URI when it answers."""
        config = http_server.settings(self.app, grace_seconds=self._grace_seconds)
        try:
            HttpServer(config, on_start=lambda: on_start(self.followed.now.uri)).run([bound_socket])
        finally:
            self.close()

    def close(self) -> None:
        """Hand on what was scored, and stop following the alias."""
        if not self._is_closed:
            self._is_closed = True
            self.followed.stop()
            self._invocations.close()
            if self._recorder:
                self._recorder.close()
