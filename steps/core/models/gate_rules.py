"""The gate's rules, one by one: each takes the gate's settings and what was scored, and gives a Rule."""

from collections.abc import Sequence

from steps.core.config import Gate
from steps.core.metrics import METRICS, SAME
from steps.core.models.verdict import Candidate, Rule, RuleOutcome
from steps.core.significance import Interval

SIGNIFICANCE_LEVEL = 0.05  # the largest p-value of a score that is no chance; the usual level of a test


def threshold(gate: Gate, model: Candidate) -> Rule:
    """The score against `gate.at_least`; not applicable without one."""
    score, interval = model.scores[gate.metric], model.interval
    if gate.at_least is None:
        sentence = f"{gate.metric} is {score:.4f}{_between(interval)}; gate.at_least sets no limit"
        outcome: RuleOutcome = "not applicable"
        return Rule(name="threshold", outcome=outcome, sentence=sentence, value=score, interval=interval, told=False)
    good, relation = _held(gate.metric, score, gate.at_least)
    sentence = f"{gate.metric} {score:.4f}{_between(interval)} {relation}"
    return _rule("threshold", good, sentence, value=score, limit=gate.at_least, interval=interval)


def limits(gate: Gate, model: Candidate) -> list[Rule]:
    """The scores by further metrics against `gate.limits`; undecided where one is not defined on the test part."""
    rules = []
    for metric, limit in gate.limits.items():
        if (score := model.scores.get(metric)) is None:
            sentence = f"{_not_defined(metric)}: set other gate.limits in the config"
            rules.append(Rule(name="limit", outcome="undecided", sentence=f"{model.name} {sentence}", limit=limit))
            continue
        good, relation = _held(metric, score, limit)
        rules.append(_rule("limit", good, f"{metric} {score:.4f} {relation}", value=score, limit=limit))
    return rules


def _held(metric: str, score: float, limit: float) -> tuple[bool, str]:
    """Whether a score keeps a limit, and that in words."""
    if METRICS[metric].greater_is_better:
        good, relation = score >= limit, "at least"
    else:
        good, relation = score <= limit, "at most"
    return good, f"is {'' if good else 'not '}{relation} {limit:g}"


def _not_defined(metric: str) -> str:
    needs = METRICS[metric].needs
    return f"has no {metric} on the test part{f', which needs {needs}' if needs else ''}"


def over_baseline(gate: Gate, model: Candidate, baseline: Candidate) -> Rule:
    """The score against the baseline's; undecided where so few rows do not show that it is better at all."""
    margin, gain, interval = gate.min_gain_over_baseline, _gain(gate, model, baseline), baseline.interval
    compared = _compared(gate, model, baseline)
    if margin < 0:
        good, required = gain >= margin - SAME, f"at most {-margin:g} worse is allowed"
    else:
        good = gain > 0 and gain >= margin - SAME  # exactly the margin passes, whatever its last bit
        required = f"at least {margin:g} better is required" if margin else "better is required"
    rule = _rule("baseline", good, f"{compared}, {required}", value=gain, limit=margin, interval=interval)
    if not good or margin < 0 or interval is None or interval[0] > 0:
        return rule
    sentence = f"{rule.sentence}; so few rows do not show that it is better at all: more in the test part would"
    return Rule(name="baseline", outcome="undecided", sentence=sentence, value=gain, limit=margin, interval=interval)


def no_chance(gate: Gate, model: Candidate) -> Rule:
    """The score against those of shuffled labels; undecided where more than 5% of them are as good."""
    shares = (
        f"up to {model.p_value:.0%} of shuffles of the test part's labels score as well, {SIGNIFICANCE_LEVEL:.0%} may"
    )
    sentence = f"the score may be chance: {shares}; more rows in the test part would show it"
    outcome: RuleOutcome = "undecided"
    if gate.min_gain_over_baseline < 0:
        outcome, sentence = "not applicable", "gate.min_gain_over_baseline below 0 asks for no proof against chance"
    elif model.p_value <= SIGNIFICANCE_LEVEL:
        outcome, sentence = "pass", f"the score is no chance: {shares}"
    told = outcome == "undecided"
    return Rule(
        name="chance", outcome=outcome, sentence=sentence, value=model.p_value, limit=SIGNIFICANCE_LEVEL, told=told
    )


def champion(gate: Gate, model: Candidate, other: Candidate | None) -> Rule:
    """Whether `model` is no worse than the champion beyond the tolerance."""
    if other is None or other.name == model.name:
        sentence = "there is no champion" if other is None else f"the champion is {other.name} itself"
        return Rule(name="champion", outcome="not applicable", sentence=sentence, told=False)
    return _no_worse(gate, model, other, name="champion")


def production(gate: Gate, model: Candidate, other: Candidate | None, *, champion: str) -> Rule:
    """Whether `model` is no worse than what is in production beyond the tolerance."""
    if other is None or other.name in (model.name, champion):
        sentence = (
            f"production names {other.name}, which is judged already"
            if other
            else "nothing in production can be compared with"
        )
        return Rule(name="production", outcome="not applicable", sentence=sentence, told=False)
    return _no_worse(gate, model, other, name="production")


