"""Make configs/data/churn.csv: 400 customers who do not exist, with categories, missing values, truth values and dates.

`python -m benchmarks.churn_data` writes the same bytes each time. Who left depends on the contract's kind, the months,
the calls for help and a share of chance, so that a good model is better than a guess and none is perfect.
"""

import csv
import datetime as dt
import random
from pathlib import Path

FILE = Path(__file__).resolve().parents[1] / "configs" / "data" / "churn.csv"
HEADER = (
    "customer_id",
    "signed up",
    "plan",
    "region",
    "months",
    "monthly fee (EUR)",
    "support.calls",
    "paperless",
    "left",
)
ROWS = 400
SEED = 11


def rows() -> list[tuple[object, ...]]:
    """The table without its header; "" and NA stand for missing values, as in files of several systems."""
    chance = random.Random(SEED)
    made: list[tuple[object, ...]] = []
    for number in range(ROWS):
        plan = chance.choices(("basic", "plus", "family"), (5, 3, 2))[0]
        region = chance.choice(("north", "east", "south", "west"))
        months, calls = chance.randint(0, 60), min(9, int(chance.expovariate(0.5)))
        fee = round({"basic": 19, "plus": 34, "family": 49}[plan] + chance.gauss(0, 3), 2)
        risk = 1.6 * (plan == "basic") + 0.5 * calls - 0.06 * months - 0.2
        has_left = risk + chance.gauss(0, 0.8) > 0
        signed_up = dt.date(2026, 10, 1) - dt.timedelta(days=30 * months + chance.randint(0, 29))
        values = (
            f"C{number + 1:04}",
            signed_up.isoformat(),
            plan,
            "" if chance.random() < 0.05 else region,
            months,
            "NA" if chance.random() < 0.08 else fee,
            "" if chance.random() < 0.06 else calls,
            chance.choice(("true", "false")),
            "yes" if has_left else "no",
        )
        made.append(values)
    return made


def main() -> None:
    FILE.parent.mkdir(exist_ok=True)
    with FILE.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([HEADER, *rows()])


if __name__ == "__main__":
    main()
