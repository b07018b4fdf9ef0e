"""The data sets that come with scikit-learn, as `sklearn:<name>`, with their labels as text."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from steps.core import config
from steps.core.errors import ContractBroken, SourceUnreadable, did_you_mean
from steps.core.sources import contract
from steps.core.sources.rows import Part, RawRows
from steps.core.sources.source import Source

NAMES = ("iris", "wine", "breast_cancer", "diabetes")


class SklearnDataset(Source):
    """A data set that comes with scikit-learn, `sklearn:<name>`."""

    scheme = "sklearn"

    @property
    def name(self) -> str:
        return self.uri.removeprefix(f"{self.scheme}:")

    def check(self) -> None:
        if self.name not in NAMES:
            reason = f"there is no data set {self.name!r}{did_you_mean(self.name, NAMES)}; there are {', '.join(NAMES)}"
            raise SourceUnreadable(self.uri, reason)

    def fingerprint(self) -> str:
        return ""

    def columns(self) -> dict[str, pa.DataType]:
        schema = load(self.name).schema
        return dict(zip(schema.names, schema.types, strict=True))

    def parts(self, columns: Mapping[str, config.Column]) -> list[Part]:
        wanted = {name: column.source or name for name, column in columns.items()}
        if absent := contract.missing_columns(wanted, self.columns()):
            raise ContractBroken(self.uri, absent.values(), missing={name: wanted[name] for name in absent})
        return [DatasetPart(file=self.uri, size_bytes=0, name=self.name, columns=wanted)]


@dataclass(frozen=True, kw_only=True)
class DatasetPart(Part):
    """All rows of a data set; `columns` are names in the contract to names in the data set."""

    file: str
    size_bytes: int
    name: str
    columns: dict[str, str]

    def read(self) -> Iterator[RawRows]:
        rows = load(self.name)
        yield RawRows(columns=pa.table({name: rows[source] for name, source in self.columns.items()}))


def load(name: str) -> pa.Table:
    """A data set: its features, and `target`, by the names of the classes where it has them."""
    import pandas as pd
    from sklearn import datasets  # half a second that only these sources pay

    bunch = getattr(datasets, f"load_{name}")(as_frame=True)
    table: pd.DataFrame = bunch.frame
    if "target_names" in bunch:
        table["target"] = pd.Series(bunch.target_names)[bunch.target].to_numpy()
    return pa.Table.from_pandas(table, preserve_index=False)
