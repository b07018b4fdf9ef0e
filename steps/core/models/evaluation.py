"""Score a model, the baseline and the champion on the same test part, and let the gate decide."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from steps.core import config, metrics, significance
from steps.core.classification_metrics import expected_calibration_error
from steps.core.models import gate, gate_rules, loading, split
from steps.core.models.answers import Answers, all_classes, answers_of
from steps.core.models.comparison import Comparison, TestPart, compare, held_out_of, unknown_classes
from steps.core.models.earlier import LAST_PASSED, Earlier
from steps.core.models.row_hashes import hashes
from steps.core.models.slices import Slice, slices_of, slices_rule
from steps.core.models.verdict import Candidate, Rule, Verdict

BASELINE = "baseline"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """`scores` of every candidate that could be scored, by name, the `champion`'s on the rows of its comparison; of the
    model that is judged, `probabilities` (rows, classes) or, of a regression, `predicted` (rows,): None when it could
    not be scored. `test_rows` is a digest of the test part's rows."""

    verdict: Verdict
    scores: dict[str, Mapping[str, float]]
    classes: metrics.Labels
    probabilities: np.ndarray | None
    predicted: np.ndarray | None = None
    champion: Candidate | None = None
    slices: tuple[Slice, ...] = ()
    calibration_error: float | None = None
    test_rows: str = ""

    def per_class(self, truth: np.ndarray) -> dict[str, dict[str, float]]:
        """The model's precision, recall, F1 and rows by class; {} when it could not be scored."""
        return {} if self.probabilities is None else metrics.per_class(truth, self.probabilities, self.classes)


def evaluate(
    parts: split.Parts,
    model: loading.LoadedModel,
    *,
    settings: config.Config,
    champion: loading.LoadedModel | None,
    lost_champion: str = "",
    earlier: Callable[[], Earlier] = Earlier,
) -> Evaluation:
    """Score `model`, the baseline and `champion` on `parts.test` and ask the gate.

    `lost_champion` says why the champion cannot be among them, "" when it is or there is none. `earlier` loads other
    versions to compare with; it is called for a version that passes so far.
    """
    target, task = settings.target, settings.task
    test = _test_part(parts.test, settings, model)
    answers = answers_of(model, parts.test, target=target, task=task, is_judged=True)
    if answers.output is None:
        return _not_scored(model, answers, settings, lost_champion=lost_champion)
    output = answers.of(test.classes)
    judged, baseline = _against_baseline(test, output, _truth(parts.train, settings), model)
    is_champion = champion is not None and champion.uri == model.uri
    previous = compare(test, output, champion, judged_uri=model.uri) if champion and not is_champion else None
    verdict = gate.judge(
        settings.gate,
        model=judged,
        baseline=baseline,
        champion=previous.candidate if previous else judged if is_champion else None,
        test_rows=_rows_of_classes(test, model),
        few_groups=test.few_groups(),
    )
    its_slices = slices_of(test, output, previous.output if previous else None, previous.rows if previous else None)
    error = expected_calibration_error(test.encoded, test.predictions(output)) if task == "classification" else None
    doubts = [*unknown_classes(test, answers), *(previous.doubts if previous else []), *filter(None, [lost_champion])]
    verdict = verdict.with_rules(
        [
            slices_rule(
                its_slices,
                max_drop=settings.gate.max_drop_in_slice,
                has_champion=previous is not None and previous.output is not None,
            ),
            gate_rules.calibration(settings.gate, error),
        ],
        doubts=doubts,
    )
    if verdict.outcome == "pass":
        before = earlier()
        verdict = verdict.with_rules(_earlier_rules(test, output, judged, previous, before), doubts=before.doubts)
    candidates = [judged, baseline, *([previous.candidate] if previous else [])]
    return Evaluation(
        verdict=verdict,
        scores={candidate.name: candidate.scores for candidate in candidates if candidate.scores},
        classes=test.classes,
        probabilities=output if task == "classification" else None,
        predicted=output if task == "regression" else None,
        champion=previous.candidate if previous else None,
        slices=tuple(its_slices),
        calibration_error=error,
        test_rows=_digest(parts.test, settings),
    )


