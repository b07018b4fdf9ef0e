"""A service that goes silent: the work that waits for it ends within the limit, and says for whom it waited."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from steps.core.errors import SettingInvalid, SparkUnavailable
from steps.core.process import waiting

LIMIT_SECONDS = 1
SILENT = "it does not answer"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(waiting.LIMIT, str(LIMIT_SECONDS))
    monkeypatch.setattr(waiting, "PROBE_INTERVAL_SECONDS", 0.1)
    monkeypatch.setattr(waiting, "ANNOUNCE_SECONDS", 0.3)


@pytest.fixture
def ended() -> threading.Event:
    return threading.Event()


def service(why_not: Callable[[], str]) -> waiting.Service:
    return waiting.Service(
        name="Spark at sc://there", unavailability=why_not, error=lambda why: SparkUnavailable(why, next="-")
    )


def watch(ended: threading.Event, why_not: Callable[[], str], **settings: Callable[[], object]) -> waiting.Watch:
    return waiting.Watch(service(why_not), on_failure=lambda failure: ended.set(), **settings)  # type: ignore[arg-type]


def test_a_silent_service_ends_the_wait_within_the_limit_and_is_named_before(
    ended: threading.Event, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    with watch(ended, lambda: SILENT) as watching:
        assert ended.wait(5 * LIMIT_SECONDS)
    assert LIMIT_SECONDS <= time.monotonic() - began < 3 * LIMIT_SECONDS
    assert "it does not answer, for 1 s now" in str(watching.failure)
    assert capsys.readouterr().err == "waiting for Spark at sc://there: it does not answer\n"


def test_a_service_that_answers_now_and_then_is_waited_for(ended: threading.Event) -> None:
    answers = _every_third()
    with watch(ended, lambda: next(answers)) as watching:
        assert not ended.wait(2 * LIMIT_SECONDS)
    assert watching.failure is None


def _every_third() -> Iterator[str]:
    while True:
        yield from ("", SILENT, SILENT)


def test_a_silent_service_that_nobody_waits_for_ends_nothing_until_somebody_does(ended: threading.Event) -> None:
    waits = threading.Event()
    with watch(ended, lambda: SILENT, matters=waits.is_set):
        assert not ended.wait(2 * LIMIT_SECONDS)
        waits.set()
        assert ended.wait(LIMIT_SECONDS)


def test_what_is_known_to_have_ended_is_not_waited_for(ended: threading.Event) -> None:
    gone = SparkUnavailable("its JVM was ended", next="run it again")
    with watch(ended, lambda: "", fatal=lambda: gone) as watching:
        assert ended.wait(LIMIT_SECONDS)
    assert watching.failure is gone


def test_an_unforeseen_error_in_the_thread_ends_the_wait_too(ended: threading.Event) -> None:
    def broken() -> str:
        raise KeyError("a bug")

    with watch(ended, broken) as watching:
        assert ended.wait(LIMIT_SECONDS)
    assert isinstance(watching.failure, KeyError)


def test_after_an_error_the_end_of_a_process_explains_it_better_than_its_silence(ended: threading.Event) -> None:
    """The connection breaks a moment before whoever started that process has seen its end."""
    failures: list[SparkUnavailable] = []
    watching = watch(ended, lambda: SILENT, fatal=lambda: failures[0] if failures else None)
    threading.Timer(0.3, failures.append, [SparkUnavailable("its JVM was ended", next="run it again")]).start()
    assert "its JVM was ended" in str(watching.cause())


def test_an_error_that_follows_from_no_service_keeps_its_own_reason(ended: threading.Event) -> None:
    assert watch(ended, lambda: "").cause() is None


def test_a_wait_that_takes_long_says_for_whom_once(capsys: pytest.CaptureFixture[str]) -> None:
    with waiting.announced("Spark to start"):
        time.sleep(1)
    assert capsys.readouterr().err == "waiting for Spark to start\n"


def test_a_wait_that_is_short_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with waiting.announced("Spark to start"):
        pass
    time.sleep(0.5)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("text", ["soon", "0", "-5", "1.5"])
def test_a_limit_that_is_no_number_of_seconds_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(waiting.LIMIT, text)
    with pytest.raises(SettingInvalid, match=f"WORKFLOW_ANSWER_SECONDS={text} in the environment"):
        waiting.limit_seconds()


def test_a_minute_is_the_limit_where_none_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(waiting.LIMIT)
    assert waiting.limit_seconds() == 60
