"""A config for a source that has none: what its columns are, what the model may see, and when a model is good enough.

A sample of its rows decides. Each decision is told with its reason; values that may be lost are left as they are.
"""

import json
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import pyarrow as pa
import yaml

from steps.core import config
from steps.core.columns import NUMBERS, TIMES
from steps.core.config import LONGEST_NAME, OTHER_TABLES, Config
from steps.core.errors import FeaturesMissing, SourceUnreadable, TargetNotFound, TargetUnfit
from steps.core.sources import column_notes, decisions_in_words, footers
from steps.core.sources.column_names import HASH_LETTERS, contract_names, hashed
from steps.core.sources.column_roles import (
    FEWEST_ROWS_OF_A_CLASS,
    KEY_TYPES,
    MOST_CLASSES,
    ColumnSample,
    key_candidates,
    unseen_reason,
)
from steps.core.sources.column_types import PERHAPS_A_CLASS, InferredType, infer_type
from steps.core.sources.decisions_in_words import Decision
from steps.core.sources.file_source import Files
from steps.core.sources.source import Source
from steps.core.sources.source_sample import SourceSample, read_sample, with_fields

TEXT_FORMATS = ("csv", "json")  # whose values are texts, of which the types are inferred
FILE_FORMATS = (*TEXT_FORMATS, "parquet")  # which files tell by their content
MODEL = {"num_boost_round": 200, "max_depth": 4, "learning_rate": 0.1, "early_stopping_rounds": 20, "seed": 7}
# Chance does not pass: the gate asks for more than shuffled labels reach. A new version may be as good as the champion.
GATES = {
    "classification": {"metric": "f1_macro", "min_gain_over_baseline": 0.05, "max_drop_below_champion": 0.01},
    "regression": {"metric": "r2", "min_gain_over_baseline": 0.05, "max_drop_below_champion": 0.01},
}


@dataclass(frozen=True, kw_only=True)
class InferredConfig:
    """`text` is the config's YAML, ready to be a file called `file_name`; `lines` say what was decided, and why."""

    config: Config
    text: str
    lines: list[str]

    @property
    def file_name(self) -> str:
        return f"{self.config.name}.yaml"


def infer_config(source: Source, *, target: str, name: str = "") -> InferredConfig:
    """A config for a source that was resolved; `target` is a column's name there, or as the contract would have it.

    TargetNotFound, TargetUnfit, FeaturesMissing, SourceUnreadable; ConfigInvalid for a `name` that cannot be one.
    """
    names = contract_names(column for column in source.columns() if column)
    if not names:
        raise SourceUnreadable(source.uri, "it has no rows", next="pass a source that has some")
    if target not in names:
        same = unicodedata.normalize("NFC", target)
        alike = (c for c, valid in names.items() if target == valid or same == unicodedata.normalize("NFC", c))
        target = next(alike, target)
    if target not in names:
        raise TargetNotFound(source.uri, target, names)
    column_count = len(names)
    found = read_sample(source, names)
    if target in found.unreadable:
        reason = f"the target {target!r} cannot be read: {found.unreadable[target]}"
        raise SourceUnreadable(
            source.uri, reason, next="correct the source, or pass another column with -P target=NAME"
        )
    twins = _twins(found.rows, names, target=target)
    found, names = _without(twins, found, names)
    decisions, left_out = _decide(source, found, names, target=target)
    left_out |= {column: f"it is {twin!r}, whose name differs only by case" for column, twin in twins.items()}
    columns = [
        *decisions_in_words.column_lines(decisions, target=names[target]),
        *[f"  left out {column!r}: {reason}" for column, reason in left_out.items()],
    ]
    others = {valid: decision.keys for valid, decision in decisions.items() if valid != names[target]}
    if all(keys.get("feature") is False for keys in others.values()):
        raise FeaturesMissing(source.uri, [line.strip() for line in columns])
    samples = {
        valid: ColumnSample.of(found.rows[valid], keys, name=valid)
        for valid, keys in others.items()
        if keys["type"] in KEY_TYPES
    }
    candidates = key_candidates(samples, first=next(iter(others)))
    key = candidates.clear[:1] if found.is_whole else []
    raw = _raw_config(source, decisions, target=names[target], key=key, name=name or _name_of(source))
    text = _yaml(raw, source)
    settings = config.parse(text, path=f"{raw['name']}.yaml")
    is_named_so = not isinstance(source, Files) or all(map(source.is_named_so, source.files()))
    lines = [
        f"{source.uri}: no config was given; inferred from {found.described} of {column_count} columns",
        *([] if is_named_so else [f"  format   {source.settings.format}, by the content of its files"]),
        *decisions_in_words.form_lines(source.settings.options, found.rows),
        f"  task     {settings.task}: {decisions[settings.target].reasons[0]}",
        f"  key      {decisions_in_words.key_line(key, candidates.all, is_whole=found.is_whole)}",
        *columns,
        *footers.notes(found, {name: settings.columns[name] for name in found.rows.column_names if name in decisions}),
    ]
    return InferredConfig(config=settings, text=text, lines=lines)


