"""What a table's rows must be: source columns cast to the contract's types, and every row that breaks a rule found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pyspark.sql import Column, DataFrame
from pyspark.sql.connect import functions as F

from steps.core import config
from steps.core.errors import ContractBroken, SourceUnlabelled, did_you_mean
from steps.core.sources.source import Source, quoted

# Spark's own format ends at milliseconds, which would make rows equal that are not.
TO_THE_MICROSECOND = {"timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX"}
MISSING = "are missing"  # how rows break the rule `required`


class _Rule(NamedTuple):
    """A rule of one column: `text` ends the sentence 'N rows ...', `is_broken` holds for the rows that break it."""

    column: str
    text: str
    is_broken: Column
    source_value: Column

    def violation(self, count: int, row_count: int, example: str | None) -> str:
        such_as = "" if example is None else f", such as {example!r}"
        return f"column {self.column!r}: {count} of {row_count} rows {self.text}{such_as}"


@dataclass(frozen=True, kw_only=True)
class ValidationResult:
    """How many rows there are, their order-free `fingerprint`, the rules that some break, a profile of each column."""

    row_count: int
    fingerprint: str
    violations: list[str]
    profile: dict[str, dict[str, Any]]

    def is_only_unlabelled(self, target: str) -> bool:
        """Whether no row has anything but blanks in the target, and nothing else is wrong."""
        column = self.profile[target]
        is_empty = column["missing"] == self.row_count or not column["max"].strip()
        expected = f"column {target!r}: {self.row_count} of {self.row_count} rows {MISSING}"
        return is_empty and set(self.violations) <= {expected}


def check(raw_rows: DataFrame, settings: config.Config, *, source: Source, table: str) -> ValidationResult:
    """Check all rows of a source, as it was read, against the contract of the config.

    ContractBroken with every rule that is broken, or for want of rows or columns. SourceUnlabelled when all that is
    missing are labels: the target's column, or a value in it in any row.
    """
    _check_columns(raw_rows.columns, settings, source=source, table=table)
    with source.explaining_errors():
        result = validate(raw_rows, settings.columns)
    if not result.row_count:
        raise ContractBroken(source.uri, ["it has no rows"])
    if result.is_only_unlabelled(settings.target):
        reason = f"its target, column {settings.target!r}, is empty in all {result.row_count} rows"
        raise SourceUnlabelled(source.uri, reason, table=table)
    if result.violations:
        raise ContractBroken(source.uri, result.violations)
    return result


def _check_columns(present: list[str], settings: config.Config, *, source: Source, table: str) -> None:
    columns = {name: column.source or name for name, column in settings.columns.items()}
    if not (absent := missing_columns(columns, present)):
        return
    if misread := source.misread_reason(present):
        raise ContractBroken(source.uri, [misread])
    if list(absent) == [settings.target]:
        raise SourceUnlabelled(source.uri, absent[settings.target], table=table)
    raise ContractBroken(source.uri, absent.values())


def missing_columns(columns: Mapping[str, str], present: list[str]) -> dict[str, str]:
    """A message for each column that the source does not have. `columns` are its names in the contract and there."""
    return {
        name: f"column {name!r}: the source has no {source_name!r}{did_you_mean(source_name, present)}"
        f"; it has {', '.join(present)}"
        for name, source_name in columns.items()
        if source_name not in present
    }


def conform(raw_rows: DataFrame, columns: Mapping[str, config.Column]) -> DataFrame:
    """The rows with the contract's columns, names and types only. A value that does not fit, and NaN, becomes null."""
    return raw_rows.select(*[_cast(name, column).alias(name) for name, column in columns.items()])


def validate(raw_rows: DataFrame, columns: Mapping[str, config.Column]) -> ValidationResult:
    """Count, fingerprint and check all rows in one pass over them."""
    source_types = dict(raw_rows.dtypes)
    rules = [rule for name, column in columns.items() for rule in _rules(name, column, source_types)]
    aggregates = _aggregates(rules, {name: _cast(name, column) for name, column in columns.items()})
    totals = raw_rows.select(*[aggregate.alias(key) for key, aggregate in aggregates.items()]).collect()[0].asDict()
    types = ",".join(f"{name}:{column.type}" for name, column in columns.items())
    return ValidationResult(
        row_count=totals["rows"],
        fingerprint=f"{types}|{totals['rows']}|{totals['hash'] or 0}",
        violations=[
            rule.violation(totals[f"broken {number}"], totals["rows"], totals[f"example {number}"])
            for number, rule in enumerate(rules)
            if totals[f"broken {number}"]
        ],
        profile={
            name: {
                "type": column.type,
                "missing": totals["rows"] - totals[f"present {name}"],
                "min": totals[f"min {name}"],
                "max": totals[f"max {name}"],
            }
            for name, column in columns.items()
        },
    )


def _aggregates(rules: Sequence[_Rule], values: Mapping[str, Column]) -> dict[str, Column]:
    """What one pass over the rows computes, by keys of its own; `values` are the columns of the contract."""
    whole_row = F.to_json(F.struct(*[value.alias(name) for name, value in values.items()]), TO_THE_MICROSECOND)
    aggregates = {"rows": F.count(F.lit(1)), "hash": F.sum(F.xxhash64(whole_row).cast("decimal(38,0)"))}
    for number, rule in enumerate(rules):
        aggregates[f"broken {number}"] = F.count_if(rule.is_broken)
        aggregates[f"example {number}"] = F.min(F.when(rule.is_broken, rule.source_value.cast("string")))
    for name, value in values.items():
        aggregates[f"present {name}"] = F.count(value)
        aggregates[f"min {name}"] = F.min(value).cast("string")
        aggregates[f"max {name}"] = F.max(value).cast("string")
    return aggregates


def _rules(name: str, column: config.Column, source_types: Mapping[str, str]) -> list[_Rule]:
    source_name = column.source or name
    source_value, value = F.col(quoted(source_name)), _cast(name, column)
    is_nan = F.lower(F.trim(source_value.cast("string"))) == F.lit("nan")
    rules = [(f"are not of type {column.type}", source_value.isNotNull() & value.isNull() & ~is_nan)]
    if column.type == "double":
        rules.append(("are infinite", F.abs(value) == F.lit(float("inf"))))
    if column.type == "long" and source_types[source_name] != "string":
        rules.append(("are not whole numbers", source_value.cast("double") != value.cast("double")))
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
    return [_Rule(name, text, is_broken, source_value) for text, is_broken in rules]


def _cast(name: str, column: config.Column) -> Column:
    """The value of a column of the contract; null where the source's value does not fit its type."""
    value = F.col(quoted(column.source or name)).try_cast(column.type)
    return F.nanvl(value, F.lit(None).cast("double")) if column.type == "double" else value
