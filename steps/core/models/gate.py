"""Whether a new version is good enough to become the champion, and why.

A pass needs proof: without a margin in the config a version has to be better than the baseline, not equal to it, and by
more than chance. Where the test part cannot show that, the verdict is undecided. `min_gain_over_baseline` below 0 asks
for no such proof.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from steps.core.config import Gate
from steps.core.metrics import METRICS, SAME

SIGNIFICANCE_LEVEL = 0.05  # the largest p-value of a score that is no chance; the usual level of a test
FEW_ROWS = 5  # of a class: with so many or fewer, each moves the class's own scores by a fifth or more
LISTED_CLASSES = 5  # with few rows, by name; the rest is counted

type Outcome = Literal["pass", "fail", "undecided"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`reasons` has a line for each comparison that was made or could not be made, and for each doubt."""

    outcome: Outcome
    reasons: list[str]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model on the test part: its `scores`, or why it has none, and how many test rows it was trained on.

    `p_value` is how often shuffled labels score as well by the gate's metric; only of the version that is judged.
    """

    name: str
    scores: Mapping[str, float]
    trained_on: int = 0
    unfit: str = ""
    p_value: float = 0.0


def judge(
    gate: Gate, *, model: Candidate, baseline: Candidate, champion: Candidate | None, test_rows: Mapping[str, int]
) -> Verdict:
    """The verdict on `model`: undecided when anything that the gate compares is not to be had, else pass or fail.

    `test_rows` is the number of rows of each class in the test part, 0 for a class of the model that has none.
    """
    candidates = [model, baseline, *([champion] if champion else [])]
    obstacles = [*_one_class(test_rows), *(line for one in candidates for line in _obstacles(one, gate.metric))]
    doubts = _few_rows(test_rows)
    if obstacles:
        return Verdict(outcome="undecided", reasons=[*obstacles, *doubts])
    checks = [_against_baseline(gate, model, baseline)]
    if gate.at_least is not None:
        checks.insert(0, _against_limit(gate, model))
    if champion and champion.name != model.name:
        checks.append(_against_champion(gate, model, champion))
    reasons = [reason for _, reason in checks]
    outcome: Outcome = "pass" if all(good for good, _ in checks) else "fail"
    if model.p_value > SIGNIFICANCE_LEVEL and gate.min_gain_over_baseline >= 0:
        outcome = "undecided" if outcome == "pass" else outcome
        reasons.append(
            f"the score may be chance: {model.p_value:.0%} of the shuffles of the test part's labels score as well, at "
            f"most {SIGNIFICANCE_LEVEL:.0%} may; more rows in the test part would show it"
        )
    return Verdict(outcome=outcome, reasons=[*reasons, *doubts])


def _one_class(test_rows: Mapping[str, int]) -> list[str]:
    present = [label for label, rows in test_rows.items() if rows]
    if len(present) > 1:
        return []
    holds = f"one class, {present[0]}," if present else "no class"
    return [
        f"the test part holds {holds} and so does not show whether a model has learnt something: "
        "ingest more rows, or change split in the config"
    ]


def _few_rows(test_rows: Mapping[str, int]) -> list[str]:
    few = [f"{label} {rows}" for label, rows in test_rows.items() if rows <= FEW_ROWS]
    if not few:
        return []
    more = f" and {len(few) - LISTED_CLASSES} more classes" if len(few) > LISTED_CLASSES else ""
    return [f"few rows of a class in the test part: {', '.join(few[:LISTED_CLASSES])}{more}"]


def _obstacles(candidate: Candidate, metric: str) -> list[str]:
    if candidate.unfit:
        return [f"{candidate.name} cannot be scored: {candidate.unfit}"]
    obstacles = []
    if candidate.trained_on:
        obstacles.append(
            f"{candidate.name} was trained on {candidate.trained_on} rows of the test part, as its split is another one"
        )
    if metric not in candidate.scores:
        needs = METRICS[metric].needs
        reason = f", which needs {needs}" if needs else ""
        obstacles.append(f"{candidate.name} has no {metric} on the test part{reason}")
    return obstacles


def _against_limit(gate: Gate, model: Candidate) -> tuple[bool, str]:
    assert gate.at_least is not None
    score = model.scores[gate.metric]
    if METRICS[gate.metric].greater_is_better:
        good, relation = score >= gate.at_least, "at least"
    else:
        good, relation = score <= gate.at_least, "at most"
    return good, f"{gate.metric} {score:.4f} is {'' if good else 'not '}{relation} {gate.at_least:g}"


def _against_baseline(gate: Gate, model: Candidate, baseline: Candidate) -> tuple[bool, str]:
    margin = gate.min_gain_over_baseline
    if margin < 0:
        return _with_tolerance(gate, model, baseline, max_drop=-margin)
    gain = _gain(gate, model, baseline)
    required = f"at least {margin:g} better is required" if margin else "better is required"
    good = gain > 0 and gain >= margin - SAME  # exactly the margin passes, whatever its last bit
    return good, f"{_compared(gate, model, baseline)}, {required}"


def _against_champion(gate: Gate, model: Candidate, champion: Candidate) -> tuple[bool, str]:
    return _with_tolerance(gate, model, champion, max_drop=gate.max_drop_below_champion)


def _with_tolerance(gate: Gate, model: Candidate, other: Candidate, *, max_drop: float) -> tuple[bool, str]:
    good = _gain(gate, model, other) >= -max_drop - SAME
    return good, f"{_compared(gate, model, other)}, at most {max_drop:g} worse is allowed"


def _gain(gate: Gate, model: Candidate, other: Candidate) -> float:
    """How much better `model` is than `other`, in the metric's unit; 0 for a tie."""
    sign = 1 if METRICS[gate.metric].greater_is_better else -1
    difference = sign * (model.scores[gate.metric] - other.scores[gate.metric])
    return difference if abs(difference) > SAME else 0.0


def _compared(gate: Gate, model: Candidate, other: Candidate) -> str:
    gain = _gain(gate, model, other)
    amount = f"{abs(gain):.4f}" if abs(gain) >= 0.0001 else f"{abs(gain):.0e}"
    difference = f"{amount} {'better' if gain > 0 else 'worse'}" if gain else "a tie"
    score, other_score = (candidate.scores[gate.metric] for candidate in (model, other))
    return f"{gate.metric} {score:.4f} against {other_score:.4f} of {other.name}: {difference}"
