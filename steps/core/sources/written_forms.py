"""How numbers and dates are written in text: the forms that a column's type, and what is said of it, are told by."""

import re
from collections.abc import Sequence

WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
CODE = re.compile(r"[+-]?0\d.*|\+\d{7,}", re.ASCII)  # a number would lose the zero, or the plus of a telephone's
COMMA = re.compile(r"[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?", re.ASCII)
GROUPED = {  # numbers some of which have this mark between thousands; none begins with a zero, as codes do
    mark: re.compile(rf"[+-]?(0|[1-9]\d*|[1-9]\d{{0,2}}({mark}\d{{3}})+)([{decimals}]\d+)?", re.ASCII)
    for mark, decimals in ((",", "."), ("'", ".,"), (" ", ".,"))
}
AMBIGUOUS_POINT = re.compile(r"[+-]?[1-9]\d{0,2}\.\d{3}", re.ASCII)  # 1.234, where no number tells which it is
SYMBOLS = "$€£¥₹₽₩₺¢%‰"  # of currencies and shares
ZERO = re.compile(r"0+([.,]0+)?", re.ASCII)
MARKED_NUMBER = re.compile(  # $1,234.50, 5 %, (12), 1'000
    rf"[-+(]?[{SYMBOLS}]?\s?[-+]?(\d+|\d{{1,3}}([,.'\s]\d{{3}})+)([.,]\d+)?\)?-?\s?[{SYMBOLS}]?", re.ASCII
)
WITH_WORD = re.compile(  # 2.2 kg, 30°C, EUR 5: a unit, or the code of a currency
    r"[+-]?\d+(?:[.,]\d+)?\s?(?P<unit>[^\d\s.,'+-][^\d.,'+-]*)|(?P<currency>[A-Z]{3})\s?[+-]?\d+(?:[.,]\d+)?"
)
AMBIGUOUS_COMMA = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)  # 1,234: a thousand, or a little over one
TIME = r"(?P<time> \d{1,2}:\d\d(:\d\d)?)?"
YEAR_MONTH = re.compile(r"\d{4}(?P<mark>[./])\d{1,2}(?P=mark)\d{1,2}" + TIME, re.ASCII)
DAY_MONTH = re.compile(r"(\d{1,2})(?P<mark>[./-])(\d{1,2})(?P=mark)\d{4}" + TIME, re.ASCII)
WRITTEN_DATE = re.compile(  # in any form: 2024/01/05, 5.1.2024, 05-Jan-2024, 1/5/24, 05.01.24, each with a time or none
    r"(\d{4}([-./])\d{1,2}\2\d{1,2}|\d{1,2}([-./ ])(\d{1,2}|[A-Za-z]{3,9})\3\d{4}|\d{1,2}/\d{1,2}/\d\d"
    r"|[0-3]\d([-.])[0-3]\d\5\d\d)(?!\d).*",
    re.ASCII,
)
MOSTLY = 0.9  # a column of which so many values are numbers, or dates, was perhaps meant to be one


def symbol_in(texts: Sequence[str]) -> str:
    """The only one of SYMBOLS that is in these texts; "" where there is none, or another."""
    found = set(SYMBOLS).intersection(*[set().union(*texts)])
    return found.pop() if len(found) == 1 else ""


def word_beside_numbers(texts: Sequence[str]) -> str:
    """The unit or currency that each of these numbers has; "" where they have none, or not all the same."""
    matches = [WITH_WORD.fullmatch(text) for text in texts]
    words = {match["unit"] or match["currency"] if match else "" for match in matches}
    return words.pop() if len(words) == 1 else ""


def are_ambiguous_commas(texts: Sequence[str]) -> bool:
    """Whether these are numbers with commas, each of which may be of thousands or of decimals."""
    with_commas = [text for text in texts if "," in text]
    return bool(with_commas) and all(map(COMMA.fullmatch, texts)) and all(map(AMBIGUOUS_COMMA.fullmatch, with_commas))


def are_mostly_dates(texts: Sequence[str]) -> bool:
    """Whether nearly all of these texts are dates, however they are written."""
    return bool(texts) and sum(map(bool, map(WRITTEN_DATE.fullmatch, texts))) >= MOSTLY * len(texts)


def beyond_months(matches: Sequence[re.Match[str]]) -> tuple[list[str], list[str]]:
    """The dates whose first number is no month, and those whose second one is none."""
    first, second = ([match[0] for match in matches if int(match[group]) > 12] for group in (1, 3))
    return first, second
