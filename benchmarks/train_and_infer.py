"""Time train, infer and monitor on numbers alone, beside XGBoost on arrays in memory and Spark's copy of the table.

Reads   a table that it makes: 2,000,000 rows of 30 numbers and a label that follows from them, mostly
Writes  benchmarks/TRAIN_AND_INFER.md, wholly, when all was measured; the same text on stdout always
Fails   exit 1 with the command's output when one fails or misses a row
"""

import argparse
import math
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import mlflow
import numpy as np
import pyarrow as pa
import xgboost
import yaml
from deltalake import DeltaTable, write_deltalake

from benchmarks.process_tree import ALL_TOGETHER, CommandFailed, Measurement, measure
from benchmarks.workflow import ROOT, fresh_environment, machine
from steps.core.tracking import database

RESULTS = ROOT / "benchmarks" / "TRAIN_AND_INFER.md"
ROWS, COLUMNS, ROUNDS, DEPTH = 2_000_000, 30, 100, 6
SIZES = (1_000_000, 2_000_000, 4_000_000, 8_000_000)
BATCH_ROWS = 250_000
TITLES = {
    "bare train": "bare `xgb.train` on arrays",
    "bare train alone": "- the matrix and the training alone",
    "train": "train",
    "imports": "- its imports alone",
    "bare predict": "bare `inplace_predict` on arrays",
    "bare predict alone": "- the prediction alone",
    "copy": "Spark's copy of the table",
    "infer": "infer",
    "spark_udf": "`mlflow.pyfunc.spark_udf`",
    "monitor": "monitor, of what infer predicted",
}
PREDICTED = {"copy": "copy", "infer": "numbers_predictions", "spark_udf": "predictions"}  # tables that hold every row

