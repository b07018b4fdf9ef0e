"""A table of rows to predict and its predictions, brought up to date as the step `infer` does it, in this process."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import write_deltalake
from place import rows_of
from small import flowers_model, loaded, model_of

from steps.core.models import inference
from steps.core.models.inference import Result
from steps.core.models.loading import LoadedModel
from steps.core.models.scorer import Scorer
from steps.core.models.scoring_plan import SCORED_BY, TABLE_ID, Mode
from steps.core.tables import snapshot
from steps.core.tables.location import TableUri

TYPES = pa.schema(
    {
        **{"petal_length": pa.float64(), "petals": pa.int64(), "wild": pa.bool_(), "color": pa.string()},
        **{"species": pa.string(), "day": pa.date32(), "at": pa.timestamp("us", "UTC")},
    }
)
SCORED = ["prediction", "probability", "probabilities"]
Row = dict[str, Any]


def row(number: int = 1, **values: Any) -> Row:
    """A row without a key; equal for equal numbers."""
    return {**dict.fromkeys(TYPES.names), "petal_length": number / 2, "petals": 5, "color": "red", **values}


def rows(*numbers: int) -> list[Row]:
    return [row(number) for number in numbers]


class Lake:
    """A table of rows to predict, its predictions, and runs of infer with numbers for ids."""

    def __init__(self, folder: Path) -> None:
        self.table, self.predicted = TableUri(f"{folder}/t"), TableUri(f"{folder}/t_predictions")
        self.runs = 0
        self.metrics: list[dict[str, float]] = []  # of each run

    def write(self, stored: Sequence[Row], *, mode: Any = "overwrite", schema: pa.Schema = TYPES) -> None:
        table = pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in stored], schema)
        write_deltalake(self.table.path, table, mode=mode, schema_mode="overwrite" if mode == "overwrite" else "merge")

    def infer(
        self,
        *,
        model: str = "models:/m/1",
        mode: Mode = "new",
        key: Sequence[str] = (),
        code: str = "",
        scorer: Scorer | None = None,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> Result:
        """`meanwhile` is called once, after it was decided what to do."""

        def load() -> LoadedModel:
            meanwhile()
            return loaded(scorer or flowers_model(), model)

        table = snapshot.open(self.table)
        self.runs += 1
        run_id = str(self.runs)
        result = inference.run(
            table,
            self.predicted,
            load=load,
            key=key,
            mode=mode,
            made_of={
                **{"table": str(table), "table.identity": table.identity, "model": model, "code": code},
                **{SCORED_BY: f"{model} {code}", TABLE_ID: str(table.delta_table.metadata().id)},
            },
            made_by={"run_id": run_id},
        )
        self.metrics.append(result.metrics)
        return result

    def predictions(self, version: int | None = None) -> list[Row]:
        stored: list[Row] = rows_of(self.predicted.path, version).to_pylist()
        return stored

    def live(self) -> list[Row]:
        return [row for row in self.predictions() if row["deleted_at"] is None]

    def gone(self) -> list[Row]:
        return [row for row in self.predictions() if row["deleted_at"] is not None]

    def runs_of(self, stored: Sequence[Row]) -> dict[str, int]:
        return dict(sorted(Counter(row["run_id"] for row in stored).items()))


def optional_color_model() -> Scorer:
    """The flowers' model, to which a table need not have colors."""
    model = flowers_model()
    features = [dataclasses.replace(f, optional=f.name == "color") for f in model.schema.features]
    return model_of(model.booster, dataclasses.replace(model.schema, features=tuple(features)))
