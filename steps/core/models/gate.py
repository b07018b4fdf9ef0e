"""Whether a new version is good enough to become the champion, and why.

A pass needs proof: without a margin in the config a version has to be better than the baseline, not equal to it, and by
more than chance. What the test part cannot tell is undecided. `min_gain_over_baseline` below 0 asks for no such proof.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from steps.core.config import Gate
from steps.core.models.metrics import SAME, SMALLER_IS_BETTER

CHANCE = 0.05  # the largest share of shuffled labels that may do as well; the usual level of a test
HANDFUL = 5  # rows of a class: with so many or fewer, each moves the class's own scores by a fifth or more
NAMED = 5  # classes with a handful of rows that are named; the rest is counted


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`reasons` has a line for each comparison that was made or could not be made, and for each doubt."""

    outcome: Literal["pass", "fail", "undecided"]
    reasons: list[str]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model on the test part: its `scores`, or why it has none, and how many test rows it was trained on.

    `by_chance` is how often shuffled labels score as well by the gate's metric; only of the version that is judged.
    """

    name: str
    scores: Mapping[str, float]
    trained_on: int = 0
    unfit: str = ""
    by_chance: float = 0.0


def judge(
    gate: Gate, *, model: Candidate, baseline: Candidate, champion: Candidate | None, test_rows: Mapping[str, int]
) -> Verdict:
    """The verdict on `model`: undecided when anything that the gate compares is not to be had, else pass or fail.

    `test_rows` is the number of rows of each class in the test part, 0 for a class of the model that has none.
    """
    rivals = [model, baseline, *([champion] if champion else [])]
    obstacles = [*_one_class(test_rows), *(line for rival in rivals for line in _obstacles(rival, gate.metric))]
    doubts = _few_rows(test_rows)
    if obstacles:
        return Verdict(outcome="undecided", reasons=[*obstacles, *doubts])
    checks = [_against_baseline(gate, model, baseline)]
    if gate.at_least is not None:
        checks.insert(0, _against_limit(gate, model))
    if champion and champion.name != model.name:
        checks.append(_against_champion(gate, model, champion))
    reasons = [reason for _, reason in checks]
    outcome: Literal["pass", "fail", "undecided"] = "pass" if all(good for good, _ in checks) else "fail"
    if model.by_chance > CHANCE and gate.min_gain_over_baseline >= 0:
        outcome = "undecided" if outcome == "pass" else outcome
        reasons.append(
            f"it may be chance: {model.by_chance:.0%} of the shuffles of the test part's labels give as good a score, "
            f"at most {CHANCE:.0%} is wanted; more rows there would tell"
        )
    return Verdict(outcome=outcome, reasons=[*reasons, *doubts])


def _one_class(test_rows: Mapping[str, int]) -> list[str]:
    present = [label for label, rows in test_rows.items() if rows]
    if len(present) > 1:
        return []
    holds = f"one class, {present[0]}," if present else "no class"
    return [
        f"the test part holds {holds} and so cannot tell a model that learnt something from one that did not: "
        "ingest more rows, or change split in the config"
    ]


def _few_rows(test_rows: Mapping[str, int]) -> list[str]:
    few = [f"{label} {rows}" for label, rows in test_rows.items() if rows <= HANDFUL]
    if not few:
        return []
    more = f" and {len(few) - NAMED} classes more" if len(few) > NAMED else ""
    return [f"few rows of a class in the test part: {', '.join(few[:NAMED])}{more}"]


def _obstacles(rival: Candidate, metric: str) -> list[str]:
    if rival.unfit:
        return [f"{rival.name} cannot be scored: {rival.unfit}"]
    found = []
    if rival.trained_on:
        found.append(f"{rival.name} was trained on {rival.trained_on} rows of the test part (another split)")
    if metric not in rival.scores:
        found.append(f"{rival.name} has no {metric}: the test part does not hold every class")
    return found


def _against_limit(gate: Gate, model: Candidate) -> tuple[bool, str]:
    assert gate.at_least is not None
    smaller = gate.metric in SMALLER_IS_BETTER
    value = model.scores[gate.metric]
    good = value <= gate.at_least if smaller else value >= gate.at_least
    relation = "at most" if smaller else "at least"
    return good, f"{gate.metric} {value:.4f} is {'' if good else 'not '}{relation} {gate.at_least:g}"


def _against_baseline(gate: Gate, model: Candidate, baseline: Candidate) -> tuple[bool, str]:
    margin = gate.min_gain_over_baseline
    if margin < 0:
        return _with_tolerance(gate, model, baseline, worse_by=-margin)
    better_by = _better_by(gate, model, baseline)
    wanted = f"at least {margin:g} better is wanted" if margin else "better is wanted"
    good = better_by > 0 and better_by >= margin - SAME  # exactly the margin passes, whatever its last bit
    return good, f"{_compared(gate, model, baseline)}, {wanted}"


def _against_champion(gate: Gate, model: Candidate, champion: Candidate) -> tuple[bool, str]:
    return _with_tolerance(gate, model, champion, worse_by=gate.max_drop_below_champion)


def _with_tolerance(gate: Gate, model: Candidate, rival: Candidate, *, worse_by: float) -> tuple[bool, str]:
    good = _better_by(gate, model, rival) >= -worse_by - SAME
    return good, f"{_compared(gate, model, rival)}, at most {worse_by:g} worse is allowed"


def _better_by(gate: Gate, model: Candidate, rival: Candidate) -> float:
    """0 for a tie."""
    sign = -1 if gate.metric in SMALLER_IS_BETTER else 1
    difference = sign * (model.scores[gate.metric] - rival.scores[gate.metric])
    return difference if abs(difference) > SAME else 0.0


def _compared(gate: Gate, model: Candidate, rival: Candidate) -> str:
    better_by = _better_by(gate, model, rival)
    amount = f"{abs(better_by):.4f}" if abs(better_by) >= 0.0001 else f"{abs(better_by):.0e}"
    difference = f"{amount} {'better' if better_by > 0 else 'worse'}" if better_by else "a tie"
    score, other = (candidate.scores[gate.metric] for candidate in (model, rival))
    return f"{gate.metric} {score:.4f} against {other:.4f} of {rival.name}: {difference}"
