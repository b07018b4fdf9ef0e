"""Delimited text files: CSV, TSV and their kind. The first rows of each file say what it looks like."""

from collections.abc import Mapping
from functools import cached_property

import pyarrow as pa

from steps.core.columns import Column
from steps.core.sources import csv_form, csv_options, csv_part
from steps.core.sources.csv_form import CsvForm
from steps.core.sources.csv_options import CsvOptions
from steps.core.sources.file_source import Files, Header
from steps.core.sources.rows import Part


class CsvFiles(Files):
    """Separated values as RFC 4180 has them, and what else there is: csv_form.py says what is found out by itself.

    All columns are text. Rows that have not as many values as the header are malformed, and so is a header that comes
    again.
    """

    format = "csv"
    endings = (".csv", ".tsv", ".tab", ".psv")
    options = csv_options.OPTIONS
    instead = csv_options.INSTEAD

    @property
    def is_text(self) -> bool:
        return True

    def check(self) -> None:
        csv_options.parse(self.uri, self.settings.options)  # refuses wrong ones
        super().check()

    def header_of(self, file: str, size_bytes: int) -> Header | None:
        form = self.form_of(file, size_bytes)
        return Header(form.names, (pa.string(),) * len(form.names)) if form.has_rows else None

    def parts_of(self, file: str, size_bytes: int, columns: Mapping[str, str]) -> list[Part]:
        form = self.form_of(file, size_bytes)
        places = csv_part.places_of(form, columns)
        return list(csv_part.parts_of(file, size_bytes, form, self._options, places))

    def with_missing(self, columns: Mapping[str, Column]) -> dict[str, Column]:
        """The columns, in which the option nullValue is missing as well."""
        values = [value for name, value in self.settings.options.items() if name.lower() == "nullvalue"]
        missing = tuple(map(str, values))
        return {
            name: column.model_copy(update={"missing": (*column.missing, *missing)}) for name, column in columns.items()
        }

    def form_of(self, file: str, size_bytes: int) -> CsvForm:
        """The form of a file, which is looked at once."""
        if (file, size_bytes) not in self._forms:
            self._forms[file, size_bytes] = csv_form.look_at(file, size_bytes, self._options)
        return self._forms[file, size_bytes]

    @cached_property
    def _options(self) -> CsvOptions:
        return csv_options.parse(self.uri, self.settings.options)

    @cached_property
    def _forms(self) -> dict[tuple[str, int], CsvForm]:
        """Of the files that were looked at."""
        return {}
