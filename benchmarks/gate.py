"""How often the gate passes a good model, and a coin that is flipped, on test parts of about 30 rows.

Reads   200 tables of each kind, made from seeds: Iris itself, split by another seed each time; two classes that one
        column tells apart in four of five rows; and Iris with its labels shuffled, where nothing can be learnt
Writes  to stdout, for each metric: the share of verdicts, and what each of the two proofs against chance would pass
"""

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
from sklearn import datasets

from steps.core import config
from steps.core.models import evaluation, loading, scorer, split, training
from steps.core.models.verdict import Verdict

TABLES = 200
ROWS = 150
METRICS = ("f1_macro", "accuracy", "balanced_accuracy", "log_loss", "roc_auc")


def iris(seed: int) -> pd.DataFrame:
    """The same flowers each time: the seed splits them."""
    flowers = datasets.load_iris(as_frame=True)
    species = pd.Series(flowers.target_names[flowers.target], dtype=object)
    return flowers.data.set_axis(["a", "b", "c", "d"], axis=1).assign(label=species)


def shuffled(seed: int) -> pd.DataFrame:
    flowers = iris(seed)
    return flowers.assign(label=np.random.default_rng(seed).permutation(flowers["label"]))


def noisy(seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    values = random.normal(size=(ROWS, 4))
    is_high = (values[:, 0] > 0) ^ (random.random(ROWS) < 0.2)
    return pd.DataFrame(values, columns=["a", "b", "c", "d"]).assign(
        label=np.where(is_high, "high", "low").astype(object)
    )


KINDS: dict[str, Callable[[int], pd.DataFrame]] = {
    "good (Iris)": iris,
    "fair (4 of 5 rows)": noisy,
    "coin (labels shuffled)": shuffled,
}


def settings_of(metric: str, seed: int) -> config.Config:
    return config.Config.model_validate(
        {
            "name": "table",
            "source": {"uri": "none"},
            "columns": {**{name: {"type": "double"} for name in "abcd"}, "label": {"type": "string"}},
            "target": "label",
            "split": {"seed": seed},
            "model": {"name": "m", "num_boost_round": 100, "max_depth": 3, "early_stopping_rounds": 10},
            "gate": {"metric": metric},
        }
    )


def verdicts(rows: pd.DataFrame, seed: int, metrics: Sequence[str]) -> Iterator[tuple[str, Verdict]]:
    """The verdict by each metric on a model that is trained on `rows`, split by `seed`."""
    settings = settings_of(metrics[0], seed)
    split_settings = split.settings_of(settings)
    parts = split.split(rows, split_settings)
    schema = training.learn_schema(parts, settings, split_settings=split_settings, table_uri="none")
    model = scorer.Scorer()
    model.schema, model.booster = schema, training.fit_booster(parts, schema, model=settings.model).booster
    loaded = loading.LoadedModel(uri="models:/m/1", scorer=model, schema=schema)
    for metric in metrics:
        settings = settings_of(metric, seed)
        yield metric, evaluation.evaluate(parts, loaded, settings=settings, champion=None).verdict


def count(kind: str, *, tables: int, metrics: Sequence[str] = METRICS) -> dict[str, Counter[str]]:
    """By metric: how many verdicts there are of each outcome, and how many tables each proof alone would pass."""
    counts: dict[str, Counter[str]] = {metric: Counter() for metric in metrics}
    for seed in range(tables):
        for metric, verdict in verdicts(KINDS[kind](seed), seed, metrics):
            rules = {rule.name: rule for rule in verdict.rules}
            better = "baseline" in rules and (rules["baseline"].value or 0) > 0
            counts[metric][verdict.outcome] += 1
            counts[metric]["better"] += better
            counts[metric]["shuffles"] += better and rules["chance"].outcome == "pass"
            counts[metric]["interval"] += better and rules["baseline"].outcome == "pass"
    return counts


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--tables", type=int, default=TABLES, help=f"of each kind (default {TABLES})")
    tables = parser.parse_args(argv).tables
    print(f"{tables} tables of {ROWS} rows each; shares of verdicts, and of tables that each proof alone would pass")
    print(
        f"{'table':24}{'metric':20}{'pass':>8}{'undecided':>11}{'fail':>8}{'better':>10}{'shuffles':>10}{'interval':>10}"
    )
    for kind in KINDS:
        for metric, counts in count(kind, tables=tables).items():
            shares = {name: f"{counts[name] / tables:.1%}" for name in ("pass", "undecided", "fail")}
            alone = {name: f"{counts[name] / tables:.1%}" for name in ("better", "shuffles", "interval")}
            print(
                f"{kind:24}{metric:20}{shares['pass']:>8}{shares['undecided']:>11}{shares['fail']:>8}"
                f"{alone['better']:>10}{alone['shuffles']:>10}{alone['interval']:>10}"
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
