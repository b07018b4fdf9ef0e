"""The rows of a request to /invocations, in each of the forms of MLflow's scoring protocol.

JSON that is plain becomes columns of Python's objects by plain_columns(), without pandas, which takes longer than the
model does. All else goes through MLflow's own parser, which also says what is wrong with a body: parse(). Both read the
same rows, as tests/test_serving.py holds.
"""

import csv
import io
import json
import logging
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import scoring_server
from mlflow.types import Schema as MlflowSchema

from steps.core.columns import Column
from steps.core.models import scorer
from steps.core.models.scorer import Feature
from steps.core.serving.refusals import Refused, invalid
from steps.core.sources import json_objects
from steps.core.sources.values import convert

logger = logging.getLogger(__name__)

JSON, CSV = scoring_server.CONTENT_TYPE_JSON, scoring_server.CONTENT_TYPE_CSV
PARQUET = scoring_server.CONTENT_TYPE_PARQUET
FORMS = (scoring_server.DF_SPLIT, scoring_server.DF_RECORDS, scoring_server.INSTANCES, scoring_server.INPUTS)
LONGEST_SHOWN = 80  # letters of a cell in a message
KEY_END = re.compile(rb'"[ \t\r\n]*+:')  # of a key in JSON, and what looks like one in a text

type Columns = dict[str, np.ndarray]
type Rows = pd.DataFrame | Columns


def media_type(header: str | None, *, compression: str | None = None) -> str:
    """JSON, CSV or PARQUET by a request's Content-Type. Refused with 415 for another type or encoding, and for a
    `compression`, its Content-Encoding, of which there is none."""
    if (compression or "identity").strip().lower() != "identity":
        raise Refused(415, "type", f"Content-Encoding is {compression!r}; a body that is not compressed is expected")
    kind, *rest = [part.strip() for part in (header or "").lower().split(";")]
    charset = dict(part.partition("=")[::2] for part in rest).get("charset", "utf-8").strip('"')
    if kind not in (JSON, CSV, PARQUET):
        raise Refused(
            415, "type", f"Content-Type is {kind[:80] or 'missing'!r}; {JSON}, {CSV} or {PARQUET} is expected"
        )
    if charset not in ("utf-8", "utf8"):
        raise Refused(415, "type", f"Content-Type says charset={charset[:80]}; utf-8 is expected")
    return kind


def plain_columns(body: bytes, names: Collection[str]) -> Columns | None:
    """The columns `names` of a JSON body whose rows all have the same columns; None where parse() has to look at it.

    The values are as JSON has them: nothing says yet that they are of the features' types.
    """
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if type(content) is not dict or len(content) != 1:
        return None
    form, rows = next(iter(content.items()))
    if _may_repeat_keys(body, rows):
        return None
    if form == scoring_server.DF_SPLIT:
        return _of_split(rows, names)
    if form == scoring_server.INPUTS and type(rows) is dict:
        return _of_columns(rows, names)
    return _of_records(rows, names) if form in FORMS else None


def _may_repeat_keys(body: bytes, rows: Any) -> bool:
    """Whether there may be more keys than orjson has kept, which takes the last of two that are equal."""
    objects = [rows] if type(rows) is dict else rows if type(rows) is list else []
    key_count = 1 + sum(len(row) for row in objects if type(row) is dict)
    return body.count(b":") > key_count and len(KEY_END.findall(body)) > key_count


def _of_split(rows: Any, names: Collection[str]) -> Columns | None:
    if type(rows) is not dict or rows.keys() != {"columns", "data"}:
        return None
    columns, data = rows["columns"], rows["data"]
    if type(columns) is not list or type(data) is not list or not data:
        return None
    if any(type(name) is not str for name in columns) or len(set(columns)) < len(columns):
        return None
    if any(type(row) is not list or len(row) != len(columns) for row in data):
        return None
    places = {name: place for place, name in enumerate(columns) if name in names}
    return {name: _objects([row[place] for row in data]) for name, place in places.items()} or None


def _of_records(rows: Any, names: Collection[str]) -> Columns | None:
    if type(rows) is not list or not rows or type(rows[0]) is not dict:
        return None
    columns = rows[0].keys()
    if any(type(row) is not dict or row.keys() != columns for row in rows):
        return None
    return {name: _objects([row[name] for row in rows]) for name in columns if name in names} or None


