"""How long this project waits for a service that does not answer: one limit for all of them.

A client's own time-outs cannot promise that limit: they hold for one request, its retries multiply them, and a short
one ends a long request that works. So a thread asks the service beside the work, and ends the wait.
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
TELL_SECONDS = 10  # a wait that takes longer says what it is for
ASK_SECONDS = 5  # from one question to the next
PROBE_SECONDS = 5  # for the answer to one
LOOK_SECONDS = 0.2
SETTLE_SECONDS = 1


@dataclass(frozen=True, kw_only=True)
class Service:
    """`unavailability` asks once, within PROBE_SECONDS, why the service does not answer; "" when it does."""

    name: str
    unavailability: Callable[[], str]
    error: Callable[[str], UserError]


def limit_seconds() -> int:
    """How long a service may be silent. SettingInvalid when the environment says no number of seconds."""
    text = os.environ.get(LIMIT) or str(DEFAULT_LIMIT_SECONDS)
    if not text.isdecimal() or int(text) < 1:
        raise SettingInvalid(LIMIT, text, expected="a whole number of seconds, 1 or more")
    return int(text)


@contextlib.contextmanager
def announced(what: str) -> Iterator[None]:
    """A block that waits for something; after TELL_SECONDS it says for what."""
    timer = threading.Timer(TELL_SECONDS, console.message, [f"waiting for {what}"])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class Watch:
    """A thread that asks services whether they answer, while the main thread waits for work that needs them.

    `failure` is what went wrong: that of `fatal`, which is asked all the time, or of a service that has been silent for
    the limit, and `matters`. `on_failure` then ends the wait. An unforeseen error in the thread is a failure too.
    """

    def __init__(
        self,
        *services: Service,
        on_failure: Callable[[Exception], None],
        fatal: Callable[[], UserError | None] = lambda: None,
        matters: Callable[[], bool] = lambda: True,
    ) -> None:
        self.failure: Exception | None = None
        self._services = services
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
        self._ended.set()  # a question that is on its way is not waited for

    def cause(self) -> Exception | None:
        """What an error in the main thread follows from: `failure`, or a service that does not answer now."""
        if self.failure:
            return self.failure
        silent = next(
            (service.error(reason) for service in self._services if (reason := service.unavailability())), None
        )
        if silent:
            self._ended.wait(SETTLE_SECONDS)  # `fatal` knows more than the connection that broke, a moment later
        return self._fatal() or self.failure or silent

    def fail(self, failure: Exception) -> None:
        if not (self.failure or self._ended.is_set()):
            self.failure = failure
            self._on_failure(failure)

    def _run(self) -> None:
        try:
            self._look()
        except Exception as err:
            self.fail(err)

    def _look(self) -> None:
        answered = [time.monotonic()] * len(self._services)
        told = [False] * len(self._services)
        ask_at = time.monotonic() + ASK_SECONDS
        while not self._ended.wait(LOOK_SECONDS):
            if failure := self._fatal():
                return self.fail(failure)
            if time.monotonic() < ask_at:
                continue
            for number, service in enumerate(self._services):
                asked = time.monotonic()
                if not (reason := service.unavailability()):
                    answered[number], told[number] = asked, False
                    continue
                silent_seconds = time.monotonic() - answered[number]
                if silent_seconds >= TELL_SECONDS and not told[number] and self._matters():
                    told[number] = True
                    console.message(f"waiting for {service.name}: {reason}")
                if silent_seconds >= self._limit_seconds and self._matters():
                    return self.fail(service.error(f"{reason}, for {self._limit_seconds} s now"))
            ask_at = time.monotonic() + min(ASK_SECONDS, self._limit_seconds / 4)