LEFT = """\
Of what train takes beyond the training, 3.6 s are its imports, which under main a warm process has done, 1.6 s the
first pass over the table (parts, categories, targets), 1.2 s the second, which encodes, 1 s the registration of the
version and 0.6 s MLflow's store. Beyond imports and XGBoost's own its memory is the rows that are decoded at once, by
delta-rs, and the encoded rows until their bins are made."""
HOW = """\
Each row is a whole process, from start to exit, but for those of "alone", which the bare scripts of `benchmarks/plain/`
time themselves: without imports and without reading the arrays. All take turns within a repeat. Training is on 70% of
the rows, with the metric of these and of 10% more after each round; the other 20% are the test part. Predictions are
of all rows. The matrix is that of the features of all rows in float32. Memory is the highest sum of resident sizes of
a command's processes at one moment."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Time train and infer, and write benchmarks/TRAIN_AND_INFER.md.")
    parser.add_argument("--repeats", type=int, default=3, help="timed rounds (default 3)")
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of the table; another number writes no file")
    parser.add_argument(
        "--exponents",
        action="store_true",
        help=f"how time grows with rows, too: {', '.join(map(str, SIZES))}, once each",
    )
    args = parser.parse_args(argv)
    load = os.getloadavg()[0]
    try:
        rounds = run_rounds(args.rows, list(TITLES), repeats=args.repeats)
        by_size = (
            {rows: run_rounds(rows, ["train", "infer", "monitor"], repeats=1) for rows in SIZES}
            if args.exponents
            else {}
        )
    except CommandFailed as err:
        print(err, file=sys.stderr)
        return 1
    text = report(rounds, rows=args.rows, by_size={rows: done[0] for rows, done in by_size.items()}, load=load)
    print(text)
    if args.rows == ROWS:
        RESULTS.write_text(text)
    return 0


def run_rounds(rows: int, chosen: Sequence[str], *, repeats: int) -> list[dict[str, Measurement]]:
    """Each chosen workload in turn, so many times, on one table of so many rows."""
    with tempfile.TemporaryDirectory(prefix="benchmark-", ignore_cleanup_errors=True) as folder:
        data = Path(folder)
        write_table(data, rows=rows)
        return [dict(run_round(data, chosen, rows=rows)) for _ in range(repeats)]


def write_table(folder: Path, *, rows: int) -> None:
    """The same rows as a Delta table, numbers, and as arrays; and the config of the table."""
    names = [f"x{number:02}" for number in range(COLUMNS)]
    random = np.random.default_rng(1)
    weights = random.normal(size=COLUMNS)
    features = np.lib.format.open_memmap(folder / "features.npy", "w+", np.float32, (rows, COLUMNS))
    labels = np.lib.format.open_memmap(folder / "label.npy", "w+", np.float32, (rows,))
    for begin in range(0, rows, BATCH_ROWS):
        count = min(BATCH_ROWS, rows - begin)
        values = np.round(random.normal(size=(count, COLUMNS)), 7)
        score = values @ weights + 2 * values[:, 0] * values[:, 1] + random.normal(size=count)
        table = pa.table({**dict(zip(names, values.T, strict=True)), "label": np.where(score > 0, "yes", "no")})
        write_deltalake(str(folder / "lake" / "numbers"), table, mode="append")
        features[begin : begin + count], labels[begin : begin + count] = values, score > 0
    config = {
        "name": "numbers",
        "source": {"uri": "none"},
        "columns": {**{name: {"type": "double"} for name in names}, "label": {"type": "string"}},
        "target": "label",
        "split": {"test": 0.2, "validation": 0.1},
        "model": {
            **{"name": "numbers", "num_boost_round": ROUNDS, "early_stopping_rounds": ROUNDS},
            **{"max_depth": DEPTH, "learning_rate": 0.1},
        },
    }
    (folder / "numbers.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def run_round(data: Path, chosen: Sequence[str], *, rows: int) -> Iterator[tuple[str, Measurement]]:
    """Each chosen workload once, in folders of this round's own. What is "alone" comes with its whole process."""
    with tempfile.TemporaryDirectory(prefix="benchmark-", ignore_cleanup_errors=True) as folder:
        here = Path(folder)
        database.ensure_usable(f"sqlite:///{here}/mlflow.db")  # as ingest leaves it
        for name in [name for name in chosen if name in commands(data, here)]:
            if name == "spark_udf":
                save_model(data, here)
            command = commands(data, here)[name]
            environment = {**fresh_environment(here), "PYTHONPATH": str(ROOT)}
            done = measure(name, command, folder=here, environment=environment)
            print(f"{rows:,} rows: {name} {done.seconds:.1f} s", file=sys.stderr, flush=True)
            yield name, done
            if name.startswith("bare"):
                seconds = float((here / f"{name}.log").read_text().splitlines()[-1])
                yield f"{name} alone", Measurement(name=name, seconds=seconds, peaks={})
            if name in PREDICTED:
                require_rows(command, lake_of(name, data, here) / PREDICTED[name], rows=rows)


def commands(data: Path, here: Path) -> dict[str, list[str]]:
    """What each workload is, as a command; the data is in one folder, and what is written in another."""

    def plain(script: str, *words: str) -> list[str]:
        return [sys.executable, str(ROOT / "benchmarks" / "plain" / f"{script}.py"), *words]

    def step(name: str, *words: str) -> list[str]:
        options = [f"--config={data / 'numbers.yaml'}", f"--lake={here / 'lake'}"]
        options += [f"--table={data / 'lake' / 'numbers'}"] if name != "monitor" else []
        return [sys.executable, "-m", "steps", name, *options, *words]

    table, arrays = ["--table", str(data / "lake" / "numbers")], ["--folder", str(data)]
    return {
        "bare train": plain("train_on_arrays", *arrays, "--rounds", str(ROUNDS), "--depth", str(DEPTH)),
        "train": step("train"),
        "imports": [sys.executable, "-c", "from steps import train"],
        "bare predict": plain("predict_arrays", *arrays),
        "copy": plain("copy_table", *table, "--lake", str(here / "copied")),
        "infer": step("infer", "--model=models:/numbers/1"),
        "monitor": step("monitor", "--model=models:/numbers/1"),
        "spark_udf": plain("spark_udf", *table, "--model", str(here / "model"), "--lake", str(here / "by_udf")),
    }


def lake_of(name: str, data: Path, here: Path) -> Path:
    return here / {"copy": "copied", "infer": "lake", "spark_udf": "by_udf"}[name]


def save_model(data: Path, here: Path) -> None:
    """The booster of the bare script, as mlflow.xgboost saves it."""
    booster = xgboost.Booster(model_file=data / "booster.ubj")
    mlflow.xgboost.save_model(booster, str(here / "model"), pip_requirements=[])


