"""Read a source as it is, before the contract: scikit-learn's own tables, and csv, json, parquet or delta by path."""

import glob
import os
import re
from pathlib import Path
from typing import Any

import pandas as pd
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from steps.core import config, lake
from steps.core.errors import SourceUnreadable

SKLEARN = "sklearn:"
FORMATS = {".csv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json", ".parquet": "parquet"}
# Standard CSV (RFC 4180): quotes are doubled and may hold line breaks. A row with more or fewer values than the
# header stops the reading, where Spark alone would drop or invent values.
CSV_OPTIONS = {"header": True, "escape": '"', "multiLine": True, "mode": "FAILFAST", "enforceSchema": False}
JSON_OPTIONS = {"primitivesAsString": True, "mode": "FAILFAST"}


def resolve(source: config.Source, instead: str = "") -> config.Source:
    """`source`, or the one at `instead`, with an absolute path and a format. SourceUnreadable when nothing is there."""
    if instead:
        source = source.model_copy(update={"uri": instead})
    if source.uri.startswith(SKLEARN):
        return source
    path = next(filter(_is_there, _candidates(source.uri)), None)
    if path is None:
        raise SourceUnreadable(lake.absolute(source.uri), "there is no such file or folder")
    return source.model_copy(update={"uri": path, "format": source.format or _format(path)})


def size_bytes(source: config.Source) -> int:
    """How much there is to read. `source` is resolved."""
    if source.uri.startswith(SKLEARN):
        return 0
    return sum(file.stat().st_size for file in _files(source.uri))


def read(source: config.Source, spark: SparkSession) -> DataFrame:
    """The source's columns under their own names: text where the format has no types. `source` is resolved."""
    if source.uri.startswith(SKLEARN):
        return spark.createDataFrame(_sklearn_table(source.uri))
    defaults: dict[str, Any] = {}
    if source.format == "csv":
        defaults = CSV_OPTIONS
    if source.format == "json":
        defaults = {**JSON_OPTIONS, "multiLine": _is_one_document(source.uri)}
    options = {**defaults, **source.options}
    try:
        reader = spark.read.format(str(source.format)).options(**options)
        if source.format == "csv":
            header = reader.option("mode", "PERMISSIVE").load(source.uri).schema
            reader = reader.option("mode", str(options["mode"])).schema(header)
        rows = reader.load(source.uri)
        rows.schema  # noqa: B018  # asks Spark, which looks at the files now
    except PySparkException as err:
        raise unreadable(source, err) from err
    return rows


def unreadable(source: config.Source, error: PySparkException) -> SourceUnreadable:
    """What Spark said about a source that it could not read, in a line: what failed, and the first of its causes."""
    said = str(error).split("JVM stacktrace")[0]
    causes = re.findall(r"^Caused by: [\w.$]+: (.+)$", str(error), re.MULTILINE)
    cause = " ".join([said, *causes[-1:]])
    return SourceUnreadable(
        source.uri,
        f"cannot be read as {source.format}: {' '.join(cause.split())[:400]}",
        next="correct the file, or source.format and source.options (Spark's reader options) in the config",
    )


def _sklearn_table(uri: str) -> pd.DataFrame:
    from sklearn import datasets  # half a second that only these sources pay

    name = uri.removeprefix(SKLEARN)
    if name not in ("iris", "wine", "breast_cancer", "diabetes"):
        raise SourceUnreadable(uri, f"there is no data set {name!r}; there are iris, wine, breast_cancer and diabetes")
    loaded = getattr(datasets, f"load_{name}")(as_frame=True)
    table: pd.DataFrame = loaded.frame
    if "target_names" in loaded:
        table["target"] = pd.Series(loaded.target_names)[loaded.target].to_numpy()
    return table


def _candidates(uri: str) -> list[str]:
    """Where a source may be: a relative path starts beside the tracking store, else in the working directory."""
    return [lake.absolute(uri), *([] if uri.startswith("file:") else [os.path.abspath(os.path.expanduser(uri))])]


def _is_there(path: str) -> bool:
    return bool(glob.glob(path)) or os.path.exists(path)


def _format(path: str) -> Any:
    if os.path.isdir(os.path.join(path, "_delta_log")):
        return "delta"
    suffixes = {file.suffix.lower() for file in _files(path)}
    formats = {FORMATS[suffix] for suffix in suffixes if suffix in FORMATS}
    if len(formats) != 1:
        reason = f"its format does not follow from its files' names ({', '.join(sorted(suffixes)) or 'no files'})"
        raise SourceUnreadable(path, reason, next="say source.format: csv, json, parquet or delta in the config")
    return formats.pop()


def _files(path: str) -> list[Path]:
    """The data files that a path, folder or glob means; names with a leading _ or . are not data to Spark."""
    roots = [Path(match) for match in glob.glob(path)] or [Path(path)]
    found = [file for root in roots for file in ([root] if root.is_file() else root.rglob("*")) if file.is_file()]
    return [file for file in found if not file.name.startswith(("_", ".")) and "_delta_log" not in file.parts]


def _is_one_document(path: str) -> bool:
    """Whether a JSON source is an array, rather than one object a line."""
    with _files(path)[0].open("rb") as file:
        return file.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
