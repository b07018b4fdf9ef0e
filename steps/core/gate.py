"""Whether a new version is good enough to become the champion, and why."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from steps.core.config import Gate
from steps.core.metrics import SMALLER_IS_BETTER


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`reasons` has a line for each comparison that was made or could not be made."""

    outcome: Literal["pass", "fail", "undecided"]
    reasons: list[str]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model on the test part: its `scores`, or why it has none, and how many test rows it was trained on."""

    name: str
    scores: Mapping[str, float]
    trained_on: int = 0
    unfit: str = ""


def judge(gate: Gate, *, model: Candidate, baseline: Candidate, champion: Candidate | None) -> Verdict:
    """The verdict on `model`: undecided when anything that the gate compares is not to be had, else pass or fail."""
    rivals = [model, baseline, *([champion] if champion else [])]
    obstacles = [obstacle for rival in rivals for obstacle in _obstacles(rival, gate.metric)]
    if obstacles:
        return Verdict(outcome="undecided", reasons=obstacles)
    checks = [_against_rival(gate, model, baseline, margin=gate.over_baseline)]
    if gate.at_least is not None:
        checks.insert(0, _against_limit(gate, model))
    if champion and champion.name != model.name:
        checks.append(_against_rival(gate, model, champion, margin=-gate.below_champion))
    passed = all(good for good, _ in checks)
    return Verdict(outcome="pass" if passed else "fail", reasons=[reason for _, reason in checks])


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


def _against_rival(gate: Gate, model: Candidate, rival: Candidate, *, margin: float) -> tuple[bool, str]:
    sign = -1 if gate.metric in SMALLER_IS_BETTER else 1
    value, other = model.scores[gate.metric], rival.scores[gate.metric]
    better_by = sign * (value - other)
    good = better_by >= margin - 1e-12  # a difference of exactly the margin passes, whatever its last bit
    difference = f"{abs(better_by):.4f} {'better' if better_by >= 0 else 'worse'}"
    wanted = f"at least {margin:g} better is wanted" if margin > 0 else f"at most {abs(margin):g} worse is allowed"
    return good, f"{gate.metric} {value:.4f} against {other:.4f} of {rival.name}: {difference}, {wanted}"
