"""Time the whole workflow as its user meets it, beside three plain scripts and an empty project.

Reads   the project it lies in, benchmarks/plain/, benchmarks/empty_project/
Writes  benchmarks/RESULTS.md, wholly, when everything was measured; the same text on stdout always
Fails   exit 1 with the command's output when one fails, hangs, leaves processes behind or misses a row
"""

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from deltalake import DeltaTable

from benchmarks.process_tree import ALL_TOGETHER, SAMPLE_SECONDS, WARM_PROCESS, CommandFailed, Measurement, measure
from steps.core.spark import jars, java

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
PACKAGES = ("mlflow", "pyspark", "delta-spark", "deltalake", "xgboost", "scikit-learn", "pandas", "pyarrow")
FLOWERS = 150  # rows of Iris, each of which must get a prediction
IDLE_STEPS = 5
TITLES = {
    "plain": "three plain scripts",
    "project": "`mlflow run . -e main`",
    "again": "the same again, nothing changed",
    "changed": "again with `-P max_depth=3`",
    "empty": "empty `mlflow run`",
    "empty again": "the same again, the store is there",
    "idle": "`mlflow run` of a workflow of one step that does nothing",
    "idle steps": f"the same of {IDLE_STEPS} such steps",
}
FOLDERS = {"plain": "plain", "project": "project", "again": "project", "changed": "project"}  # of the others: "empty"
FOLDERS |= {"idle": "idle", "idle steps": "idle steps"}
# Settings of the caller that would lead a fresh run to an old store, lake, Spark or interpreter.
NOT_INHERITED = ("MLFLOW_", "SPARK_", "PYSPARK_", "WORKFLOW_", "LAKE_URI")
# Kinds of process in the order of the memory table; others follow.
KINDS = ("mlflow CLI", "main.py", WARM_PROCESS, "ingest", "train", "evaluate", "infer", "JVM", "Python workers")

LEFT = """\
## Where the time is that is left

A run that changes nothing is an empty `mlflow run` and main's own process: most of that imports MLflow's client, the
rest checks its database, finds four earlier runs and looks at their results. Leaving modules of MLflow out saved 0.4 s
and was given up, as it took a mechanism that each release of theirs could break. A hyperparameter that changes adds
train, evaluate and infer, each without its imports, which a warm process has done. The steps that do nothing wait for
these imports, too, without any use for them: what a step costs beyond its own work is less than the row above says."""