def _no_worse(gate: Gate, model: Candidate, other: Candidate, *, name: str) -> Rule:
    if rule := _without_comparison(gate, other, name=name):
        return rule
    gain, limit = _gain(gate, model, other), -gate.max_drop_below_champion
    good = gain >= limit - SAME
    of = "" if name == "champion" else f"{name}: "
    sentence = f"{of}{_compared(gate, model, other)}, at most {-limit:g} worse is allowed"
    return _rule(name, good, sentence, value=gain, limit=limit, interval=other.interval)


def furthest_ahead(gate: Gate, model: Candidate, others: Sequence[Candidate]) -> Candidate | None:
    """The one of `others` that is best beside `model` on the rows that the two share; None where none can be compared
    with."""
    comparable = [other for other in others if not _without_comparison(gate, other, name="")]
    return min(comparable, key=lambda other: _gain(gate, model, other), default=None)


def best(gate: Gate, model: Candidate, others: Sequence[Candidate], *, name: str) -> Rule:
    """Whether `model` is worse than the best of several versions: by more than the tolerance and than few rows explain.

    The best is the one that is furthest ahead of `model` on the rows that the two share.
    """
    ahead = furthest_ahead(gate, model, others)
    if ahead is None:
        why = f" ({others[0].incomparable or others[0].undecidable})" if others else ""
        sentence = f"{name}: none can be compared with{why}"
        return Rule(name=name, outcome="not applicable", sentence=sentence, told=False)
    gain, limit = _gain(gate, model, ahead), -gate.max_drop_below_champion
    explained = ahead.interval is None or ahead.interval[1] >= 0
    sentence = f"{name}: {_compared(gate, model, ahead)}, at most {-limit:g} worse, beyond what few rows explain"
    good = gain >= limit - SAME or explained
    return _rule(name, good, f"{sentence}, is allowed", value=gain, limit=limit, interval=ahead.interval, told=not good)


def calibration(gate: Gate, error: float | None) -> Rule:
    """Whether the probabilities are as often right as they say; `error` is expected_calibration_error()."""
    limit = gate.calibration_error_at_most
    if error is None or limit is None:
        shown = "" if error is None else f"the calibration error is {error:.4f}; "
        sentence = f"{shown}gate.calibration_error_at_most sets no limit" if shown else "there are no probabilities"
        return Rule(name="calibration", outcome="not applicable", sentence=sentence, value=error, told=False)
    good = error <= limit + SAME
    sentence = f"the calibration error {error:.4f} is {'' if good else 'not '}at most {limit:g}"
    return _rule("calibration", good, sentence, value=error, limit=limit)


def obstacle(role: str, candidate: Candidate, line: str) -> Rule:
    """The rule `role`, undecided, as a candidate cannot be scored; `line` is one of obstacles()."""
    return Rule(name=role, outcome="undecided", sentence=f"{candidate.name} {line}")


def obstacles(candidate: Candidate, metric: str) -> list[str]:
    """Why `candidate` has no fair score by `metric` on the test part, a line each; [] when it has one."""
    if candidate.unfit:
        return [f"cannot be scored: {candidate.unfit}"]
    obstacles = []
    if candidate.trained_on:
        obstacles.append(
            f"was trained on {candidate.trained_on} rows of the test part, as its split is another one: train it again"
        )
    if metric not in candidate.scores:
        obstacles.append(f"{_not_defined(metric)}: set another gate.metric in the config")
    return obstacles


def _rule(name: str, good: bool, sentence: str, **numbers: float | Interval | bool | None) -> Rule:
    return Rule(name=name, outcome="pass" if good else "fail", sentence=sentence, **numbers)  # type: ignore[arg-type]


def _without_comparison(gate: Gate, other: Candidate, *, name: str) -> Rule | None:
    """The rule of another version that cannot be compared with, None where it can be."""
    if other.incomparable:
        sentence = f"{other.name} is not compared with: {other.incomparable}"
        return Rule(name=name, outcome="not applicable", sentence=sentence)
    if other.undecidable:
        return Rule(name=name, outcome="undecided", sentence=other.undecidable)
    if lines := obstacles(other, gate.metric):
        return obstacle(name, other, " and ".join(lines))
    return None


def _gain(gate: Gate, model: Candidate, other: Candidate) -> float:
    """How much better `model` is than `other`, in the metric's unit; 0 for a tie."""
    sign = 1 if METRICS[gate.metric].greater_is_better else -1
    difference = sign * (_score_against(gate, model, other) - other.scores[gate.metric])
    return difference if abs(difference) > SAME else 0.0


def _score_against(gate: Gate, model: Candidate, other: Candidate) -> float:
    return (model.scores if other.against is None else other.against)[gate.metric]


def _compared(gate: Gate, model: Candidate, other: Candidate) -> str:
    gain = _gain(gate, model, other)
    amount = f"{abs(gain):.4f}" if abs(gain) >= 0.0001 else f"{abs(gain):.0e}"
    difference = f"{amount} {'better' if gain > 0 else 'worse'}" if gain else "a tie"
    score, other_score = _score_against(gate, model, other), other.scores[gate.metric]
    where = f" on {other.rows}" if other.rows else ""
    return (
        f"{gate.metric} {score:.4f} against {other_score:.4f} of {other.name}{where}: "
        f"{difference}{_between(other.interval)}"
    )


def _between(interval: Interval | None) -> str:
    """The ends in words; "" where they are not known, or where nothing moves the value."""
    if interval is None or interval[0] == interval[1]:
        return ""
    return f" (95% interval {interval[0]:.4f} to {interval[1]:.4f})"
