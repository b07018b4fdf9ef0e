"""Tell a change of the verdict to whoever waits for it: one JSON message to the address in ALERT_WEBHOOK_URL.

The address is a secret, as whoever knows it may send to it: it is in no message, log, tag or error of ours. What is
told of a failure is its kind, since the errors of HTTP clients hold the address.
"""

import json
import math
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import urlsplit

import requests
import urllib3

from steps.core.monitoring.findings import WORST_FIRST, Level

URL = "ALERT_WEBHOOK_URL"  # environment variable
# Tags on a run: what became of its message, the verdict that the receiver knows, and "<verdict> <id>" of a message that
# did not get through.
STATE, TOLD, PENDING = "webhook", "webhook.told", "webhook.pending"
SCHEMA_VERSION = 1  # of the message; new keys do not raise it
ATTEMPTS = 3
WAIT_SECONDS = (1.0, 2.0)  # between them
ANSWER_SECONDS = 5.0  # for each attempt, from its start to the end of the answer
MOST_REASONS, REASON_CHARACTERS = 20, 500

type State = Literal["delivered", "failed", "unchanged", "off"]


@dataclass(frozen=True, kw_only=True)
class Told:
    """The `verdict` that the receiver knows, and of a message that did not get through since, `pending_verdict` and
    `pending_id`, "" where there is none."""

    verdict: Level = "ok"
    pending_verdict: str = ""
    pending_id: str = ""

    @classmethod
    def by(cls, tags: Mapping[str, str]) -> "Told":
        """By the tags of the newest run that has TOLD; before the first one all counts as well."""
        verdict: Level = next((level for level in WORST_FIRST if level == tags.get(TOLD)), "ok")
        pending_verdict, _, pending_id = tags.get(PENDING, "").rpartition(" ")
        return cls(verdict=verdict, pending_verdict=pending_verdict, pending_id=pending_id)

    def tags(self) -> dict[str, str]:
        """As the run's tags, by which the next run knows it."""
        return {TOLD: self.verdict, PENDING: f"{self.pending_verdict} {self.pending_id}".strip()}


@dataclass(frozen=True, kw_only=True)
class Message:
    """`watched` says which rows were, and `previous` what was told of them before. `report` and `model` are URIs."""

    name: str
    watched: str
    verdict: Level
    previous: Told
    reasons: Sequence[str]
    numbers: Mapping[str, float]
    report: str
    model: str
    run_id: str

    @property
    def id(self) -> str:
        """The run that saw this change first: the same where another run sends the message again, by which a receiver
        knows it again."""
        is_again = self.previous.pending_verdict == self.verdict
        return self.previous.pending_id if is_again else self.run_id

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        reasons = [reason[:REASON_CHARACTERS] for reason in self.reasons[:MOST_REASONS]]
        return {
            "schema_version": SCHEMA_VERSION,
            "id": self.id,
            "text": f"{self.name}, {self.watched}: {self.verdict} (was {self.previous.verdict}): {'; '.join(reasons)}",
            "name": self.name,
            "watched": self.watched,
            "verdict": self.verdict,
            "previous_verdict": self.previous.verdict,
            "reasons": reasons,
            "numbers": {name: value for name, value in sorted(self.numbers.items()) if math.isfinite(value)},
            "report": self.report,
            "model": self.model,
            "run_id": self.run_id,
        }


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """What became of a message: what the receiver has been `told` now, and a `line` for the user, "" for none."""

    state: State
    told: Told
    line: str = ""

    def tags(self) -> dict[str, str]:
        """As the run's tags: what became of the message, and what was told."""
        return {STATE: self.state, **self.told.tags()}


def deliver(
    message: Message, *, answer_seconds: float = ANSWER_SECONDS, wait_seconds: Sequence[float] = WAIT_SECONDS
) -> Delivery:
    """Send a message whose verdict is another one than that which was told before, where there is an address.

    It ends within ATTEMPTS times `answer_seconds` and the waits between. What did not get through is not told, so that
    the next run sends it again. An attempt that was not answered in time is not repeated at once: the receiver may have
    it. Nothing is raised.
    """
    url = os.environ.get(URL, "")
    if not url:
        return Delivery(state="off", told=message.previous)
    if message.verdict == message.previous.verdict:
        return Delivery(state="unchanged", told=Told(verdict=message.verdict))
    failure = _address_mistake(url)
    for attempt in range(0 if failure else ATTEMPTS):
        outcome = _attempt(url, message.as_dict(), answer_seconds=answer_seconds)
        failure = outcome.failure
        if not failure:
            line = f"told the webhook of {URL}: {message.verdict}"
            return Delivery(state="delivered", told=Told(verdict=message.verdict), line=line)
        if not outcome.may_be_repeated or attempt == ATTEMPTS - 1:
            break
        time.sleep(wait_seconds[attempt])
    line = f"the webhook of {URL} was not told of the verdict {message.verdict}: {failure}; the next run tells it again"
    told = replace(message.previous, pending_verdict=message.verdict, pending_id=message.id)
    return Delivery(state="failed", told=told, line=line)


@dataclass(kw_only=True)
class _Outcome:
    """Why one attempt failed, "" where it did not."""

    failure: str
    may_be_repeated: bool = False


def _attempt(url: str, body: Mapping[str, Any], *, answer_seconds: float) -> _Outcome:
    """One POST. It has a thread of its own: time-outs of the client hold for each piece of an answer, of which a slow
    server may send any number."""
    late = _Outcome(failure=f"it did not answer within {answer_seconds:g} seconds")
    outcomes: list[_Outcome] = []
    thread = threading.Thread(
        target=lambda: outcomes.append(_post(url, body, answer_seconds=answer_seconds)), daemon=True
    )
    thread.start()
    thread.join(answer_seconds)
    return outcomes[0] if outcomes else late


def _post(url: str, body: Mapping[str, Any], *, answer_seconds: float) -> _Outcome:
    content = json.dumps(body, allow_nan=False, ensure_ascii=False).encode()
    headers = {"Content-Type": "application/json", "Idempotency-Key": str(body["id"])}
    try:
        with requests.post(
            url, data=content, headers=headers, timeout=answer_seconds, allow_redirects=False, stream=True
        ) as answer:
            status = answer.status_code
    except requests.ReadTimeout:
        return _Outcome(failure=f"it did not answer within {answer_seconds:g} seconds")
    except requests.exceptions.SSLError:
        return _Outcome(failure="no trusted connection (TLS) can be made to it")
    except requests.ConnectionError as err:  # time-outs of connecting too
        if err.args and isinstance(err.args[0], urllib3.exceptions.ProtocolError):
            return _Outcome(failure="it closed the connection without an answer")
        return _Outcome(failure="it cannot be reached", may_be_repeated=True)
    except (requests.RequestException, UnicodeError, ValueError):
        return _Outcome(failure="the address cannot be used")
    if 200 <= status < 300:
        return _Outcome(failure="")
    return _Outcome(failure=f"it answered with {status}", may_be_repeated=status == 429 or status >= 500)


def _address_mistake(url: str) -> str:
    try:
        parsed = urlsplit(url)
        is_address = parsed.scheme in ("http", "https") and bool(parsed.hostname)
    except ValueError:
        is_address = False
    return "" if is_address else "it is no address that begins with http:// or https://"
