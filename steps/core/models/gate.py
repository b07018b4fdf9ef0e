"""Whether a new version is good enough to become the champion, and why: a list of rules, each with its own outcome.

The verdict is fail when a rule fails, else undecided when a rule is, else pass. A rule that has nothing to compare is
not applicable, and decides nothing.

A pass needs proof: without a margin in the config a version has to be better than the baseline, not equal to it, and by
more than chance: fewer than 5% of shuffles of the labels may score as well, and the 95% interval of the gain must lie
above 0. Rows of one group (`split.group`, or a day of `split.time`) are drawn and shuffled together. Where the test
part cannot show that, the verdict is undecided. A `min_gain_over_baseline` below 0 asks for no such proof. Limits that
the config states (`at_least`, `limits`, margins, tolerances) are compared with the scores themselves, as on few rows
hardly any good model's interval would clear them; a difference from the best of several earlier versions counts only
when it is more than few rows explain, as the best of several noisy scores is too good.

The champion is compared on the rows that neither model was trained on. That rule is not applicable, and the version may
pass by the others, where no fair comparison is left: the champion answers another question (task or target), needs a
column that is gone, reads one that has another type, knows none of the classes, or is lost. Else nobody could ever
change these. Where there are too few such rows, the verdict is undecided and says which lines in the config, or which
command, lead on.
"""

from collections.abc import Mapping

from steps.core.classification_metrics import class_in
from steps.core.config import Gate
from steps.core.models import gate_rules
from steps.core.models.grouping import FEWEST_GROUPS
from steps.core.models.verdict import FEW_ROWS
from steps.core.models.verdict import Candidate as Candidate
from steps.core.models.verdict import Rule as Rule
from steps.core.models.verdict import Verdict as Verdict
from steps.core.wording import listed

LISTED_CLASSES = 5  # with few rows, by name; the rest is counted


def judge(
    gate: Gate,
    *,
    model: Candidate,
    baseline: Candidate,
    champion: Candidate | None,
    test_rows: Mapping[str, int] | None,
    few_groups: int | None = None,
) -> Verdict:
    """The verdict on `model` by the rules that need nothing but scores.

    `test_rows` is the number of rows of each class in the test part, 0 for a class of the model that has none; None
    of a regression, whose metric or p-value says when the part shows too little. `few_groups` is the number of groups
    in the test part where it is below FEWEST_GROUPS.
    """
    doubts = [] if test_rows is None else _few_rows(test_rows)
    obstacles = [] if test_rows is None else [*_one_class(test_rows), *_few_of_its_class(gate, test_rows)]
    obstacles += _too_few_groups(gate, few_groups)
    obstacles += [gate_rules.obstacle("version", model, line) for line in gate_rules.obstacles(model, gate.metric)]
    if not model.unfit:  # without its classes there is no baseline
        obstacles += [
            gate_rules.obstacle("baseline", baseline, line) for line in gate_rules.obstacles(baseline, gate.metric)
        ]
    rules = obstacles or [
        gate_rules.threshold(gate, model),
        *gate_rules.limits(gate, model),
        gate_rules.over_baseline(gate, model, baseline),
        gate_rules.champion(gate, model, champion),
        gate_rules.no_chance(gate, model),
    ]
    return Verdict(outcome="pass", reasons=[]).with_rules(rules, doubts=doubts)


def _one_class(test_rows: Mapping[str, int]) -> list[Rule]:
    present = [label for label, rows in test_rows.items() if rows]
    if len(present) > 1:
        return []
    holds = f"one class, {present[0]}," if present else "no class"
    sentence = (
        f"the test part holds {holds} and so does not show whether a model has learnt something: "
        "ingest more rows, or change split in the config"
    )
    return [Rule(name="test part", outcome="undecided", sentence=sentence)]


def _few_of_its_class(gate: Gate, test_rows: Mapping[str, int]) -> list[Rule]:
    """Of the class that the gate's metric is of: a proof takes more rows."""
    of_class = class_in(gate.metric)
    if not of_class or gate.min_gain_over_baseline < 0 or not 0 < test_rows.get(of_class[1], 0) <= FEW_ROWS:
        return []
    sentence = (
        f"the test part holds {test_rows[of_class[1]]} rows of class {of_class[1]}, too few to judge by {gate.metric}: "
        f"ingest more rows, or change split in the config, so that it holds more than {FEW_ROWS}"
    )
    return [Rule(name="test part", outcome="undecided", sentence=sentence)]


def _too_few_groups(gate: Gate, few_groups: int | None) -> list[Rule]:
    """Rows of a group share more than what a model is to learn: a proof takes more groups."""
    if few_groups is None or gate.min_gain_over_baseline < 0:
        return []
    sentence = (
        f"the test part holds rows of {few_groups} groups (split.group), too few to show what holds for other groups: "
        f"ingest rows of more groups, or raise split.test in the config, so that it holds at least {FEWEST_GROUPS}"
    )
    return [Rule(name="test part", outcome="undecided", sentence=sentence)]


def _few_rows(test_rows: Mapping[str, int]) -> list[str]:
    """Of which classes few rows, or none, are in the test part."""
    few = [f"{label} {rows}" for label, rows in test_rows.items() if rows <= FEW_ROWS]
    if not few:
        return []
    without = "; averages are over the classes that have some" if 0 in test_rows.values() else ""
    return [f"few rows of a class in the test part: {listed(few, LISTED_CLASSES, 'classes')}{without}"]
