"""How long this project waits for a service that does not answer: one limit for all services.

A client's own time-outs cannot keep that limit: they apply to one request, its retries multiply them, and a short one
ends a long request that works. So a thread probes the service beside the work, and ends the wait.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from steps.core.errors import SettingInvalid, UserError
from steps.core.process import console

LIMIT = "WORKFLOW_ANSWER_SECONDS"  # environment variable
DEFAULT_LIMIT_SECONDS = 60
ANNOUNCE_SECONDS = 10  # a longer wait is announced to the user
PROBE_INTERVAL_SECONDS = 5
PROBE_SECONDS = 5  # time-out of one probe
POLL_SECONDS = 0.2
SETTLE_SECONDS = 1  # from a broken connection until `fatal` knows why it broke


@dataclass(frozen=True, kw_only=True)
class Service:
    """`unavailability` probes once, within PROBE_SECONDS, and returns why the service does not answer, else ""."""

    name: str
    unavailability: Callable[[], str]
    error: Callable[[str], UserError]


def limit_seconds() -> int:
    """How long a service may be silent. SettingInvalid if the environment has no positive number of seconds."""
    text = os.environ.get(LIMIT) or str(DEFAULT_LIMIT_SECONDS)
    if not text.isdecimal() or int(text) < 1:
        raise SettingInvalid(LIMIT, text, expected="a whole number of seconds, 1 or more")
    return int(text)


@contextlib.contextmanager
def announced(what: str) -> Iterator[None]:
    """A block that waits for `what`: after ANNOUNCE_SECONDS the user is informed."""
    timer = threading.Timer(ANNOUNCE_SECONDS, console.message, [f"waiting for {what}"])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class Watch:
    """A thread that probes services while the main thread does work that needs them.

    `failure` is set, and `on_failure` called with it to end the wait, when `fatal` returns an error (it is asked all
    the time), when a service has been silent for the limit while `matters`, or when the thread itself has a bug.
    """

    def __init__(
        self,
        *services: Service,
        on_failure: Callable[[Exception], None],
        fatal: Callable[[], UserError | None] = lambda: None,
        matters: Callable[[], bool] = lambda: True,
    ) -> None:
        self.failure: Exception | None = None
        self._states = [_State(service) for service in services]
        self._on_failure = on_failure
        self._fatal = fatal
        self._matters = matters
        self._limit_seconds = limit_seconds()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()  # without waiting for a probe that is under way

    def cause(self) -> Exception | None:
        """What caused an error in the main thread: `failure`, or a service that does not answer now."""
        if self.failure:
            return self.failure
        services = [state.service for state in self._states]
        silent = next((service.error(reason) for service in services if (reason := service.unavailability())), None)
        if silent:
            self._ended.wait(SETTLE_SECONDS)
        return self._fatal() or self.failure or silent

    def fail(self, failure: Exception) -> None:
        """End the wait with `failure`, unless it has ended already."""
        if not (self.failure or self._ended.is_set()):
            self.failure = failure
            self._on_failure(failure)

    def _run(self) -> None:
        try:
            self._probe_all()
        except Exception as err:
            self.fail(err)

    def _probe_all(self) -> None:
        interval_seconds = min(PROBE_INTERVAL_SECONDS, self._limit_seconds / 4)
        next_probe = time.monotonic() + PROBE_INTERVAL_SECONDS
        while not self._ended.wait(POLL_SECONDS):
            if failure := self._fatal():
                return self.fail(failure)
            if time.monotonic() < next_probe:
                continue
            for state in self._states:
                if failure := self._probe(state):
                    return self.fail(failure)
            next_probe = time.monotonic() + interval_seconds

    def _probe(self, state: "_State") -> UserError | None:
        """The error when a service has been silent for too long."""
        asked = time.monotonic()
        if not (reason := state.service.unavailability()):
            state.last_answer, state.is_announced = asked, False
            return None
        silent_seconds = time.monotonic() - state.last_answer
        if silent_seconds >= ANNOUNCE_SECONDS and not state.is_announced and self._matters():
            state.is_announced = True
            console.message(f"waiting for {state.service.name}: {reason}")
        if silent_seconds >= self._limit_seconds and self._matters():
            return state.service.error(f"{reason}, for {self._limit_seconds} s now")
        return None


class _State:
    """What a watch knows of one service."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.last_answer = time.monotonic()
        self.is_announced = False
