"""Where labels come from: a version of a Delta table, or files, read as ingest does and by the rules of the config."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from steps.core.columns import Column
from steps.core.config import Config, Source
from steps.core.errors import ContractBroken, SourceUnreadable
from steps.core.monitoring.errors import LabelsUnusable
from steps.core.sources import contract, kinds
from steps.core.sources import source as sources
from steps.core.sources.contract import Rule
from steps.core.sources.delta_table import DeltaTable
from steps.core.tables import location, snapshot
from steps.core.tables.snapshot import Snapshot

REQUEST = {  # what tells a row of the request log, in whose labels these columns are
    "request_id": Column(type="string"),
    "row": Column(type="long"),
}


@dataclass(kw_only=True)
class LabelSource:
    """`uri` is absolute, and pinned where the labels are a `table`; `columns` are the `key`, which tells a row, and the
    `target`. As the labels are read, `rejected_rows` are counted, and in `rejected` by the rule that they break."""

    uri: str
    key: tuple[str, ...]
    target: str
    columns: Mapping[str, Column]
    source: sources.Source
    table: Snapshot | None = None
    rejected_rows: int = 0
    rejected: Counter[Rule] = field(default_factory=Counter)
    examples: dict[Rule, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """A digest of all labels, which changes when one does."""
        return self.source.fingerprint() or ""

    @property
    def has_changed(self) -> bool:
        """Whether files of labels were written to since they were found, so that the digest may be that of others."""
        return self.source.has_changed()

    def batches(self) -> Iterator[pa.Table]:
        """The rows that keep the config's rules, some at a time: the key, which is never missing, and the target.

        LabelsUnusable when they cannot be read.
        """
        self.rejected_rows, self.rejected = 0, Counter()
        try:
            with self.source.opened():
                for part in self.source.parts(self.columns):
                    for raw in part.read():
                        checked = contract.check(raw, self.columns, file=part.file, key=self.key)
                        self.rejected_rows += len(checked.rejects)
                        self.rejected.update(checked.broken)
                        self.examples.update({**checked.examples, **self.examples})
                        yield checked.rows
        except (ContractBroken, SourceUnreadable) as err:
            raise _unusable(self.uri, err) from err


def find(uri: str, settings: Config, *, predictions: Collection[str]) -> LabelSource:
    """The labels at `uri` for predictions with these columns. LabelsUnusable when there are none, or none that tell
    their row."""
    try:
        source = kinds.resolve(Source(uri=uri))
        if source.needs_spark:
            raise LabelsUnusable(source.uri, ["a database is not read for labels"])
        with source.opened():
            present = list(source.columns())
        if not present:
            raise LabelsUnusable(source.uri, ["it has no rows"])
    except (ContractBroken, SourceUnreadable) as err:
        raise _unusable(uri, err) from err
    ways = [{name: settings.columns[name] for name in settings.key}, REQUEST]
    known = [way for way in ways if way and all(name in predictions for name in way)]
    key = next((found for way in known if (found := _found(way, present))), None)
    target = _found({settings.target: settings.columns[settings.target]}, present)
    mistakes = _mistakes(settings, known, present, key=key, has_target=bool(target))
    if mistakes or key is None or target is None:
        raise LabelsUnusable(source.uri, mistakes)
    optional = {name: column.model_copy(update={"nullable": None}) for name, column in target.items()}
    table = _table(source)
    return LabelSource(
        uri=str(table) if table else source.uri,
        table=table,
        key=tuple(key),
        target=settings.target,
        columns=source.with_missing({**key, **optional}),  # a label may be missing: it has not come
        source=source,
    )


def _found(columns: Mapping[str, Column], present: Sequence[str]) -> dict[str, Column] | None:
    """The columns as the labels have them, by their names in the config or in its source; None where one is not there.
    Upper and lower case are the same."""
    there = {name.lower() for name in present}
    found = {}
    for name, column in columns.items():
        named = next((one for one in (name, column.source) if one and one.lower() in there), None)
        if named is None:
            return None
        found[name] = column.model_copy(update={"source": named})
    return found


def _mistakes(
    settings: Config,
    ways: Sequence[Mapping[str, Column]],
    present: Sequence[str],
    *,
    key: Mapping[str, Column] | None,
    has_target: bool,
) -> list[str]:
    there_is = f"it has {', '.join(present)}"
    mistakes = [] if has_target else [f"it has no column {settings.target!r}, the target; {there_is}"]
    if not ways:
        mistakes.append(
            "nothing in the predictions tells one row from another: the config has no key, and they have no request_id"
        )
    elif key is None:
        asked = " or ".join(" and ".join(way) for way in ways)
        mistakes.append(f"it does not say which prediction a label belongs to, by {asked}; {there_is}")
    return mistakes


def _table(source: sources.Source) -> Snapshot | None:
    """The version that is read, as a table that others write may get another meanwhile; None of files."""
    return snapshot.open(location.parse_table(source.parts({})[0].file)) if isinstance(source, DeltaTable) else None


def _unusable(uri: str, error: ContractBroken | SourceUnreadable) -> LabelsUnusable:
    """What a source says of itself, said of labels."""
    given = str(error).partition("\n  expected  ")[0].partition(": ")[2]
    return LabelsUnusable(uri, [given.removeprefix("source ").removeprefix(f"{uri}: ")])
