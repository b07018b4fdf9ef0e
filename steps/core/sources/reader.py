"""Read a source as it is, before the contract: scikit-learn's own tables, and csv, json, parquet or delta by path."""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from functools import reduce
from typing import Any

import pandas as pd
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.connect import functions as F

from steps.core import config
from steps.core.errors import SourceUnreadable
from steps.core.sources import headers
from steps.core.sources.contract import quoted
from steps.core.sources.source import SKLEARN, files, passed_over, shown
from steps.core.storage import filesystem

FIRST_LINE_BYTES = 2**20
# Standard CSV (RFC 4180): quotes are doubled and may hold line breaks. A row with more or fewer values than the
# header stops the reading, where Spark alone would drop or invent values.
CSV_OPTIONS = {"header": True, "escape": '"', "multiLine": True, "mode": "FAILFAST", "enforceSchema": False}
JSON_OPTIONS = {"primitivesAsString": True, "mode": "FAILFAST"}


def read(
    source: config.Source, spark: SparkSession, layout: headers.Layout, *, wanted: Collection[str] = ()
) -> DataFrame:
    """The source's columns under their own names: text where the format has no types. `source` is resolved.

    `layout` is what its files hold: they may have their columns in another order, and others beside them.
    SourceUnreadable when one has not all of the `wanted` that others have.
    """
    if source.uri.startswith(SKLEARN):
        return spark.createDataFrame(_sklearn_table(source.uri))
    spark.conf.set("spark.sql.sources.partitionColumnTypeInference.enabled", "false")  # hour=01 is "01"
    spark.conf.set("spark.sql.legacy.parquet.nanosAsLong", "true")
    try:
        if source.format in ("csv", "parquet"):
            return _union(source, layout, spark, wanted)
        return _load(source, spark, filesystem.for_spark(source.uri))
    except PySparkException as err:
        raise unreadable(source, err) from err


def remarks(source: config.Source, layout: headers.Layout) -> list[str]:
    """What is not read of a source, a line for each reason. `source` is resolved."""
    is_of_files = layout.groups or layout.without_rows
    reasons = {
        "passed over, for a leading _ or . of the name": passed_over(source.uri) if is_of_files else [],
        "without rows": layout.without_rows,
    }
    return [f"{source.uri}: {reason}: {shown(names, below=source.uri)}" for reason, names in reasons.items() if names]


def unreadable(source: config.Source, error: PySparkException) -> SourceUnreadable:
    """What Spark said about a source that it could not read, in a line: what failed, and the first of its causes."""
    if "MALFORMED" in str(error) and source.format == "csv" and (ragged := headers.ragged_rows(source)):
        return SourceUnreadable(
            source.uri, ragged, next="correct these rows, or source.options (Spark's) in the config"
        )
    said = str(error).split("JVM stacktrace")[0]
    causes = re.findall(r"^Caused by: [\w.$]+: (.+)$", str(error), re.MULTILINE)
    cause = " ".join([said, *causes[-1:]])
    return SourceUnreadable(
        source.uri,
        f"cannot be read as {source.format}: {' '.join(cause.split())[:400]}",
        next="correct the file, or source.format and source.options (Spark's reader options) in the config",
    )


def _union(source: config.Source, layout: headers.Layout, spark: SparkSession, wanted: Collection[str]) -> DataFrame:
    """The rows of all groups of files, with the columns that all of them have."""
    if not layout.groups:
        raise SourceUnreadable(source.uri, f"no file has rows: {shown(layout.without_rows, below=source.uri)}")
    for columns, names in layout.groups.items():
        _check_columns(names[0], columns, columns.names if source.format == "csv" else wanted)
    if len(layout.groups) == 1 and not layout.without_rows:
        ((columns, _),) = layout.groups.items()
        return _timestamps(_load(source, spark, filesystem.for_spark(source.uri)), columns)
    parts = {
        names[0]: _timestamps(_load(source, spark, *_literal(names), basePath=_base(source.uri, names)), columns)
        for columns, names in layout.groups.items()
    }
    _check_parts(source, {name: part.columns for name, part in parts.items()}, wanted)
    first = next(iter(parts.values())).columns
    common = [name for name in first if all(name in part.columns for part in parts.values())]
    chosen = [part.select(*[F.col(quoted(name)) for name in common]) for part in parts.values()]
    return reduce(lambda one, other: one.unionByName(other), chosen)


