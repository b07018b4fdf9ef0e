"""The model that is served now: a pinned version, or the one that an alias names, which a thread asks for.

A new version is loaded beside the old one and then takes its place by one assignment. Who answers a request takes the
version once, at its beginning, so no answer is of two.
"""

import gc
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from steps.core.errors import UserError
from steps.core.models import registry
from steps.core.process import console
from steps.core.redaction import redacted
from steps.core.serving import served_model
from steps.core.serving.served_model import ServedModel
from steps.core.tracking import server

logger = logging.getLogger(__name__)

RETRY_SECONDS = 60  # until a version that could not be loaded is tried again
EXPECTED = (UserError, MlflowException, OSError, SQLAlchemyError)  # of a registry, a store or a network


@dataclass(frozen=True)
class Failure:
    """A version that was not loaded, why, and when that was tried, by the monotonic clock."""

    version: str
    reason: str
    at: float


class FollowedModel:
    """`now` is what answers. `problem` says why it is not what the alias names, or that nobody knows; "" else."""

    def __init__(
        self,
        uri: str,
        *,
        poll_seconds: float,
        check: Callable[[ServedModel], None] = lambda model: None,
        on_load: Callable[[ServedModel], None] = lambda model: None,
    ) -> None:
        """Load what `uri` names. ModelNotFound, or the errors of served_model.load(), or those of `check`, which is
        asked of each version before it answers."""
        version = registry.resolve(uri)
        self.uri = uri
        self.alias = uri.rpartition("@")[2] if "@" in uri else ""
        self.problem = ""
        self._poll_seconds = poll_seconds
        self._check, self._on_load = check, on_load
        self._read_at = time.monotonic()
        self._failure: Failure | None = None
        self._ended = threading.Event()
        self.now = self._load(version)
        self._loaded()

    def start(self) -> None:
        """Follow the alias, where there is one, until stop()."""
        if self.alias:
            threading.Thread(target=self._follow, name="alias", daemon=True).start()

    def stop(self) -> None:
        """Look at the alias no more."""
        self._ended.set()

    @property
    def seconds_since_read(self) -> float:
        """How old what is known of the alias is; 0 for a pinned version, which never changes."""
        return time.monotonic() - self._read_at if self.alias else 0.0

    def check(self) -> None:
        """Ask for the alias once, and serve what it names if that can be loaded."""
        name = self.now.name
        try:
            server.check_answers(mlflow.get_registry_uri())
            number = registry.aliases_of(name).get(self.alias)
            self._read_at = time.monotonic()
            if number == self.now.version:
                return self._say("")
            version = registry.find(name, number) if number else None
        except Exception as err:  # each kind of registry has its own; what answers now goes on
            return self._say(f"the registry does not say what {self.uri} names: {_first_line(err)}", err)
        if version is None:
            return self._say(f"{self.uri} names nothing now")
        self._replace(version)

    def _follow(self) -> None:
        while not self._ended.wait(self._poll_seconds):
            self.check()

    def _replace(self, version: ModelVersion) -> None:
        number, before, failure = str(version.version), self.now.uri, self._failure
        if failure and failure.version == number and time.monotonic() - failure.at < RETRY_SECONDS:
            return self._say(failure.reason)
        try:
            self.now = self._load(version)
        except Exception as err:  # the code that is logged with a version is run; the old one goes on
            reason = f"{registry.uri_of(version)} is not served: {_first_line(err)}"
            self._failure = Failure(number, reason, time.monotonic())
            return self._say(reason, err)
        self._failure, self.problem = None, ""
        console.message(f"serve: {self.now.uri} answers in place of {before}, as {self.alias} names it now")
        self._loaded()

    def _load(self, version: ModelVersion) -> ServedModel:
        model = served_model.load(version)
        self._check(model)
        return model

    def _loaded(self) -> None:
        self._on_load(self.now)
        gc.collect()
        gc.freeze()  # a model stays: looking through it for garbage would make requests wait

    def _say(self, problem: str, error: Exception | None = None) -> None:
        """Let `problem` be known in the log, once, and to who asks for the server's health; with the traceback of an
        `error` that is none of EXPECTED."""
        if problem != self.problem:
            console.message(f"serve: {problem or f'{self.uri} can be read again'}; {self.now.uri} answers")
            if error and not isinstance(error, EXPECTED):
                logger.error("it came unexpected:", exc_info=error)
        self.problem = problem


def _first_line(error: Exception) -> str:
    return redacted(str(error).partition("\n")[0])