def _of_columns(columns: dict[str, Any], names: Collection[str]) -> Columns | None:
    if any(type(values) is not list for values in columns.values()):
        return None
    if len({len(values) for values in columns.values()}) != 1 or not next(iter(columns.values())):
        return None
    return {name: _objects(values) for name, values in columns.items() if name in names} or None


def _objects(values: list[Any]) -> np.ndarray:
    return np.fromiter(values, dtype=object, count=len(values))


def parse(
    body: bytes, kind: str, *, schema: MlflowSchema, features: Collection[Feature], row_limit: int
) -> pd.DataFrame:
    """The rows of a body of this media type, of which those of CSV alone need no with_dates(). Refused when it has none
    that can be read, or more than `row_limit`."""
    try:
        if kind == PARQUET:
            rows = _of_parquet(body, row_limit)
        else:
            rows = _of_csv(body, features) if kind == CSV else _frame(_of_json(body, schema, features))
    except Refused:
        raise
    except MlflowException as err:
        raise invalid(err.message) from err
    except Exception as err:  # of parsers that have no class of errors for what somebody else wrote
        if not isinstance(err, ValueError | TypeError | LookupError | pa.ArrowException):
            logger.exception("a body could not be parsed")
        raise invalid(f"the body is no table as {kind} has it: {err}") from err
    check_count(len(rows), row_limit)
    if not len(rows) and not len(rows.columns):
        raise invalid("the body has no rows")
    if len(rows.columns) and not any(isinstance(name, str) for name in rows.columns):
        raise invalid(f"the columns of its rows have no names; send objects, or {scoring_server.DF_SPLIT} with columns")
    return rows


def with_dates(rows: Rows, features: Iterable[Feature]) -> Rows:
    """`rows` with dates and moments in place of what the `format` of a feature says is one: 20240131, 31.01.2024.

    A text in ISO 8601 stays, unless it is digits alone. What is no date by the format stays, for the scorer to refuse.
    """
    for feature in features:
        if "format" not in feature.as_text or feature.name not in rows:
            continue
        values = np.array(list(rows[feature.name]), dtype=object)
        texts = pa.array([_written(value, feature) for value in values], pa.string())
        read = convert(texts, _column(feature)).values
        is_read = read.is_valid().to_numpy(zero_copy_only=False)
        if is_read.any():
            values[is_read] = read.filter(read.is_valid()).to_pylist()
            rows = (
                rows.assign(**{feature.name: values})
                if isinstance(rows, pd.DataFrame)
                else {**rows, feature.name: values}
            )
    return rows


def _written(value: Any, feature: Feature) -> str | None:
    """What the feature's format is to read; None for what says its day by itself, or is no text and no whole number."""
    if isinstance(value, str):
        is_for_format = value.strip().isdecimal() or np.isnat(scorer.moment(value, feature))
        return json_objects.without_surrogates(value) if is_for_format else None
    is_whole = isinstance(value, (int, np.integer)) or (isinstance(value, float) and value.is_integer())
    return str(int(value)) if is_whole and not isinstance(value, bool) else None


def _column(feature: Feature) -> Column:
    """The contract of a feature's values where they are text."""
    return Column.model_validate({"type": feature.type, **feature.as_text, "missing": feature.missing})


def check_count(rows: int, limit: int) -> None:
    """Refused, with status 413, for more than `limit` rows."""
    if rows > limit:
        raise Refused(413, "too large", f"the body has {rows} rows; at most {limit} are taken at once")


def _of_json(body: bytes, schema: MlflowSchema, features: Collection[Feature]) -> Any:
    """What MLflow makes of a JSON body. Refused where an object has a key twice, or a row lacks one that others have:
    alone it would be refused too, and a misspelt name would be a missing value."""
    if not body.strip():
        raise invalid(f"the body is empty; a JSON object with one of {', '.join(FORMS)} is expected")
    try:
        content = json.loads(body.decode("utf-8-sig"), object_pairs_hook=_without_repeated_keys)
    except (ValueError, RecursionError) as err:
        raise invalid(f"the body is not JSON: {err}") from err
    if not isinstance(content, dict):
        what = {list: "a list", str: "text", type(None): "null"}.get(type(content), "a number or a boolean")
        raise invalid(f"the body is {what}; a JSON object with one of {', '.join(FORMS)} is expected")
    forms = {form: content[form] for form in FORMS if form in content}
    if len(forms) != 1:
        raise invalid(f"the body has the keys {list(content)}; exactly one of {', '.join(FORMS)} is expected")
    _check_keys(next(iter(forms.values())), features)
    rows = forms.get(scoring_server.DF_SPLIT)
    if isinstance(rows, dict) and len(rows.get("index") or rows.get("data") or ()) != len(rows.get("data") or ()):
        raise invalid(f"its index has {len(rows['index'])} values for {len(rows.get('data') or ())} rows")
    return scoring_server.infer_and_parse_data(forms, schema)