def require_rows(command: Sequence[str], table: Path, *, rows: int) -> None:
    """CommandFailed unless the table holds every row; a command that did less must not look fast."""
    found = DeltaTable(str(table)).count() if DeltaTable.is_deltatable(str(table)) else 0
    if found != rows:
        raise CommandFailed(command, f"{found} rows in {table.name}, {rows} expected", "")


def report(
    rounds: Sequence[dict[str, Measurement]], *, rows: int, by_size: dict[int, dict[str, Measurement]], load: float
) -> str:
    """TRAIN_AND_INFER.md as text. `load` is the machine's load average before the first command."""
    medians = {name: statistics.median(done[name].seconds for done in rounds) for name in rounds[0]}
    peaks = {name: max(done[name].peaks.get(ALL_TOGETHER, 0) for done in rounds) for name in rounds[0]}
    parts = [
        "# How long train and infer take",
        "Written by `python -m benchmarks.train_and_infer`; do not edit.",
        machine(load=load),
        f"{rows:,} rows of {COLUMNS} numbers, {ROUNDS} rounds of depth {DEPTH}; repeats: {len(rounds)}.",
        "\n".join(time_table(rounds, medians, peaks, rows=rows)),
        "\n".join(ratios(medians, peaks, rows=rows)),
        *(["\n".join(exponents(by_size))] if by_size else []),
        LEFT,
        HOW,
    ]
    return "\n\n".join(parts) + "\n"


def time_table(
    rounds: Sequence[dict[str, Measurement]], medians: dict[str, float], peaks: dict[str, float], *, rows: int
) -> Iterator[str]:
    yield "| | median s | min | max | rows/s | MiB |"
    yield "|---|--:|--:|--:|--:|--:|"
    for name, title in TITLES.items():
        seconds = [done[name].seconds for done in rounds]
        numbers = f"{medians[name]:.1f} | {min(seconds):.1f} | {max(seconds):.1f} | {rows / medians[name]:,.0f}"
        yield f"| {title} | {numbers} | {f'{peaks[name]:.0f}' if peaks[name] else ''} |"


def ratios(medians: dict[str, float], peaks: dict[str, float], *, rows: int) -> Iterator[str]:
    """Each as a line of a list."""
    matrix_mebibytes = rows * COLUMNS * 4 / 2**20
    beyond = medians["train"] - medians["bare train alone"]
    floor = medians["bare predict alone"] + medians["copy"]
    yield f"- train takes {medians['train'] / medians['bare train alone']:.2f} times the training alone, of whose time"
    yield f"  {beyond:.1f} s are beyond it, and {medians['train'] / medians['bare train']:.2f} times the bare process"
    times = {name: f"{peaks[name] / matrix_mebibytes:.2f}" for name in peaks}
    more = f"{(peaks['train'] - peaks['imports']) / matrix_mebibytes:.2f}"
    yield f"- train's memory is {times['train']} times the matrix of {matrix_mebibytes:.0f} MiB, and {more} times it"
    yield f"  beyond its imports; that of the bare process {times['bare train']} times"
    yield f"- infer takes {medians['infer'] / floor:.2f} times bare prediction and copy, which take {floor:.1f} s"
    yield f"- infer scores {medians['spark_udf'] / medians['infer']:.1f} times as many rows per second as `spark_udf`"


def exponents(by_size: dict[int, dict[str, Measurement]]) -> Iterator[str]:
    """How time grows with rows: seconds are proportional to rows to this power, by least squares of the logarithms."""
    yield f"| | {' | '.join(f'{rows:,}' for rows in by_size)} | exponent |"
    yield f"|---|{'--:|' * (len(by_size) + 1)}"
    for name in ("train", "infer", "monitor"):
        seconds = [done[name].seconds for done in by_size.values()]
        slope = np.polyfit([math.log(rows) for rows in by_size], [math.log(second) for second in seconds], 1)[0]
        yield f"| {TITLES[name]}, s | {' | '.join(f'{second:.1f}' for second in seconds)} | {slope:.2f} |"


if __name__ == "__main__":
    sys.exit(main())
