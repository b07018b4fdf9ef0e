"""The model card of a version, for MLflow's page of it: Markdown for people. The tags beside it are for machines."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

from steps.core import markdown
from steps.core.models import model_page, registry, scorer, split
from steps.core.models.report import Report
from steps.core.models.verdict import FEW_ROWS
from steps.core.tracking import runs

TEMPLATE = Path(__file__).with_name("model_card.md.j2")
CODE_CHARACTERS = 300  # for the names of all columns; else they are read from the model
COLUMNS_CHARACTERS = 200  # for those that decide a row's part
OF_MODEL = "model."  # parameters of the run of train: model.<hyperparameter>


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What evaluate found out, in this run."""

    report: Report
    run_id: str
    experiment_id: str


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a model card is made of. `train_run` and `judgement` are None where there is none (any more, or yet)."""

    version: ModelVersion
    schema: scorer.Schema
    train_run: Run | None
    judgement: Judgement | None

    def text(self, rows: int = 10**6) -> str:
        """The card as Markdown; no list or table has more than `rows`."""
        parameters = self.train_run.data.params if self.train_run else {}
        metrics = self.train_run.data.metrics if self.train_run else {}
        train = self.train_run.info if self.train_run else None
        judged = self.judgement
        return markdown.render(
            TEMPLATE,
            version=self.version,
            uri=registry.uri_of(self.version),
            schema=self.schema,
            split=_split_in_words(split.recorded(self.schema.split), rows),
            parameters=_hyperparameters(parameters),
            part_rows={part: int(metrics[f"{part}_rows"]) for part in split.PARTS if f"{part}_rows" in metrics},
            metrics=metrics,
            train_link=_run_link(train.experiment_id, train.run_id) if train else "",
            judge_link=_run_link(judged.experiment_id, judged.run_id) if judged else "",
            report=judged.report if judged else None,
            score_names=_names(judged.report.scores) if judged else [],
            loading=_loading(self.version, self.schema),
            rows=rows,
            **FORMATS,
        )


def of_version(version: ModelVersion, schema: scorer.Schema, *, judgement: Judgement | None) -> Card:
    """The card of a version; without a judgement it says that it is not judged yet."""
    return Card(version=version, schema=schema, train_run=runs.find(version.run_id or ""), judgement=judgement)


def describe(version: ModelVersion, card: Card) -> None:
    """Write the card into the version's description, and into its model's what the model and its aliases are now."""
    current = registry.resolve(registry.uri_of(version))  # with what a user wrote meanwhile
    registry.describe(current, markdown.shortened(card.text, registry.description_room(current)))
    model_page.describe(version.name)


def _hyperparameters(parameters: Mapping[str, str]) -> dict[str, str]:
    named = {key.removeprefix(OF_MODEL): value for key, value in sorted(parameters.items()) if key.startswith(OF_MODEL)}
    return {name: value for name, value in named.items() if name != "name"}


def _split_in_words(settings: split.SplitSettings, rows: int) -> str:
    """The shares of the parts and what decides a row's part, of which at most `rows` columns are named."""
    shares = f"test {settings.test:g}, validation {settings.validation:g}"
    if settings.time:
        begins = zip(("validation", "test"), map(split.in_words, settings.boundaries), strict=False)
        deciding = f"by {settings.time}, {', '.join(f'{part} from {begin}' for part, begin in begins)}"
    elif settings.without_group:
        deciding = f"seed {settings.seed}, by the groups of {settings.columns[0]}"
    else:
        names = markdown.clipped(", ".join(settings.columns[:rows]), COLUMNS_CHARACTERS)
        deciding = f"seed {settings.seed}, by {names}{', …' if len(settings.columns) > rows else ''}"
    window = (
        f"; of rows whose {settings.window} is in the {settings.window_days:g} days from "
        f"{split.in_words(settings.window_from)} on"
    )
    return f"{shares}, {deciding}{window if settings.window else ''}"


def _names(scores: Mapping[str, Mapping[str, float]]) -> list[str]:
    return list(dict.fromkeys(name for column in scores.values() for name in column))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}" if abs(value) >= 1000 else f"{value:.4f}"


def _interval(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{_number(interval[0])} to {_number(interval[1])}"


def _labels(labels: Sequence[str | int | bool]) -> str:
    """Labels in words: one that is more than a word is in quotes, so that it is seen where each ends."""
    return ", ".join(map(_label, labels))


def _label(label: object) -> str:
    text = str(label)
    return text if re.fullmatch(r"[\w.+-]+", text) else json.dumps(text, ensure_ascii=False)


def _few_rows(per_class: Mapping[str, Mapping[str, float]]) -> list[str]:
    return [f"{_label(label)} {row['rows']:.0f}" for label, row in per_class.items() if row["rows"] <= FEW_ROWS]


FORMATS = {"number": _number, "interval": _interval, "few_classes": _few_rows, "labels": _labels}


def _run_link(experiment_id: str, run_id: str) -> markdown.Markdown:
    return markdown.link(f"run {run_id[:8]}", f"#/experiments/{experiment_id}/runs/{run_id}")


def _loading(version: ModelVersion, schema: scorer.Schema) -> markdown.Markdown:
    """A block of code that loads the version and predicts."""
    columns = json.dumps([feature.name for feature in schema.features])
    if len(columns) > CODE_CHARACTERS:
        columns = "model.metadata.get_input_schema().input_names()"
    lines = [
        "import mlflow",
        "",
        f"model = mlflow.pyfunc.load_model({json.dumps(registry.uri_of(version))})",
        f"columns = {columns}",
        "predictions = model.predict(frame[columns])  # frame: a pandas DataFrame",
    ]
    return markdown.code_block("\n".join(lines), "python")
