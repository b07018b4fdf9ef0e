"""What the rows looked like that a model was trained on: counts of a sample of them, which train keeps with the model.
They are those of the train part alone: parted by time, the others are of another time.

They are a file among the model's own, of some kilobytes, so they are there as long as the model is, also when its table
was vacuumed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from mlflow.entities.model_registry import ModelVersion

from steps.core.config import Config
from steps.core.models import loading, model_files, registry, scorer
from steps.core.models.grouping import Grouping, grouping_of
from steps.core.monitoring import bins as bins_of
from steps.core.monitoring.bins import MISSING, Bins
from steps.core.monitoring.errors import ReferenceUnknown
from steps.core.monitoring.groups import GroupSizes, intraclass_correlation
from steps.core.monitoring.summary import Counts, summarize
from steps.core.tables import commit, location, snapshot
from steps.core.tables.snapshot import Snapshot

FORMAT_VERSION = 1
NOT_IN_FILE = ("levels",)  # of Bins: the model's schema has them


@dataclass(frozen=True, kw_only=True)
class FeatureReference:
    """The `counts` of a feature in the sample. Of the values that are categories, `new` are in rows of the other parts,
    `unseen` of which training did not have: as many as are to be expected of any rows that are new.

    `correlation` is how alike values of one group of rows are, `missing_correlation` how alike in being missing.
    """

    bins: Bins
    counts: Counts
    new: int = 0
    unseen: int = 0
    correlation: float = 0.0
    missing_correlation: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Reference:
    """`rows` of the table's train part were sampled. `columns` are those of the table, by name with their types;
    `rows_together` is how many rows of the sample a row's group has (GroupSizes). Of the ingest that wrote the table,
    `rejected` of `read` rows broke the contract; both 0 where its commit does not tell."""

    table_uri: str
    table_rows: int
    rows: int
    columns: Mapping[str, str]
    features: tuple[FeatureReference, ...]
    grouping: Grouping | None = None
    rows_together: float = 1.0
    read: int = 0
    rejected: int = 0

    def dumps(self) -> str:
        """As JSON, which loads() reads."""
        features = []
        for one in self.features:
            bins = {name: value for name, value in asdict(one.bins).items() if name not in NOT_IN_FILE}
            counts = {"bins": one.counts.bins.tolist(), "missing": one.counts.missing}
            features.append({**_scalars(one), "bins": bins, "counts": counts})
        written = {**_scalars(self), "columns": dict(self.columns), "features": features}
        written["grouping"] = asdict(self.grouping) if self.grouping else None
        return json.dumps({"format_version": FORMAT_VERSION, **written}, allow_nan=False)

    @classmethod
    def loads(cls, text: str, schema: scorer.Schema) -> "Reference":
        """What dumps() wrote for a model with this schema. ValueError for another format; KeyError, TypeError."""
        written = json.loads(text)
        if (version := written.pop("format_version")) != FORMAT_VERSION:
            raise ValueError(f"format {version!r}")
        levels = {feature.name: feature.levels for feature in schema.features}
        features = []
        for one in written.pop("features"):
            bins = Bins(**_tuples(one.pop("bins")))
            counts = Counts(bins=np.array(one["counts"]["bins"], np.int64), missing=one.pop("counts")["missing"])
            features.append(FeatureReference(bins=replace(bins, levels=levels[bins.name]), counts=counts, **one))
        grouping = written.pop("grouping")
        return cls(**written, features=tuple(features), grouping=Grouping(**grouping) if grouping else None)


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A version of a model with what it was trained on: `table_identity` tells that version of its table from others
    that had or will have its URI, "" where it is not known."""

    uri: str
    schema: scorer.Schema
    reference: Reference
    table_identity: str = ""

    def is_of(self, table: Snapshot) -> bool:
        """Whether it was trained on a version of this table, by its place."""
        return location.parse_table(self.reference.table_uri).path == table.path

    @cached_property
    def table(self) -> Snapshot | None:
        """The version of the table that it was trained on; None where it is gone, or was made anew since."""
        found = snapshot.find(location.parse_table(self.reference.table_uri))
        return found if found and self.table_identity in ("", found.identity) else None


def of_sample(
    sample: pa.Table, schema: scorer.Schema, settings: Config, *, others: pa.Table, table: Snapshot
) -> Reference:
    """Of a `sample` of the train part of `table`, and of rows of its `others`, with all columns that training reads."""
    grouping = grouping_of(settings)
    groups = grouping.codes(sample) if grouping else None
    read = table.commit.metadata.get(commit.ROWS_READ, 0)
    return Reference(
        table_uri=str(table),
        table_rows=table.row_count,
        rows=len(sample),
        columns={column.name: str(column.type) for column in table.schema},
        features=features_of(sample, schema.features, others=others, groups=groups),
        grouping=grouping,
        rows_together=GroupSizes.of(sample, grouping).rows_together,
        read=int(read),
        rejected=int(table.commit.metadata.get(commit.ROWS_REJECTED, 0)),
    )


def features_of(
    sample: pa.Table, features: Sequence[scorer.Feature], *, others: pa.Table, groups: np.ndarray | None = None
) -> tuple[FeatureReference, ...]:
    """What a sample of the train part says of each feature, and rows of the `others` of what is new. `groups` tells
    which rows of the sample belong together, (n,)."""
    bins = bins_of.of_features(features, sample)
    counts = summarize(sample, bins).counts
    return tuple(_of_feature(sample, one, counts[one.name], others, groups) for one in bins)


def load(version: ModelVersion) -> Watched:
    """ReferenceUnknown when a version keeps none, or one that cannot be read here; ModelDamaged, ModelNotFound."""
    folder, uri = model_files.fetch(version), registry.uri_of(version)
    schema = loading.read_schema(folder, version)
    file = folder / model_files.REFERENCE
    if not file.is_file():
        raise ReferenceUnknown(uri, "does not tell what its training rows looked like")
    try:
        reference = Reference.loads(file.read_text(encoding="utf-8"), schema)
    except (KeyError, TypeError, ValueError) as err:
        raise ReferenceUnknown(uri, f"has an artifacts/reference.json that cannot be read here: {err!r}") from err
    identity = version.tags.get(registry.TABLE_IDENTITY, "")
    return Watched(uri=uri, schema=schema, reference=reference, table_identity=identity)


def _of_feature(
    sample: pa.Table, bins: Bins, counts: Counts, others: pa.Table, groups: np.ndarray | None
) -> FeatureReference:
    known: dict[str, Any] = {"bins": bins, "counts": replace(counts, unseen=0)}
    if bins.levels is not None:
        column = others[bins.name]
        known |= {"new": len(column) - column.null_count, "unseen": bins.unseen(column)}
    if groups is not None:
        positions = bins.positions(sample[bins.name])
        present = positions != MISSING
        known["correlation"] = intraclass_correlation(groups[present], bins.indicators(positions[present]))
        known["missing_correlation"] = intraclass_correlation(groups, present[:, None])
    return FeatureReference(**known)


def _scalars(thing: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(thing).items() if isinstance(value, (str, int, float))}


def _tuples(written: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in written.items()}
