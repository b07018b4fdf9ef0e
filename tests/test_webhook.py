"""One message for each change of the verdict, to real servers: one that answers, refuses, fails, dawdles or is down."""

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from receiver import SECRET, Handler, Receiver, serving
from services import free_port

from steps.core.monitoring import webhook
from steps.core.monitoring.webhook import Delivery, Message, Told, deliver

ALERT = Message(
    name="churn",
    watched="predictions",
    verdict="alert",
    previous=Told(),
    reasons=["f1_macro fell to 0.61"],
    numbers={"f1_macro": 0.61, "drop": float("nan")},
    report="runs:/abc/report.html",
    model="models:/churn/3",
    run_id="abc",
)


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with serving() as server:
        monkeypatch.setenv(webhook.URL, server.url)
        yield server


def sent(message: Message = ALERT, *, answer_seconds: float = 2.0) -> Delivery:
    return deliver(message, answer_seconds=answer_seconds, wait_seconds=(0.01, 0.01))


def test_a_change_of_the_verdict_is_one_json_message(receiver: Receiver) -> None:
    line = "told the webhook of ALERT_WEBHOOK_URL: alert"
    assert sent() == Delivery(state="delivered", told=Told(verdict="alert"), line=line)
    [(path, headers, body)] = receiver.received
    assert (path, headers["Content-Type"], headers["Idempotency-Key"]) == (f"/{SECRET}", "application/json", body["id"])
    assert body == {
        "schema_version": 1,
        "id": "abc",
        "text": "churn, predictions: alert (was ok): f1_macro fell to 0.61",
        "name": "churn",
        "watched": "predictions",
        "verdict": "alert",
        "previous_verdict": "ok",
        "reasons": ["f1_macro fell to 0.61"],
        "numbers": {"f1_macro": 0.61},
        "report": "runs:/abc/report.html",
        "model": "models:/churn/3",
        "run_id": "abc",
    }


def test_the_same_verdict_as_before_is_not_told_again(receiver: Receiver) -> None:
    first = sent()
    again = sent(replace(ALERT, previous=Told.by(first.tags()), run_id="def"))
    assert again == Delivery(state="unchanged", told=Told(verdict="alert"))
    back = sent(replace(ALERT, verdict="ok", previous=Told.by(again.tags()), run_id="ghi"))
    assert back.state == "delivered"
    assert [body["verdict"] for _, _, body in receiver.received] == ["alert", "ok"]


