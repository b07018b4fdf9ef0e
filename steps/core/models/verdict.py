"""What the gate says of a version: rules with their outcomes, and the verdict that follows from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from steps.core.significance import Interval

FEW_ROWS = 5  # of a class: with so many or fewer, each moves the class's own scores by a fifth or more

type Outcome = Literal["pass", "fail", "undecided"]
type RuleOutcome = Literal["pass", "fail", "undecided", "not applicable"]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What one rule says: `sentence` has its numbers in words, `value`, `limit` and the 95% `interval` as they are.

    `value` is a score, a p-value or a gain, of which positive is better; `interval` is that of the value. A rule that
    is `told` is among the verdict's reasons.
    """

    name: str
    outcome: RuleOutcome
    sentence: str
    value: float | None = None
    limit: float | None = None
    interval: Interval | None = None
    told: bool = True


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`reasons` has the sentence of each rule that is told, and a line for each doubt."""

    outcome: Outcome
    reasons: list[str]
    rules: tuple[Rule, ...] = ()

    def with_rules(self, rules: Sequence[Rule], *, doubts: Sequence[str] = ()) -> "Verdict":
        """This verdict after more rules, and with more doubts, which decide nothing."""
        told = [rule.sentence for rule in rules if rule.told]
        all_rules = (*self.rules, *rules)
        return Verdict(outcome=_outcome(all_rules), reasons=[*self.reasons, *told, *doubts], rules=all_rules)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model on the test part: its `scores`, or why it has none, and how many test rows it was trained on.

    Of the version that is judged, `interval` is that of its score by the gate's metric, and `p_value` how often
    shuffled labels score as well. Of another one, `interval` is that of the version's gain over it, and `against` has
    the scores of the version on the rows that both are compared on, where these are not the whole test part: `rows`
    says which.
    """

    name: str
    scores: Mapping[str, float]
    trained_on: int = 0
    unfit: str = ""
    p_value: float = 0.0
    interval: Interval | None = None
    against: Mapping[str, float] | None = None
    rows: str = ""
    incomparable: str = ""  # why no fair comparison with it is left
    undecidable: str = ""  # why the comparison has no answer yet, and what leads on


def _outcome(rules: Sequence[Rule]) -> Outcome:
    outcomes = {rule.outcome for rule in rules}
    return "fail" if "fail" in outcomes else "undecided" if "undecided" in outcomes else "pass"
