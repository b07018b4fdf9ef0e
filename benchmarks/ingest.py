"""Time ingest, with contract, rejects and profile, beside Spark's plain copy of the same file.

Reads   tables that it makes: 2,000,000 rows of 30 columns (630 MB of CSV), a tenth and ten times as many, and 110
        rows of 1,200 columns
Writes  benchmarks/INGEST.md, wholly, when all was measured; the same text on stdout always
Fails   exit 1 with the command's output when one fails or misses a row
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import yaml
from deltalake import DeltaTable

from benchmarks.process_tree import ALL_TOGETHER, CommandFailed, Measurement, measure
from benchmarks.workflow import ROOT, fresh_environment, machine

RESULTS = ROOT / "benchmarks" / "INGEST.md"
LONG, WIDE = (2_000_000, 29), (110, 1_200)  # rows, columns of numbers beside the label
TENTH, TENFOLD = "tenth", "tenfold"  # of the rows of LONG: each once, for the memory
BATCH_ROWS = 100_000

HOW = """\
Each row is a whole process, from start to exit, with a lake and a tracking store of its own. The copy and the ingests
of the same size take turns; a tenth and ten times the rows are ingested once, for the memory. Above 1 GiB Spark's
workers read, and their JVM is in the sum. The copy is `benchmarks/plain/spark_copy.py`: Spark with a schema given, no
check, no profile. Ingest reads the file once, checks every value against the contract, keeps rejects and computes the
profile. Memory is the highest sum of resident sizes of a command's processes at one moment."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Time ingest beside Spark's plain copy, and write benchmarks/INGEST.md."
    )
    parser.add_argument("--repeats", type=int, default=3, help="timed rounds (default 3)")
    parser.add_argument(
        "--rows", type=int, default=LONG[0], help="rows of the long table; another number writes no file"
    )
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        sources = Path(folder)
        long = write_csv(sources / "long.csv", rows=args.rows, columns=LONG[1])
        wide = write_csv(sources / "wide.csv", rows=WIDE[0], columns=WIDE[1])
        try:
            rounds = [dict(run_round(long, wide, rows=args.rows)) for _ in range(args.repeats)]
            rounds[0] |= dict(run_other_sizes(sources, rows=args.rows))
        except CommandFailed as err:
            print(err, file=sys.stderr)
            return 1
        text = report(rounds, rows=args.rows, long_bytes=long.stat().st_size)
    print(text)
    if args.rows == LONG[0]:
        RESULTS.write_text(text)
    return 0


def write_csv(path: Path, *, rows: int, columns: int) -> Path:
    """A file of numbers with 8 digits and a label, beside the config that reads it; the same for the same size."""
    names = [f"x{number:04}" for number in range(columns)]
    random = np.random.default_rng(1)
    with path.open("wb") as file:
        for begin in range(0, rows, BATCH_ROWS):
            count = min(BATCH_ROWS, rows - begin)
            values: dict[str, np.ndarray] = {name: np.round(random.normal(size=count), 7) for name in names}
            values["label"] = random.choice(["yes", "no"], count)
            options = pyarrow.csv.WriteOptions(include_header=begin == 0, quoting_style="none")
            pyarrow.csv.write_csv(pa.table(values), file, options)
    config = {
        "name": path.stem,
        "source": {"uri": str(path)},
        "columns": {**{name: {"type": "double"} for name in names}, "label": {"type": "string"}},
        "target": "label",
        "model": {"name": "benchmark"},
    }
    path.with_suffix(".yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def run_round(long: Path, wide: Path, *, rows: int) -> Iterator[tuple[str, Measurement]]:
    """Each command once, in a folder of its own."""
    for name, source, expected in (("copy", long, rows), ("ingest", long, rows), ("wide", wide, WIDE[0])):
        yield name, run(name, source, rows=expected)


def run_other_sizes(sources: Path, *, rows: int) -> Iterator[tuple[str, Measurement]]:
    """Ingest of a table with a tenth of the rows, and of one with ten times as many."""
    for name, count in ((TENTH, rows // 10), (TENFOLD, rows * 10)):
        source = write_csv(sources / f"{name}.csv", rows=count, columns=LONG[1])
        yield name, run(name, source, rows=count)


def run(name: str, source: Path, *, rows: int) -> Measurement:
    """One command in a folder of its own. CommandFailed when it fails, or when its table has not as many rows."""
    with tempfile.TemporaryDirectory(prefix="benchmark-", ignore_cleanup_errors=True) as folder:
        here = Path(folder)
        lake = here / "lake"
        step = ["-m", "steps", "ingest", f"--config={source.with_suffix('.yaml')}", f"--lake={lake}"]
        copy = [str(ROOT / "benchmarks/plain/spark_copy.py"), "--source", str(source), "--lake", str(lake)]
        command = [sys.executable, *(copy if name == "copy" else step)]
        environment = {**fresh_environment(here), "PYTHONPATH": str(ROOT)}
        done = measure(name, command, folder=here, environment=environment)
        table = DeltaTable(str(lake / ("copy" if name == "copy" else source.stem)))
        if table.count() != rows:
            raise CommandFailed(command, f"{table.count()} rows, {rows} expected", "")
    print(f"{name} {done.seconds:.1f} s", file=sys.stderr, flush=True)
    return done


def report(rounds: Sequence[dict[str, Measurement]], *, rows: int, long_bytes: int) -> str:
    titles = {
        "copy": f"Spark's plain copy, {rows:,} x {LONG[1] + 1}, {long_bytes / 1e6:.0f} MB",
        "ingest": "ingest of the same file",
        TENTH: f"ingest of {rows // 10:,} x {LONG[1] + 1}",
        TENFOLD: f"ingest of {rows * 10:,} x {LONG[1] + 1}",
        "wide": f"ingest of {WIDE[0]} x {WIDE[1] + 1:,}",
    }
    measured = {name: [done[name] for done in rounds if name in done] for name in titles}
    medians = {name: statistics.median(one.seconds for one in measured[name]) for name in titles}
    lines = ["| | median s | min | max | ratio | MiB |", "|---|--:|--:|--:|--:|--:|"]
    for name, title in titles.items():
        seconds = [one.seconds for one in measured[name]]
        mebibytes = max(one.peaks.get(ALL_TOGETHER, 0) for one in measured[name])
        ratio = f"{medians[name] / medians['copy']:.2f}"
        lines.append(
            f"| {title} | {medians[name]:.1f} | {min(seconds):.1f} | {max(seconds):.1f} | {ratio} | {mebibytes:.0f} |"
        )
    parts = ["# How long ingest takes", "Written by `python -m benchmarks.ingest`; do not edit.", machine(load=0.0)]
    return "\n\n".join([*parts, "\n".join(lines), HOW]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
