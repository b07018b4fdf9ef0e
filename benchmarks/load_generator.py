"""Load on a server by vegeta (https://github.com/tsenart/vegeta), a program of its own, and what it measured."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.process_tree import CommandFailed

TIMEOUT_SECONDS = 10  # of one request, which has failed then


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One load: vegeta's file of all answers, and how long it was."""

    results: Path
    seconds: float


def attack(url: str, request: Path, *, seconds: int, rate: int = 0, connections: int = 1) -> Attack:
    """Post a body, a file, `rate` times a second; with rate 0, by so many connections as often as they are answered."""
    name = f"attack-{time.monotonic_ns()}"
    targets, results = (request.with_name(f"{name}.{ending}") for ending in ("targets", "results"))
    targets.write_text(f"POST {url}\nContent-Type: application/json\n@{request}\n")
    speed = [f"-rate={rate}/s"] if rate else ["-rate=0", f"-workers={connections}", f"-max-workers={connections}"]
    words = ["attack", f"-targets={targets}", f"-output={results}", f"-duration={seconds}s", *speed]
    _vegeta(*words, f"-timeout={TIMEOUT_SECONDS}s")
    return Attack(results=results, seconds=seconds)


def summary(attacks: Sequence[Attack]) -> dict[str, float]:
    """Of all answers: their number, the rate a second, latencies in ms. CommandFailed unless all had status 200."""
    words = ["report", "-type=json", *(str(attack.results) for attack in attacks)]
    measured: dict[str, Any] = json.loads(_vegeta(*words))
    if measured["status_codes"].keys() != {"200"}:
        raise CommandFailed(words, f"requests were answered by {measured['status_codes']}", str(measured["errors"]))
    milliseconds = {name: nanoseconds / 1e6 for name, nanoseconds in measured["latencies"].items()}
    return {
        "requests": measured["requests"],
        "rate": measured["requests"] / sum(attack.seconds for attack in attacks),
        "median": milliseconds["50th"],
        "p99": milliseconds["99th"],
        "max": milliseconds["max"],
    }


def _vegeta(*words: str) -> str:
    """What it prints; from PATH, or from where `make bench` builds it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tabular-workflow" / "bin"
    program = shutil.which("vegeta", path=os.pathsep.join([str(cache), os.environ["PATH"]]))
    if program is None:
        raise CommandFailed(["vegeta", *words], "is not installed; `make bench` builds it", "")
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CommandFailed([program, *words], f"exit {done.returncode}", done.stdout + done.stderr)
    return done.stdout