HOW = f"""\
## How it was measured

Each row is a whole process from start to exit, as its user waits for it. Every repeat gets new folders with a
new SQLite tracking store and a new lake each, so nothing earlier can be reused but by the rows that say "again",
which follow the first run of theirs where that stood. The workloads take turns within each repeat, so that a slow
minute of the machine hits all of them. After each one its JVM is waited for, outside the clock, and both chains
must have written {FLOWERS} predictions. Spark's jars were downloaded before the clock started: {{warm_up}}. The
ratio is between the medians. What a step costs beyond its own work is the difference between a workflow of one and of
{IDLE_STEPS} steps that do nothing (`benchmarks/idle_project/`), by step.

The plain scripts are in `benchmarks/plain/`: a classic Spark session each, library defaults, no contract, no
gate. The project does more work in its time, and its JVM starts from the class archive if one is present (above),
which is made once a machine, outside the clock; the plain scripts have none. The empty project runs
`python -c pass`: what `mlflow run` costs by itself.

Memory is the kernel's peak resident size (VmHWM) of the largest single process of a kind, the highest over the
repeats, looked up every {SAMPLE_SECONDS} s; what a process adds in its last moment is missed. "{ALL_TOGETHER}" is
the highest sum of resident sizes at one moment; pages that processes share count once for each of them."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Time the workflow and write benchmarks/RESULTS.md.")
    parser.add_argument("--repeats", type=int, default=3, help="timed rounds (default 3)")
    parser.add_argument("--only", default=",".join(TITLES), help=f"some of {','.join(TITLES)}; writes no file")
    parser.add_argument("--warm-up", action=argparse.BooleanOptionalAction, default=True, help="an untimed first round")
    args = parser.parse_args(argv)
    chosen = args.only.split(",")
    if args.repeats < 1 or not set(chosen) <= set(TITLES):
        parser.error(f"--repeats takes 1 or more, --only takes some of {','.join(TITLES)}")

    load = os.getloadavg()[0]
    try:
        if args.warm_up:
            run_round(chosen, name="warm-up")
        rounds = [run_round(chosen, name=f"repeat {number} of {args.repeats}") for number in range(1, args.repeats + 1)]
    except CommandFailed as err:
        print(err, file=sys.stderr)
        return 1
    warm_up = "an untimed round came first" if args.warm_up else "by earlier runs, there was no untimed round"
    text = report(rounds, load=load, warm_up=warm_up)
    print(text)
    if set(chosen) == set(TITLES):
        RESULTS.write_text(text)
    return 0


def run_round(chosen: Sequence[str], *, name: str) -> dict[str, list[Measurement]]:
    """Each chosen workload once, in the round's folder: its processes by the workload's name."""
    done = {}
    with tempfile.TemporaryDirectory(prefix="benchmark-", ignore_cleanup_errors=True) as folder:
        for workload in chosen:
            place = Path(folder).resolve() / FOLDERS.get(workload, "empty")
            place.mkdir(exist_ok=True)
            done[workload] = list(WORKLOADS[workload](place))
            print(f"{name}: {workload} {seconds_of(done[workload]):.1f} s", file=sys.stderr, flush=True)
    return done


def run_plain(folder: Path) -> Iterator[Measurement]:
    """The three scripts one after another."""
    for script in ("ingest", "train", "infer"):
        path = ROOT / "benchmarks" / "plain" / f"{script}.py"
        command = [sys.executable, str(path), "--lake", str(folder / "lake")]
        yield measure(script, command, folder=folder, environment=fresh_environment(folder))
    require_predictions(command, folder / "lake")


def run_project(folder: Path, *parameters: str) -> Iterator[Measurement]:
    """The whole chain; the project puts its lake beside the tracking store, and reuses what it finds there."""
    command = ["mlflow", "run", str(ROOT), "-e", "main", *parameters, "--env-manager", "local"]
    yield measure("project", command, folder=folder, environment=fresh_environment(folder))
    require_predictions(command, folder / "lake")


def run_changed(folder: Path) -> Iterator[Measurement]:
    """The chain again with one hyperparameter changed."""
    yield from run_project(folder, "-P", "max_depth=3")


def run_empty(folder: Path) -> Iterator[Measurement]:
    """A project that does nothing."""
    command = ["mlflow", "run", str(ROOT / "benchmarks" / "empty_project"), "--env-manager", "local"]
    yield measure("empty", command, folder=folder, environment=fresh_environment(folder))


def run_idle(folder: Path, *, steps: int = 1) -> Iterator[Measurement]:
    """A workflow of steps that do nothing, in a copy of this project."""
    project = folder / "project"
    if not project.exists():
        shutil.copytree(ROOT / "steps", project / "steps", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("conda.yaml", "configs"):
            (project / name).symlink_to(ROOT / name)
        for name, path in {"MLproject": "MLproject", "main.py": "main.py", "idle.py": "steps/idle.py"}.items():
            shutil.copy(ROOT / "benchmarks" / "idle_project" / name, project / path)
    command = ["mlflow", "run", str(project), "-P", f"steps={steps}", "--env-manager", "local"]
    yield measure("idle", command, folder=folder, environment=fresh_environment(folder))


def run_idle_steps(folder: Path) -> Iterator[Measurement]:
    """The same with several of them."""
    yield from run_idle(folder, steps=IDLE_STEPS)


WORKLOADS: dict[str, Callable[[Path], Iterator[Measurement]]] = {
    "plain": run_plain,
    "project": run_project,
    "again": run_project,
    "changed": run_changed,
    "empty": run_empty,
    "empty again": run_empty,
    "idle": run_idle,
    "idle steps": run_idle_steps,
}


def fresh_environment(folder: Path) -> dict[str, str]:
    """The caller's environment, pointed at nothing old: this interpreter first on PATH, tracking in `folder`."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(NOT_INHERITED)}
    path = os.pathsep.join([str(Path(sys.executable).parent), inherited.get("PATH", os.defpath)])
    return inherited | {"PATH": path, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}


def require_predictions(command: Sequence[str], lake: Path) -> None:
    """CommandFailed unless every flower has its prediction; a chain that did less must not look fast."""
    table = lake / "iris_predictions"
    rows = DeltaTable(str(table)).count() if DeltaTable.is_deltatable(str(table)) else 0
    if rows != FLOWERS:
        logs = "\n".join(log.read_text(errors="replace") for log in sorted(lake.parent.glob("*.log")))
        raise CommandFailed(command, f"{rows} predictions in {table.name}, expected {FLOWERS}", logs)


