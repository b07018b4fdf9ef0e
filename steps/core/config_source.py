"""The keys `source` and `freshness` of the config: where the rows come from, and how old they may be."""

from typing import Annotated

from pydantic import Field

from steps.core.columns import Strict
from steps.core.config_types import Name


class Source(Strict):
    """Where the rows come from, and how they are read."""

    uri: Annotated[str, Field(min_length=1)]
    """Where the rows are: a file, folder or glob, `s3://`, `https://`, a Delta table, `jdbc:postgresql://` or
    `sklearn:<name>`. `**` in a glob stands for any number of folders, or none: `data/**/*.csv`."""
    format: str | None = None
    """`csv`, `json`, `parquet` or `delta`; by default from the names of the files."""
    options: dict[str, str | bool | int] = {}
    """How the format is read, such as `sep` and `encoding`; each format knows its own."""


class Freshness(Strict):
    """How old the newest row of a source may be, by the values of a date or timestamp column."""

    column: Name
    """A date or timestamp column."""
    at_most_hours: Annotated[float, Field(gt=0)]
    """How old its newest value may be when the source is ingested."""
