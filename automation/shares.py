"""Split the test files into shares that take about as long, for machines that run one each.

    python -m automation.shares 2 5     the files of the second of five

What tests/conftest.py keeps together stays together, and its longest files are dealt out first; the same files always
give the same shares.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"


def shares(files: Sequence[str], count: int, *, together: Mapping[str, str], longest: Sequence[str]) -> list[list[str]]:
    """`count` lists of the `files`, names without .py: groups in the order of `longest`, dealt there and back."""
    order = {name: place for place, name in enumerate(longest)}
    groups: dict[str, list[str]] = {}
    for name in sorted(files, key=lambda name: (order.get(name, len(order)), name)):
        groups.setdefault(together.get(name, name), []).append(name)
    dealt: list[list[str]] = [[] for _ in range(count)]
    for place, group in enumerate(groups.values()):
        lap, seat = divmod(place, count)
        dealt[seat if lap % 2 == 0 else count - 1 - seat] += group
    return dealt


def main(argv: Sequence[str]) -> None:
    number, count = map(int, argv)
    if not 1 <= number <= count:
        sys.exit(f"share {number} of {count}: a number from 1 to {count} is expected")
    sys.path.insert(0, str(TESTS))
    from conftest import LONGEST, TOGETHER  # on the path since the line above

    files = [path.stem for path in TESTS.glob("test_*.py")]
    mine = shares(files, count, together=TOGETHER, longest=LONGEST)[number - 1]
    print(" ".join(f"tests/{name}.py" for name in mine))


if __name__ == "__main__":
    main(sys.argv[1:])