def _decide(
    source: Source, found: SourceSample, names: Mapping[str, str], *, target: str
) -> tuple[dict[str, Decision], dict[str, str]]:
    """The decision on each column, by its contract name, and why others are left out, by their name in the source."""
    decisions: dict[str, Decision] = {}
    kinds = source.columns()
    left_out: dict[str, str] = {"": "it has no name"} if "" in kinds else {}
    is_read, objects = set(found.rows.column_names), with_fields(names)
    for column, valid in names.items():
        inferred = infer_type(found.rows[valid], is_text=source.is_text) if valid in is_read else None
        kind = kinds[column]
        if column in found.unreadable:
            left_out[column] = found.unreadable[column]
        elif inferred is None and column == target:
            raise TargetUnfit(source.uri, target, f"it holds {kind}")
        elif inferred is None:
            if column not in objects or not pa.types.is_struct(kind):  # else one whose fields are columns
                left_out[column] = (
                    "it is an object" if pa.types.is_struct(kind) else f"the contract has no type for {kind}"
                )
        elif column == target:
            decisions[valid] = _target(source, column, found.rows[valid], inferred, found)
        else:
            decisions[valid] = _feature(column, found.rows[valid], inferred, valid)
    if isinstance(source, Files) and source.has_fixed_columns:
        for decision in decisions.values():
            if lacking := source.files_without(decision.source_name):
                decision.keys["nullable"] = True
                decision.reasons.append(f"missing in {len(lacking)} of {len(source.headers)} files, which have none")
    return decisions, left_out


def _twins(sample: pa.Table, names: Mapping[str, str], *, target: str) -> dict[str, str]:
    """Columns that have the values of another one, and its name in upper or lower case, with the name of that."""
    is_read = set(sample.column_names)
    firsts: dict[str, str] = {}
    twins = {}
    for column in sorted(names, key=lambda column: column != target):
        if names[column] in is_read:
            first = firsts.setdefault(column.lower(), column)
            if first != column and sample[names[column]].equals(sample[names[first]]):
                twins[column] = first
    return twins


def _without(
    twins: Collection[str], found: SourceSample, names: Mapping[str, str]
) -> tuple[SourceSample, dict[str, str]]:
    """The sample without these columns, and the names of the others, as if these were not there."""
    kept = contract_names(column for column in names if column not in twins)
    renamed = {names[column]: valid for column, valid in kept.items()}
    there = [name for name in found.rows.column_names if name in renamed]
    rows = found.rows.select(there).rename_columns([renamed[name] for name in there])
    return replace(found, rows=rows), kept


def _feature(column: str, values: pa.ChunkedArray, inferred: InferredType, valid: str) -> Decision:
    of_sample = ColumnSample.of(values, inferred.keys, name=valid)
    reason = unseen_reason(of_sample)
    keys = {**inferred.keys, **({"feature": False} if reason else {})}
    return Decision(source_name=column, keys=keys, reasons=[*([reason] if reason else []), *inferred.notes])