def _test_part(rows: pd.DataFrame, settings: config.Config, model: loading.LoadedModel) -> TestPart:
    truth = _truth(rows, settings)
    classes = () if settings.task == "regression" else all_classes(model.schema.classes, truth.tolist())
    return TestPart(rows=rows, truth=truth, classes=classes, settings=settings)


def _truth(rows: pd.DataFrame, settings: config.Config) -> np.ndarray:
    """The true labels of `rows`, (n,); of a regression float64."""
    return np.asarray(rows[settings.target], dtype=np.float64 if settings.task == "regression" else None)


def _not_scored(
    model: loading.LoadedModel, answers: Answers, settings: config.Config, *, lost_champion: str
) -> Evaluation:
    """The verdict on a version that cannot answer on this table."""
    unfit = f"{answers.obstacle}: train a new version on this table"
    judged, baseline = Candidate(name=model.uri, scores={}, unfit=unfit), Candidate(name=BASELINE, scores={})
    verdict = gate.judge(settings.gate, model=judged, baseline=baseline, champion=None, test_rows=None)
    verdict = verdict.with_rules([], doubts=list(filter(None, [lost_champion])))
    return Evaluation(verdict=verdict, scores={}, classes=model.schema.classes, probabilities=None)


def _against_baseline(
    test: TestPart, output: np.ndarray, train: np.ndarray, model: loading.LoadedModel
) -> tuple[Candidate, Candidate]:
    """The version that is judged, and the baseline that knows the training targets `train` alone."""
    metric = test.settings.gate.metric
    if test.settings.task == "regression":
        scores = metrics.regression_baseline(train, test.truth, also=test.settings.gate.metrics)
        constant = np.full(len(test.truth), metrics.METRICS[metric].constant(train))
    else:
        constant = metrics.baseline(train, test.classes, rows=len(test.truth))
        scores = test.scores(constant)
    predictions = [test.predictions(one) for one in (output, constant)]
    groups = test.groups()
    own, its = significance.resampled_scores(metric, test.encoded, predictions, groups=groups)
    judged = Candidate(
        name=model.uri,
        scores=test.scores(output),
        trained_on=int((~held_out_of(model, test.rows)).sum()),
        p_value=significance.p_value(metric, test.encoded, predictions[0], groups=groups),
        interval=significance.interval(own),
    )
    return judged, Candidate(name=BASELINE, scores=scores, interval=significance.gain_interval(metric, own, its))


def _rows_of_classes(test: TestPart, model: loading.LoadedModel) -> dict[str, int] | None:
    """The number of test rows of each class that the model knows or a row has; None of a regression."""
    if test.settings.task == "regression":
        return None
    labels = [str(label) for label in test.truth.tolist()]
    counts = Counter(labels)
    return {str(label): counts[str(label)] for label in dict.fromkeys([*map(str, model.schema.classes), *labels])}


def _earlier_rules(
    test: TestPart, output: np.ndarray, judged: Candidate, champion: Comparison | None, earlier: Earlier
) -> list[Rule]:
    """Whether the version is no worse than what is in production, and than the best of the last that passed."""
    done = {champion.candidate.name: champion.candidate} if champion else {}
    models = {model.uri: model for model in [*earlier.passed, *([earlier.production] if earlier.production else [])]}
    released = earlier.production.uri if earlier.production else ""
    for uri, model in models.items():
        if uri not in done and uri != judged.name:
            is_resampled = uri == released
            done[uri] = compare(test, output, model, judged_uri=judged.name, is_resampled=is_resampled).candidate
    production = done.get(earlier.production.uri) if earlier.production else None
    passed = [done[model.uri] for model in earlier.passed if model.uri in done]
    settings = test.settings.gate
    best = gate_rules.furthest_ahead(settings, judged, passed)
    if best and best.interval is None:  # of the one that counts
        passed = [compare(test, output, models[best.name], judged_uri=judged.name).candidate]
    return [
        gate_rules.production(settings, judged, production, champion=champion.candidate.name if champion else ""),
        gate_rules.best(settings, judged, passed, name=f"best of the last {LAST_PASSED} that passed"),
    ]


def _digest(rows: pd.DataFrame, settings: config.Config) -> str:
    """What tells these rows from others, whatever their order."""
    columns = [name for name in sorted(settings.training_columns) if name in rows]
    return hashlib.sha256(np.sort(hashes(rows, columns, seed=0)).tobytes()).hexdigest()[:16]