def test_without_an_address_nothing_is_sent_and_the_change_is_told_once_there_is_one(
    monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    monkeypatch.delenv(webhook.URL)
    off = sent()
    assert off == Delivery(state="off", told=Told())
    monkeypatch.setenv(webhook.URL, receiver.url)
    assert sent(replace(ALERT, previous=Told.by(off.tags()))).state == "delivered"


def test_before_the_first_message_all_counts_as_well() -> None:
    assert Told.by({}) == Told(verdict="ok")
    assert Told.by({"webhook.told": "not one of ours"}) == Told(verdict="ok")


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_that_fails_is_asked_a_little_more_often(receiver: Receiver, status: int) -> None:
    receiver.statuses = [status, status]
    assert sent().state == "delivered"
    assert len(receiver.received) == 3
    assert len({body["id"] for _, _, body in receiver.received}) == 1  # a receiver can tell that they are one


def test_what_did_not_get_through_is_told_in_one_line_and_by_the_next_run(receiver: Receiver) -> None:
    receiver.statuses = [500] * 3
    failed = sent()
    assert failed.tags() == {"webhook": "failed", "webhook.told": "ok", "webhook.pending": "alert abc"}
    assert failed.line == (
        "the webhook of ALERT_WEBHOOK_URL was not told of the verdict alert: it answered with 500; "
        "the next run tells it again"
    )
    later = sent(replace(ALERT, previous=Told.by(failed.tags()), run_id="def"))
    assert later.tags() == {"webhook": "delivered", "webhook.told": "alert", "webhook.pending": ""}
    assert {body["id"] for _, _, body in receiver.received} == {"abc"}  # it was sent four times, and is one


def test_a_change_that_was_taken_back_before_it_got_through_is_not_told(receiver: Receiver) -> None:
    receiver.statuses = [500] * 3
    failed = sent(replace(ALERT, verdict="too little data"))
    assert Told.by(failed.tags()).pending_verdict == "too little data"
    back = sent(replace(ALERT, verdict="ok", previous=Told.by(failed.tags())))
    assert back == Delivery(state="unchanged", told=Told())
    warning = sent(replace(ALERT, verdict="warn", previous=Told.by(failed.tags()), run_id="def"))
    assert warning.state == "delivered"
    assert receiver.received[-1][2]["id"] == "def"  # another change


@pytest.mark.parametrize("status", [400, 404, 302])
def test_a_refusal_or_a_redirection_is_not_repeated(receiver: Receiver, status: int) -> None:
    receiver.statuses = [status]
    assert sent().line.endswith(f": it answered with {status}; the next run tells it again")
    assert len(receiver.received) == 1


def test_a_server_that_is_silent_is_given_up_and_not_asked_twice_as_it_may_have_the_message(receiver: Receiver) -> None:
    release = threading.Event()
    receiver.before = lambda handler: release.wait(5)
    began = time.monotonic()
    failed = sent(answer_seconds=0.3)
    assert time.monotonic() - began < 2
    assert "it did not answer within 0.3 seconds" in failed.line
    assert len(receiver.received) == 1
    release.set()


def test_a_server_that_answers_a_byte_at_a_time_is_given_up(receiver: Receiver) -> None:
    def dawdle(handler: Handler) -> None:
        for letter in b"HTTP/1.1 200 OK\r\n" * 10:
            handler.wfile.write(bytes([letter]))
            time.sleep(0.1)

    receiver.before = dawdle
    began = time.monotonic()
    assert sent(answer_seconds=0.5).state == "failed"
    assert time.monotonic() - began < 2


def test_a_server_that_closes_the_connection_is_not_asked_twice(receiver: Receiver) -> None:
    receiver.before = lambda handler: handler.connection.shutdown(socket.SHUT_RDWR)
    assert "it closed the connection without an answer" in sent().line
    assert len(receiver.received) == 1


def test_a_server_that_is_down_does_not_fail_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(webhook.URL, f"http://127.0.0.1:{free_port()}/{SECRET}")
    failed = sent()
    assert (failed.state, failed.told.verdict) == ("failed", "ok")
    assert "it cannot be reached" in failed.line


@pytest.mark.parametrize("url", [f"hooks.example.com/{SECRET}", f"ftp://a/{SECRET}", f"http://[::{SECRET}", "http://"])
def test_what_is_no_address_is_told(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv(webhook.URL, url)
    assert "it is no address that begins with http:// or https://" in sent().line


@pytest.mark.parametrize("what", ["down", "500", "silent", "refused", "no address", "certificate"])
def test_the_address_is_in_nothing_that_is_left(
    what: str,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    release = threading.Event()
    receiver.statuses = {"500": [500] * 3, "refused": [403]}.get(what, [])
    if what == "silent":
        receiver.before = lambda handler: release.wait(5)
    if what == "down":
        monkeypatch.setenv(webhook.URL, f"http://127.0.0.1:{free_port()}/{SECRET}")
    if what == "no address":
        monkeypatch.setenv(webhook.URL, f"htp:{SECRET}")
    if what == "certificate":
        monkeypatch.setenv(webhook.URL, receiver.url.replace("http:", "https:"))
    with caplog.at_level(logging.INFO):
        failed = sent(answer_seconds=0.3)
    release.set()
    assert failed.state == "failed"
    left = [failed.line, str(failed.tags()), repr(failed), caplog.text, *capfd.readouterr()]
    assert [text for text in left if SECRET in text] == []


def test_a_message_is_bounded() -> None:
    body = replace(ALERT, reasons=["x" * 10_000] * 100).as_dict()
    assert len(json.dumps(body)) < 30_000
