"""Long work shows how far it has come: on a terminal, in a log and in MLflow; short work shows nothing."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from place import PROJECT, Place, new_database, until
from small import flowers, flowers_config

from steps.core.errors import SettingInvalid
from steps.core.process import progress

WORK = """
import sys, time
from steps.core.process import console, interruption, progress
progress.SHORT_SECONDS, progress.REFRESH_SECONDS = {short}, 0.05
with interruption.handling_signals(), progress.of_step("ingest", lambda numbers, seconds: None):
    with progress.shown() as shown:
        for number in range({steps}):
            time.sleep(0.05)
            shown.add("rows_read", 1000, total=1000 * {steps})
            if number == {steps} - 3:
                console.message("a remark")
    print("ingest: table = /lake/iris@v0", flush=True)
"""
LINE = r"ingest: [\d,]+ of 40,000 rows read, \d:\d\d so far, \d:\d\d left"
INTERVAL_SECONDS = 0.5  # of a log in these tests


def work(steps: int, *, short: float = 0.3) -> str:
    """A program that works for so many steps of a twentieth of a second; less than `short` seconds show nothing."""
    return WORK.format(steps=steps, short=short)


class Terminal:
    """A pseudo-terminal that a command has as its standard error."""

    def __init__(self, *, columns: int = 100) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.slave, self.columns = slave, columns
        self.written = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while True:
            try:
                self.written += os.read(self._master, 2**16)
            except OSError:  # nobody has it open any more
                return

    def close(self) -> None:
        os.close(self.slave)
        self._thread.join(5)
        os.close(self._master)

    def frames(self) -> list[str]:
        """What the last line was, each time that it was rewritten."""
        return re.findall(r"\r\x1b\[K([^\r\n]+)", self.written.decode())

    def screen(self) -> list[str]:
        """What a user sees in the end, line by line: \\r goes to the beginning of a line, and ESC [ K empties it."""
        lines, column = [""], 0
        for token in re.findall(r"\x1b\[K|\r|\n|[^\r\n\x1b]+", self.written.decode()):
            if token == "\r":
                column = 0
            elif token == "\n":
                lines.append("")
                column = 0
            elif token == "\x1b[K":
                lines[-1] = lines[-1][:column]
            else:
                lines[-1] = lines[-1][:column] + token + lines[-1][column + len(token) :]
                column += len(token)
        return lines


def started(program: str, *, err: int, **extra: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "TERM": "xterm", **extra}
    return subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=err, env=environment, text=True
    )


def on_terminal(program: str, *, columns: int = 100, **extra: str) -> tuple[Terminal, str]:
    """The terminal when the program has ended, and its standard output."""
    terminal = Terminal(columns=columns)
    out, _ = started(program, err=terminal.slave, **extra).communicate(timeout=60)
    terminal.close()
    return terminal, out


def in_log(program: str, **extra: str) -> tuple[str, list[str]]:
    """The standard output of a program, and the lines of its standard error, which is no terminal."""
    out, err = started(program, err=subprocess.PIPE, **extra).communicate(timeout=60)
    return out, err.splitlines()


def is_one_an_interval(lines: Sequence[str], *, began: float) -> bool:
    """Whether there are some, and not more than there were intervals since a program began."""
    return 2 <= len(lines) <= (time.monotonic() - began) / INTERVAL_SECONDS


class TestOnATerminal:
    def test_a_line_is_rewritten_and_gone_in_the_end(self) -> None:
        terminal, out = on_terminal(work(40))
        frames = terminal.frames()
        assert len(set(frames)) > 10
        assert all(re.fullmatch(LINE, frame) for frame in frames if frame != "a remark"), frames
        assert terminal.screen() == ["a remark", ""]
        assert out == "ingest: table = /lake/iris@v0\n"

    def test_it_is_gone_when_the_work_is_interrupted(self) -> None:
        terminal = Terminal()
        process = started(work(2000), err=terminal.slave)
        assert until(lambda: len(terminal.frames()) > 3, seconds=20)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=20)
        terminal.close()
        assert (process.returncode, out) == (130, "")
        assert terminal.screen() == [""]

    def test_it_is_cut_where_the_terminal_ends(self) -> None:
        terminal, _ = on_terminal(work(20), columns=30)
        assert {len(frame) for frame in terminal.frames() if frame != "a remark"} == {29}
        assert terminal.screen() == ["a remark", ""]

    def test_short_work_shows_nothing(self) -> None:
        terminal, out = on_terminal(work(4, short=10))
        assert terminal.screen() == ["a remark", ""]
        assert terminal.frames() == []
        assert out == "ingest: table = /lake/iris@v0\n"

    def test_one_that_cannot_rewrite_a_line_gets_those_of_a_log(self) -> None:
        began = time.monotonic()
        terminal, _ = on_terminal(work(40), TERM="dumb", WORKFLOW_PROGRESS_SECONDS=str(INTERVAL_SECONDS))
        assert b"\x1b" not in terminal.written
        assert is_one_an_interval([line for line in terminal.screen() if re.fullmatch(LINE, line)], began=began)


class TestInALog:
    def test_a_line_comes_each_interval_at_most(self) -> None:
        began = time.monotonic()
        out, lines = in_log(work(40), WORKFLOW_PROGRESS_SECONDS=str(INTERVAL_SECONDS))
        lines.remove("a remark")
        assert is_one_an_interval(lines, began=began)
        assert all(re.fullmatch(LINE, line) for line in lines), lines
        assert out == "ingest: table = /lake/iris@v0\n"

    def test_work_of_less_than_an_interval_shows_nothing(self) -> None:
        out, lines = in_log(work(20))
        assert lines == ["a remark"]
        assert out == "ingest: table = /lake/iris@v0\n"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


class TestText:
    def test_it_says_what_is_done_how_good_it_is_and_the_time_left(self, clock: list[float]) -> None:
        work = progress.Progress()
        work.add("rounds", 25, total=100)
        work.note("validation_mlogloss", 0.351234)
        assert work.text() == "25 of 100 rounds, validation mlogloss 0.3512, 0:00 so far, 0:00 left"
        clock[0] += 30
        work.add("rounds", 25, total=100)
        clock[0] += 10
        assert work.text() == "50 of 100 rounds, validation mlogloss 0.3512, 0:40 so far, 0:20 left"
        assert work.numbers() == {"rounds": 50, "validation_mlogloss": 0.351234}

    def test_without_a_total_no_time_is_left_and_bytes_are_shown_as_megabytes(self, clock: list[float]) -> None:
        work = progress.Progress()
        clock[0] += 3605
        work.add("rows_read", 1_234_567)
        assert work.text() == "1,234,567 rows read, 1:00:05 so far"
        work.add("bytes_read", 64_000_000, total=128_000_000)
        assert work.text() == "1,234,567 rows read, 64 of 128 MB read, 1:00:05 so far, 1:00:05 left"

    def test_what_was_done_before_does_not_count_for_the_pace(self, clock: list[float]) -> None:
        work = progress.Progress()
        work.set("trials", 40, total=60)
        assert work.text() == "40 of 60 trials, 0:00 so far"
        clock[0] += 10
        work.set("trials", 50, total=60)
        assert work.text() == "50 of 60 trials, 0:10 so far, 0:10 left"

    def test_what_is_counted_anew_has_a_pace_of_its_own(self, clock: list[float]) -> None:
        work = progress.Progress()
        for done in (0, 8):
            work.set("tasks", done, total=8)
            clock[0] += 100
        for done in (0, 1):
            work.set("tasks", done, total=4)
            clock[0] += 2
        assert work.text() == "1 of 4 tasks, 3:24 so far, 0:04 left"

    def test_before_anything_is_counted_there_is_none(self) -> None:
        work = progress.Progress()
        work.note("validation_mlogloss", 0.3)
        assert work.text() == ""


def collected(block: Iterator[object]) -> list[tuple[Mapping[str, float], int]]:
    """What a step's MLflow run gets while a generator is run through."""
    logged: list[tuple[Mapping[str, float], int]] = []
    with progress.of_step("infer", lambda numbers, seconds: logged.append((numbers, seconds))):
        for _ in block:
            pass
    return logged


class TestNumbers:
    def test_they_are_logged_each_interval_and_in_the_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(progress.INTERVAL, "0.1")

        def batches() -> Iterator[list[int]]:
            for _ in range(10):
                time.sleep(0.05)
                yield [1, 2, 3]

        began = time.monotonic()
        logged = collected(progress.counted(batches(), "rows_scored", total=30))
        assert 2 <= len(logged) <= (time.monotonic() - began) / 0.1 + 1
        rows = [numbers["rows_scored"] for numbers, _ in logged]
        assert rows == sorted(rows)
        assert rows[-1] == 30

    def test_none_are_logged_of_short_work(self) -> None:
        assert collected(progress.counted(([1] for _ in range(100)), "rows_scored")) == []

    def test_a_block_within_another_counts_beside_it(self) -> None:
        with progress.shown() as outer:
            outer.set("tasks", 1, total=2)
            list(progress.counted([[1, 2]], "rows_read"))
        assert outer.numbers() == {"tasks": 1, "rows_read": 2}


@pytest.mark.parametrize("text", ["0", "-1", "a minute", "inf", "nan"])
def test_an_interval_that_is_no_time_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(progress.INTERVAL, text)
    with (
        pytest.raises(SettingInvalid, match=f"WORKFLOW_PROGRESS_SECONDS={text} in the environment"),
        progress.of_step("ingest", lambda numbers, seconds: None),
    ):
        pass


@pytest.mark.spark
def test_train_shows_its_rounds_in_a_log_and_keeps_them_as_metrics(tmp_path: Path) -> None:
    place = Place(tmp_path, {"WORKFLOW_PROGRESS_SECONDS": "0.1"})
    new_database(tmp_path)
    flowers(300).to_csv(tmp_path / "flowers.csv", index=False)
    settings = flowers_config()
    config = place.config(
        name="flowers",
        source={"uri": "flowers.csv"},
        columns={name: {"type": settings.columns[name].type} for name in settings.columns},
        target="species",
        model={"name": "flowers_model", "num_boost_round": 500, "early_stopping_rounds": 500},
    )
    assert place.step("ingest", config=config).exit_code == 0
    ended = place.step("train", config=config)
    assert ended.exit_code == 0, ended.text
    assert ended.out == "train: model = models:/flowers_model/1\n"
    line = r"train: \d+ of 500 rounds, validation mlogloss [\d.]+, \d:\d\d so far, \d:\d\d left"
    assert any(re.fullmatch(line, shown) for shown in ended.err.splitlines()), ended.err
    run = next(run for run in place.runs() if run.info.run_name == "train")
    assert run.data.metrics["progress.rounds"] == 500
    history = place.client.get_metric_history(run.info.run_id, "progress.rounds")
    assert [metric.value for metric in history] == sorted(metric.value for metric in history)
    losses = place.client.get_metric_history(run.info.run_id, "validation_mlogloss")
    assert run.data.metrics["progress.validation_mlogloss"] == losses[-1].value
