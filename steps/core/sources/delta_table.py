"""A Delta table that others write, read at its newest version, or at one that is named."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from steps.core import config
from steps.core.errors import ContractBroken, SourceUnreadable
from steps.core.sources import contract, nested
from steps.core.sources.file_source import Header
from steps.core.sources.rows import Part, RawRows
from steps.core.sources.source import Source
from steps.core.storage import filesystem
from steps.core.tables import location, snapshot
from steps.core.tables.snapshot import Snapshot

PINNED = re.compile(r"@v\d+$")  # ends a path that names a version of a table


class DeltaTable(Source):
    """A Delta table, at its newest version, at `@v<N>` or at the option versionAsOf."""

    format = "delta"
    has_files = False
    options = ("versionAsOf",)

    @classmethod
    def recognizes(cls, path: str, files: Collection[str]) -> bool:
        return filesystem.is_delta(PINNED.sub("", path))

    def check(self) -> None:
        version = self.option("versionAsOf")
        if version and not version.isdecimal():
            reason = f"source.options.versionAsOf: {version!r} is no version, which is a whole number"
            raise SourceUnreadable(self.uri, reason, next="correct it in the config, or leave it out")
        if not filesystem.is_delta(self._uri.path):
            next = "correct source.format in the config, or leave it out"
            raise SourceUnreadable(self.uri, "it is not a Delta table", next=next)

    @property
    def _uri(self) -> location.TableUri:
        uri = location.parse_table(self.uri)
        version = self.option("versionAsOf")
        return location.TableUri(uri.path, int(version)) if version and uri.version is None else uri

    @cached_property
    def _snapshot(self) -> Snapshot:
        return snapshot.open(self._uri)

    def size_bytes(self) -> int:
        return self._snapshot.size_bytes

    def fingerprint(self) -> str:
        return f"{self._snapshot} {self._snapshot.identity}"  # a version never changes, and no other is read

    def columns(self) -> dict[str, pa.DataType]:
        return dict(nested.leaves(self._snapshot.schema))

    def parts(self, columns: Mapping[str, config.Column]) -> list[Part]:
        present = self.columns()
        header = Header(tuple(present), tuple(present.values()))
        asked = {name: column.source or name for name, column in columns.items()}
        wanted = {name: header.find(source) or source for name, source in asked.items()}
        if absent := contract.missing_columns(wanted, present):
            raise ContractBroken(self.uri, absent.values(), missing={name: wanted[name] for name in absent})
        for source in wanted.values():
            nested.check_is_value(self.uri, source, present[source])
        uri = self._snapshot.uri
        return [TablePart(table=uri, file=str(uri), size_bytes=self.size_bytes(), columns=wanted)]


@dataclass(frozen=True, kw_only=True)
class TablePart(Part):
    """A version of a table, of which `columns` are wanted: names in the contract to those in the table."""

    table: location.TableUri
    file: str  # the table's URI
    size_bytes: int
    columns: dict[str, str]

    def read(self) -> Iterator[RawRows]:
        table = snapshot.open(self.table)
        names = dict.fromkeys(nested.top(source, table.schema) for source in self.columns.values())
        for batch in table.batches(list(names)):
            rows = pa.Table.from_batches([batch])
            yield RawRows(columns=pa.table({name: nested.leaf(rows, source) for name, source in self.columns.items()}))