def seconds_of(processes: Sequence[Measurement]) -> float:
    """The wall seconds of processes that ran one after another."""
    return sum(process.seconds for process in processes)


def report(rounds: Sequence[dict[str, list[Measurement]]], *, load: float, warm_up: str) -> str:
    """RESULTS.md as text. `load` is the machine's load average before the first command."""
    parts = [
        "# How long the workflow takes",
        "Written by `python -m benchmarks.workflow`; do not edit.",
        machine(load=load),
        f"## Time\n\nIris, wall seconds; repeats: {len(rounds)}.",
        "\n".join(time_table(rounds)),
    ]
    memory = list(memory_table(rounds))
    if memory:
        parts += ["## Memory\n\nPeak MiB.", "\n".join(memory)]
    return "\n\n".join([*parts, LEFT, HOW.format(warm_up=warm_up)]) + "\n"


def time_table(rounds: Sequence[dict[str, list[Measurement]]]) -> Iterator[str]:
    """Median, minimum, maximum and the ratio to the plain scripts; for those a row each, too."""
    yield "| | median | min | max | ratio to plain |"
    yield "|---|--:|--:|--:|--:|"
    plain = statistics.median(seconds_of(done["plain"]) for done in rounds) if "plain" in rounds[0] else None
    for workload, processes in rounds[0].items():
        yield time_row(TITLES[workload], [seconds_of(done[workload]) for done in rounds], plain=plain)
        for index, process in enumerate(processes if len(processes) > 1 else []):
            seconds = [done[workload][index].seconds for done in rounds]
            yield time_row(f"- {process.name}.py", seconds, plain=plain)
    if {"idle", "idle steps"} <= rounds[0].keys():
        several, one = ([seconds_of(done[workload]) for done in rounds] for workload in ("idle steps", "idle"))
        by_step = [(long - short) / (IDLE_STEPS - 1) for long, short in zip(several, one, strict=True)]
        yield time_row("a step beyond its own work", by_step, plain=plain)


def time_row(title: str, seconds: Sequence[float], *, plain: float | None) -> str:
    median = statistics.median(seconds)
    ratio = f"{median / plain:.2f}" if plain else ""
    return f"| {title} | {median:.1f} | {min(seconds):.1f} | {max(seconds):.1f} | {ratio} |"


def memory_table(rounds: Sequence[dict[str, list[Measurement]]]) -> Iterator[str]:
    """The peaks by kind of process, a column per workload; nothing where /proc is missing."""
    peaks: dict[str, dict[str, float]] = {workload: {} for workload in rounds[0]}  # workload to kind to MiB
    for done in rounds:
        for workload, processes in done.items():
            for kind, mebibytes in (item for process in processes for item in process.peaks.items()):
                peaks[workload][kind] = max(mebibytes, peaks[workload].get(kind, 0.0))
    seen = {kind for found in peaks.values() for kind in found} - {ALL_TOGETHER}
    if not seen:
        return
    yield f"| process | {' | '.join(TITLES[workload] for workload in peaks)} |"
    yield f"|---|{'--:|' * len(peaks)}"
    others = sorted(seen - set(KINDS))
    for kind in [*(kind for kind in KINDS if kind in seen), *others, ALL_TOGETHER]:
        cells = (f"{found[kind]:.0f}" if kind in found else "" for found in peaks.values())
        yield f"| {kind} | {' | '.join(cells)} |"


def machine(*, load: float) -> str:
    """When, on what and with what it was measured, as a Markdown list."""
    archive = "present" if jars.for_folders().is_prepared() else "absent"
    memory_gibibytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    facts = (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, load average before the start {load:.1f}",
        f"revision {first_line('git', '-C', str(ROOT), 'describe', '--always', '--dirty')}",
        f"{os.cpu_count()} cores ({cpu_model()}), {memory_gibibytes:.1f} GiB, {system()}",
        f"Python {platform.python_version()}, {java.check()}",
        ", ".join(f"{package} {version(package)}" for package in PACKAGES),
        f"class archive (`python -m steps.core.spark.prepare` makes it): {archive}",
    )
    return "\n".join(f"- {fact}" for fact in facts)


def cpu_model() -> str:
    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text().splitlines() if cpu_info.exists() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def system() -> str:
    """The operating system's name and release, a Linux by its distribution."""
    if platform.system() == "Linux":
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    return f"{platform.system()} {platform.release()}"


def first_line(*command: str) -> str:
    """The first line that a command prints; "unknown" when it fails."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    return lines[0] if done.returncode == 0 and lines else "unknown"


if __name__ == "__main__":
    sys.exit(main())