def _load(source: config.Source, spark: SparkSession, *paths: str, basePath: str = "") -> DataFrame:
    defaults: dict[str, Any] = {"basePath": basePath} if basePath else {}
    if source.format == "csv":
        defaults |= CSV_OPTIONS
    if source.format == "json":
        defaults |= {**JSON_OPTIONS, "multiLine": _is_one_document(source.uri)}
    options = {**defaults, **source.options}
    reader = spark.read.format(str(source.format)).options(**options)
    if source.format == "csv":
        header = reader.option("mode", "PERMISSIVE").load(list(paths)).schema
        reader = reader.option("mode", str(options["mode"])).schema(header)
    rows = reader.load(paths[0] if len(paths) == 1 else list(paths))
    rows.schema  # noqa: B018  # asks Spark, which looks at the files now
    return rows


def _check_columns(name: str, columns: headers.Columns, wanted: Collection[str]) -> None:
    """SourceUnreadable when Spark cannot read what is wanted of a file; of CSV, all columns are read."""
    lower = {column.lower() for column in wanted}
    if twice := [column for column in columns.twice if column.lower() in lower]:
        raise SourceUnreadable(
            name,
            f"of its columns {', '.join(map(repr, twice))} the names are equal but for upper and lower case, "
            "which Spark does not tell apart",
            next="rename one of them in the source",
        )
    if columns.unreadable:
        raise SourceUnreadable(
            name,
            f"Spark has no type for its columns {', '.join(columns.unreadable)}",
            next="write the file without them, or with another type",
        )


def _check_parts(source: config.Source, columns: Mapping[str, list[str]], wanted: Collection[str]) -> None:
    """SourceUnreadable when a file lacks a wanted column that another one has. `columns` are those of some files."""
    for column in wanted:
        having = [name for name, present in columns.items() if column in present]
        lacking = [name for name in columns if name not in having]
        if having and lacking:
            one, other = (
                f"{shown([name], below=source.uri)} has {', '.join(columns[name])}" for name in (lacking[0], having[0])
            )
            raise SourceUnreadable(
                source.uri,
                f"not all of its files have the column {column!r}: {one}; {other}",
                next="give all files the same header, or pass those that belong together as a folder or glob",
            )


def _timestamps(rows: DataFrame, columns: headers.Columns) -> DataFrame:
    """Nanoseconds since 1970 as timestamps, to the microsecond, as Spark's are."""
    for name in columns.nanoseconds:
        microseconds = F.expr(f"({quoted(name)} - pmod({quoted(name)}, 1000)) div 1000")
        rows = rows.withColumn(name, F.timestamp_micros(microseconds))
    return rows


def _literal(names: Iterable[str]) -> list[str]:
    """Paths as Spark reads them, where letters of its globs stand for themselves."""
    return [re.sub(r"([*?\[\]{}\\])", r"\\\1", filesystem.for_spark(name)) for name in names]


def _base(path: str, names: Iterable[str]) -> str:
    """The folder below which names of folders are values of columns, where `path` is one folder."""
    return filesystem.for_spark(path) if all(name.startswith(f"{path}/") for name in names) else ""


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


def _is_one_document(path: str) -> bool:
    """Whether each file of a JSON source is one array or object, rather than an object a line."""
    kinds = {_holds_one_document(name) for name, file in files(path).items() if file.size_bytes}
    if len(kinds) > 1:
        raise SourceUnreadable(path, "some of its files are JSON arrays, and some have an object a line")
    return True in kinds


def _holds_one_document(name: str) -> bool:
    start = headers.start_of_text(name, FIRST_LINE_BYTES)
    start = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    first_line = start.partition(b"\n")[0]
    return start.startswith(b"[") or (
        start.startswith(b"{") and not _is_json(first_line) and len(first_line) < len(start)
    )


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
