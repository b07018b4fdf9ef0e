"""Read a source as it is, before the contract: scikit-learn's own tables, and csv, json, parquet or delta by path."""

import json
import re
import zlib
from typing import Any

import pandas as pd
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from steps.core import config, storage
from steps.core.errors import SourceUnreadable
from steps.core.source import SKLEARN, files

FIRST_LINE_BYTES = 2**20
GZIP_WRAPPED = 16  # zlib: what to add to the window size for its wrapper
# Standard CSV (RFC 4180): quotes are doubled and may hold line breaks. A row with more or fewer values than the
# header stops the reading, where Spark alone would drop or invent values.
CSV_OPTIONS = {"header": True, "escape": '"', "multiLine": True, "mode": "FAILFAST", "enforceSchema": False}
JSON_OPTIONS = {"primitivesAsString": True, "mode": "FAILFAST"}


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
            header = reader.option("mode", "PERMISSIVE").load(storage.for_spark(source.uri)).schema
            reader = reader.option("mode", str(options["mode"])).schema(header)
        rows = reader.load(storage.for_spark(source.uri))
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


def _is_one_document(path: str) -> bool:
    """Whether each file of a JSON source is one array or object, rather than an object a line."""
    kinds = {_holds_one_document(name) for name, file in files(path).items() if file.size_bytes}
    if len(kinds) > 1:
        raise SourceUnreadable(path, "some of its files are JSON arrays, and some have an object a line")
    return True in kinds


def _holds_one_document(name: str) -> bool:
    start = storage.start_of(name, FIRST_LINE_BYTES)
    if name.lower().endswith(".gz"):
        start = zlib.decompressobj(wbits=zlib.MAX_WBITS | GZIP_WRAPPED).decompress(start, FIRST_LINE_BYTES)
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
