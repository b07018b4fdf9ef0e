"""What a table's rows must be: source columns cast to the contract's types, and every row that breaks a rule found."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql.connect import functions as F

from steps.core import config
from steps.core.errors import did_you_mean

SEPARATORS = (";", "\t", "|", ",")
# Spark's own format ends at milliseconds, which would make rows equal that are not.
TO_THE_MICROSECOND = {"timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX"}

MISSING = "are missing"  # how rows break the rule `required`


@dataclass(frozen=True, kw_only=True)
class Finding:
    """`rows` in all, their order-free `fingerprint`, the `mistakes` among them, and a profile of each column."""

    rows: int
    fingerprint: str
    mistakes: list[str]
    profile: dict[str, dict[str, Any]]

    def is_only_empty(self, column: str) -> bool:
        """Whether no row has anything but blanks in this column, and nothing else is wrong."""
        empty = self.profile[column]["missing"] == self.rows or not self.profile[column]["max"].strip()
        return empty and set(self.mistakes) <= {f"column {column!r}: {self.rows} of {self.rows} rows {MISSING}"}


def missing(columns: Mapping[str, config.Column], present: list[str]) -> list[str]:
    """A mistake for each column of the contract that the source does not have."""
    absent = {name: column.source or name for name, column in columns.items()}
    absent = {name: source_name for name, source_name in absent.items() if source_name not in present}
    if absent and (cause := _why_no_name_fits(present)):
        return [cause]
    return [
        f"column {name!r}: the source has no {source_name!r}{did_you_mean(source_name, present)}"
        f"; it has {', '.join(present)}"
        for name, source_name in absent.items()
    ]


def _why_no_name_fits(present: list[str]) -> str:
    """What the names of the columns say of how the source was read; "" when they look like names."""
    if len(present) == 1 and (separator := next((letter for letter in SEPARATORS if letter in present[0]), "")):
        return (
            f"the source has one column, {present[0]!r}: are its values separated by {separator!r}? "
            f"Then say source.options.sep: {json.dumps(separator)}"
        )
    if strange := [name for name in present if "\ufffd" in name]:
        return f"the source's column {strange[0]!r} is not UTF-8: say source.options.encoding, such as iso-8859-1"
    return ""


def quoted(name: str) -> str:
    """A column's name for Spark, whatever is in it."""
    return "`" + name.replace("`", "``") + "`"


def conform(raw: DataFrame, columns: Mapping[str, config.Column]) -> DataFrame:
    """`raw` with the contract's columns, names and types only. A value that does not fit, and NaN, becomes null."""
    return raw.select(*[_cast(raw, name, column).alias(name) for name, column in columns.items()])


def inspect(raw: DataFrame, columns: Mapping[str, config.Column]) -> Finding:
    """Count, fingerprint and check all rows of `raw` in one pass over them."""
    rules = {(name, rule): broken for name, column in columns.items() for rule, broken in _rules(raw, name, column)}
    values = {name: _cast(raw, name, column) for name, column in columns.items()}
    whole_row = F.to_json(F.struct(*[value.alias(name) for name, value in values.items()]), TO_THE_MICROSECOND)
    answers = [F.count(F.lit(1)), F.sum(F.xxhash64(whole_row).cast("decimal(38,0)"))]
    for (name, _), broken in rules.items():
        shown = F.col(quoted(columns[name].source or name)).cast("string")
        answers += [F.count_if(broken), F.min(F.when(broken, shown))]
    for value in values.values():
        answers += [F.count(value), F.min(value).cast("string"), F.max(value).cast("string")]
    found = list(raw.select(*[answer.alias(f"a{i}") for i, answer in enumerate(answers)]).collect()[0])
    rows, total = found[:2]
    per_rule = zip(rules, found[2 : 2 + 2 * len(rules) : 2], found[3 : 3 + 2 * len(rules) : 2], strict=True)
    profiles = found[2 + 2 * len(rules) :]
    types = ",".join(f"{name}:{column.type}" for name, column in columns.items())
    return Finding(
        rows=rows,
        fingerprint=f"{types}|{rows}|{total or 0}",
        mistakes=[
            f"column {name!r}: {count} of {rows} rows {rule}" + (f", such as {sample!r}" if sample is not None else "")
            for (name, rule), count, sample in per_rule
            if count
        ],
        profile={
            name: {
                "type": column.type,
                "missing": rows - profiles[3 * i],
                "min": profiles[3 * i + 1],
                "max": profiles[3 * i + 2],
            }
            for i, (name, column) in enumerate(columns.items())
        },
    )


def _rules(raw: DataFrame, name: str, column: config.Column) -> list[tuple[str, Column]]:
    """Each rule of a column, as the end of the sentence 'N rows ...', with the condition that breaks it."""
    given, value = F.col(quoted(column.source or name)), _cast(raw, name, column)
    rules = [(f"are not of type {column.type}", given.isNotNull() & value.isNull() & ~_is_nan(given))]
    if column.type == "double":
        rules.append(("are infinite", F.abs(value) == F.lit(float("inf"))))
    if column.type == "long" and dict(raw.dtypes)[column.source or name] != "string":
        rules.append(("are not whole numbers", given.cast("double") != value.cast("double")))
    if column.type == "string":
        rules.append(("are not UTF-8 (say source.options.encoding)", F.contains(value, F.lit("\ufffd"))))
    if column.required:
        rules.append((MISSING, value.isNull()))
    if column.min is not None:
        rules.append((f"are below {column.min:g}", value < column.min))
    if column.max is not None:
        rules.append((f"are above {column.max:g}", value > column.max))
    if column.allowed is not None:
        rules.append((f"are none of {', '.join(map(str, column.allowed))}", ~value.isin(*column.allowed)))
    return rules


def _cast(raw: DataFrame, name: str, column: config.Column) -> Column:
    value = F.col(quoted(column.source or name)).try_cast(column.type)
    return F.nanvl(value, F.lit(None).cast("double")) if column.type == "double" else value


def _is_nan(given: Column) -> Column:
    return F.lower(F.trim(given.cast("string"))) == F.lit("nan")