def _target(
    source: Source, column: str, values: pa.ChunkedArray, inferred: InferredType, found: SourceSample
) -> Decision:
    """Classes keep the words that the source has: yes and no stay texts, only true and false are booleans."""
    keys, notes = dict(inferred.keys), inferred.notes
    if keys["type"] == "boolean" and not _is_true_false(values):
        missing, notes = _missing_beside_classes(cast("list[str]", keys.get("missing", [])))
        keys = {"type": "string", **({"missing": missing} if missing else {})}
    of_sample = ColumnSample.of(values, keys, name=column)
    kind = of_sample.kind
    if kind in TIMES:
        raise TargetUnfit(source.uri, column, f"it holds values of type {kind}")
    if of_sample.distinct_count < 2:
        only = f"one value, {of_sample.values[0]!r}" if of_sample.distinct_count else "no value at all"
        where = "" if found.is_whole else f", in {found.described}, by which a config is inferred"
        raise TargetUnfit(source.uri, column, f"it has {only}{where}")
    has_many_values = _has_many_values(of_sample)
    if kind in NUMBERS and (has_many_values or not of_sample.is_whole_numbers):
        fraction = "" if of_sample.is_whole_numbers else " with fractions"
        reason = f"{column!r} has {of_sample.distinct_count} different numbers{fraction}"
        return Decision(source_name=column, keys=keys, reasons=[reason, *notes], task="regression")
    if has_many_values:
        holds = "; ".join([f"{of_sample.distinct_count} different values", *notes])
        raise TargetUnfit(source.uri, column, f"it has {holds}")
    if kind in NUMBERS:
        keys, kind = {**keys, "type": "long"}, "long"
    if kind == "string" and found.is_whole:
        keys["allowed"] = sorted(of_sample.values)
    words = {"string": "texts", "boolean": "true and false"}.get(kind, "whole numbers")
    reason = f"{column!r} has {of_sample.distinct_count} different values, {words}"
    return Decision(source_name=column, keys=keys, reasons=[reason, *notes])


def _missing_beside_classes(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Of words for a missing value, those that no class is called by; and notes on all of them."""
    missing = [word for word in words if word.lower() not in PERHAPS_A_CLASS]
    classes = [word for word in words if word not in missing]
    return missing, [*column_notes.missing(missing), *column_notes.kept(classes)]


def _has_many_values(sample: ColumnSample) -> bool:
    """Whether a target has too many different values for classes."""
    if sample.distinct_count == sample.row_count:
        return True
    most = sample.row_count / FEWEST_ROWS_OF_A_CLASS if sample.kind == "string" else 0
    return sample.distinct_count > max(MOST_CLASSES, most)


def _is_true_false(values: pa.ChunkedArray) -> bool:
    if pa.types.is_boolean(values.type):
        return True
    words = {str(value).strip().lower() for value in values.unique().to_pylist() if value is not None}
    return {"true", "false"} <= words


def _name_of(source: Source) -> str:
    """A table's name from that of its file or table, which no other has; a hash stands for what cannot be in it."""
    given = source.named_after.replace("*", " ").replace("?", " ")
    name = contract_names([given], of="table")[given]
    if name.endswith(OTHER_TABLES) or len(name) > LONGEST_NAME:
        return hashed(given, words=name[: LONGEST_NAME - HASH_LETTERS - 1])
    return name


def _raw_config(
    source: Source, decisions: Mapping[str, Decision], *, target: str, key: Sequence[str], name: str
) -> dict[str, Any]:
    task = decisions[target].task
    columns = {
        valid: {**({"source": decision.source_name} if decision.source_name != valid else {}), **decision.keys}
        for valid, decision in decisions.items()
    }
    return {
        "name": name,
        "source": source.settings.model_dump(mode="json", exclude_defaults=True),
        "columns": columns,
        **({"key": list(key)} if key else {}),
        "target": target,
        "task": task,
        "split": {"test": 0.2, "validation": 0.1, "seed": 7},
        "model": {"name": f"{name}_model", **MODEL},
        "gate": GATES[task],
    }


def _yaml(raw: Mapping[str, Any], source: Source) -> str:
    """The config as people write it: a column a line, and every text that YAML would take for something else quoted."""
    lines = [f"# Inferred from {json.dumps(source.uri, ensure_ascii=False)}; edit it as you see fit."]
    for name, value in raw.items():
        if name == "columns":
            lines += ["columns:", *(f"  {_flow(column)}: {_flow(keys)}" for column, keys in value.items())]
        else:
            lines.append(f"{name}: {_flow(value)}")
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    """A value of YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=float("inf"))
    return text.removesuffix("\n...\n").removesuffix("\n")