def _without_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise invalid(f"an object has the key {next(key for key in keys if keys.count(key) > 1)!r} twice")
    return found


def _check_keys(rows: Any, features: Collection[Feature]) -> None:
    """Refused for a row, as an object, without a key for a feature that other rows have."""
    objects = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    there = {key for row in objects for key in row}
    wanted = [feature.name for feature in features if feature.name in there and not feature.optional]
    for number, row in enumerate(objects):
        if lacking := [name for name in wanted if name not in row]:
            others = ", ".join(str(key) for key in row if key not in wanted)[:LONGEST_SHOWN]
            raise invalid(
                f"row {number}, counted from 0: the columns {', '.join(lacking)} are missing, which other rows have"
                f"{f'; others are there: {others}' if others else ''}"
            )


def _frame(rows: Any) -> pd.DataFrame:
    """What MLflow's parser has read, as a frame: it leaves lists, and columns in a dict, as they are."""
    if isinstance(rows, pd.DataFrame):
        return rows
    if not isinstance(rows, dict):
        return pd.DataFrame(rows)
    if not any(isinstance(values, list | np.ndarray) for values in rows.values()):
        return pd.DataFrame([rows])
    # An array of arrays, as MLflow makes of nested lists, is no column.
    nested = {name for name, values in rows.items() if isinstance(values, np.ndarray) and values.ndim > 1}
    return pd.DataFrame({name: values.tolist() if name in nested else values for name, values in rows.items()})


def _of_csv(body: bytes, features: Collection[Feature]) -> pd.DataFrame:
    """CSV with a header, whose cells are read as those of the model's source: each by itself, by the config's rules."""
    text = body.decode("utf-8-sig")
    header = next(csv.reader(io.StringIO(text)), [])
    names = [name.strip() for name in header]
    asked = {feature.name for feature in features}
    for separator in ";\t|" if not asked.intersection(names) else "":
        if asked.intersection(next(csv.reader(io.StringIO(text), delimiter=separator), [])):
            raise invalid(f"the columns are separated by {separator!r}; commas are expected")
    if repeated := sorted({name or "''" for name in names if names.count(name) > 1}):
        raise invalid(f"the columns {', '.join(repeated)} are there more than once")
    rows = _cells(text.encode(), header).rename_columns(names)
    mistakes = []
    for feature in features:
        if feature.name in names:
            texts = rows[feature.name]
            converted = convert(texts, _column(feature))
            mistakes += [_mistake(feature.name, texts, *broken) for broken in converted.broken.items()]
            rows = rows.set_column(names.index(feature.name), feature.name, converted.values)
    if mistakes:
        raise invalid(f"with rows counted from 0: {'; '.join(mistakes)}")
    return rows.to_pandas(integer_object_nulls=True)


def _mistake(name: str, texts: pa.ChunkedArray, rule: str, refused: np.ndarray) -> str:
    row = int(refused.argmax())
    others = f", and {count} more in this column" if (count := int(refused.sum()) - 1) else ""
    return f"row {row}, column {name!r}: values such as {texts[row].as_py()[:LONGEST_SHOWN]!r} {rule}{others}"


def _cells(text: bytes, header: Sequence[str]) -> pa.Table:
    """The cells as text. Not by pandas, which takes what a row has too much for an index, and fills what one lacks."""
    return arrow_csv.read_csv(
        pa.BufferReader(text),
        read_options=arrow_csv.ReadOptions(use_threads=False, block_size=len(text) + 1),  # errors name the row
        # A blank line of one column is a missing value, of several columns it is none of the rows.
        parse_options=arrow_csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=len(header) > 1),
        convert_options=arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(header, pa.string()), null_values=[""], strings_can_be_null=True
        ),
    )


def _of_parquet(body: bytes, row_limit: int) -> pd.DataFrame:
    file = pq.ParquetFile(io.BytesIO(body), coerce_int96_timestamp_unit="us")  # Spark's old type for a moment
    check_count(file.metadata.num_rows, row_limit)  # before they are unpacked
    return file.read().to_pandas(integer_object_nulls=True)  # else whole numbers beside missing ones are doubles
