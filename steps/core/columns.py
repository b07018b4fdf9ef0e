"""A column of the contract: what its values must be, and how they are written in the source."""

import datetime
import re
from decimal import Decimal
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, field_validator, model_validator

from steps.core.errors import did_you_mean

DECIMAL = re.compile(r"decimal\((\d+), ?(\d+)\)")  # digits in all, and those after the point
NUMBERS = ("int", "long", "float", "double", "decimal")
TIMES = ("date", "timestamp")
KINDS = (*NUMBERS, *TIMES, "boolean", "string")
TRUE_TEXTS, FALSE_TEXTS = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")  # in any case
# What says how texts are read.
AS_TEXT = ("type", "format", "zone", "decimal_mark", "thousands_mark", "symbol", "true_texts", "false_texts")
SYMBOL = r"[^\d\s.,'+-](?:.{0,18}\S)?"  # it is not taken for a part of the number
INT64 = 2**63
EXACT_DOUBLE = 2**53  # up to here each whole number is a double
WHOLE_LIMITS = {"int": 2**31, "long": INT64}
LARGEST_FLOAT = (2 - 2**-23) * 2.0**127  # of 32 bits, by IEEE 754
LABELS = ("string", "int", "long", "boolean")  # kinds that a class may have
ALLOWED: dict[str, tuple[type, ...]] = {  # of which types the values under `allowed` are
    **dict.fromkeys(("float", "double", "decimal"), (int, float)),
    **dict.fromkeys(("int", "long"), (int,)),
    "boolean": (bool,),
    "string": (str,),
}


class Strict(BaseModel):
    """A frozen part of the config that knows every key."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _known_type(text: str) -> str:
    if matched := DECIMAL.fullmatch(text):
        digits, after_point = int(matched[1]), int(matched[2])
        if not 1 <= digits <= 38 or after_point > digits:
            raise ValueError(f"{text!r} given; a decimal has 1 to 38 digits, and no more than those after the point")
        return f"decimal({digits},{after_point})"
    if text not in KINDS or text == "decimal":
        known = [*(kind for kind in KINDS if kind != "decimal"), "decimal(10,2)"]
        raise ValueError(f"{text!r} given; the types are {', '.join(known)}{did_you_mean(text, known)}")
    return text


class Column(Strict):
    """What a column's values must be."""

    source: str | None = None
    """Its name in the source, or the path of a nested field; by default its own name."""
    type: Annotated[str, AfterValidator(_known_type)]
    """`int`, `long`, `float`, `double`, `decimal(<digits>,<after the point>)`, `date`, `timestamp`, `boolean` or
    `string`."""
    nullable: bool | None = None
    """false: a missing value breaks the contract; true: a file may lack the column as well; by default values may
    be missing."""
    missing: tuple[str | int | float, ...] = ()
    """What stands for a missing value, beside an empty one."""
    min: int | float | datetime.datetime | datetime.date | None = None
    """The least value that there may be, in the column's own unit and `zone`."""
    max: int | float | datetime.datetime | datetime.date | None = None
    """The greatest value that there may be, in the column's own unit and `zone`."""
    allowed: tuple[str | int | float | bool, ...] | None = None
    """The only values that there may be."""
    pattern: str | None = None
    """A regular expression that fits the whole of each text."""
    unit: str | None = None
    """Kept in the table's column comment."""
    format: str | None = None
    """Of a date or timestamp that is text or a whole number, as `strptime` has it: `%d.%m.%Y`, `%Y%m%d`."""
    zone: str | None = None
    """Of timestamps without one, such as `Europe/Berlin`; by default UTC."""
    decimal_mark: Literal[".", ","] = "."
    """Of numbers that are text; `,` where `1.234,5` is meant."""
    thousands_mark: Literal[",", ".", " ", "'"] | None = None
    """Of numbers that are text; `,` where `1,234.50` is meant. By default there is none, and `.` where the decimal mark
    is a comma."""
    symbol: str | None = None
    """Of numbers that are text: what may stand before or after each and is left out, in quotes: `"$"`, `"kg"`. Numbers
    other than 0 must have a `"%"`."""
    true_texts: tuple[str, ...] = ()
    """Of booleans, beside true, t, yes, y and 1: WAHR."""
    false_texts: tuple[str, ...] = ()
    """Of booleans, beside false, f, no, n and 0."""
    feature: bool = True
    """Whether the model may see it; of a date it sees the parts."""
    categorical: bool = False
    """Of whole numbers: codes, none of which is more than another; texts always are."""

    @property
    def kind(self) -> str:
        """Its type without digits: one of KINDS."""
        return self.type.partition("(")[0]

    @property
    def grouping_mark(self) -> str:
        """What stands between the thousands of numbers that are text; "" for nothing."""
        return self.thousands_mark or ("." if self.decimal_mark == "," else "")

    @property
    def decimal_digits(self) -> tuple[int, int]:
        """Of a decimal: how many digits it has in all, and how many of them after the point."""
        digits, after_point = self.type.removeprefix("decimal(").removesuffix(")").split(",")
        return int(digits), int(after_point)

    @field_validator("missing", "min", "max", mode="before")
    @classmethod
    def _no_truth_values(cls, given: Any) -> Any:
        """YAML reads an unquoted no as false, which would be taken for the number 0."""
        if wrong := [
            value for value in (given if isinstance(given, (list, tuple)) else [given]) if isinstance(value, bool)
        ]:
            raise ValueError(
                f"{wrong[0]!r} given; write it in quotes (YAML reads no, yes, on and off as true or false)"
            )
        return given

    @model_validator(mode="after")
    def _rules_fit_the_type(self) -> Self:
        if self.kind not in (*NUMBERS, *TIMES) and (self.min is not None or self.max is not None):
            raise ValueError(f"min and max are for columns of type {', '.join((*NUMBERS, *TIMES))}, not {self.type}")
        self._check_texts()
        self._check_limits()
        self._check_allowed()
        return self

    def _check_allowed(self) -> None:
        if self.allowed is None:
            return
        if self.kind not in ALLOWED:
            raise ValueError(f"allowed is not for columns of type {self.type}")
        if not self.allowed:
            raise ValueError("allowed: names no value; leave it out, or name those that there may be")
        wrong = [value for value in self.allowed or () if type(value) not in ALLOWED[self.kind]]
        if wrong:
            raise ValueError(f"allowed: {wrong[0]!r} is not of type {self.type} (YAML reads no, yes and 1 unquoted)")
        for value in self.allowed:
            if isinstance(value, str):
                if not value.strip() or value != value.strip():
                    raise ValueError(f"allowed: {value!r} is no value, as blanks around values are no part of them")
            elif not self._holds(value):
                raise ValueError(f"allowed: {value} is not of type {self.type}")

    def _holds(self, value: float) -> bool:
        """Whether a number is one of the column's type, with all of its digits."""
        if self.kind == "decimal":
            digits, after_point = self.decimal_digits
            number = Decimal(str(value)).normalize()
            exponent = int(number.as_tuple().exponent)
            return abs(number) < 10 ** (digits - after_point) and -exponent <= after_point
        if self.kind == "float":
            return abs(value) <= LARGEST_FLOAT
        if isinstance(value, float):
            return True
        limit = WHOLE_LIMITS.get(self.kind, INT64)
        return -limit <= value < limit and (self.kind != "double" or int(float(value)) == value)

    def _check_limits(self) -> None:
        is_time = self.kind in TIMES
        for name, limit in (("min", self.min), ("max", self.max)):
            has_time = isinstance(limit, datetime.datetime) and limit.time() != datetime.time()
            if limit is not None and (
                isinstance(limit, datetime.date) != is_time or (self.kind == "date" and has_time)
            ):
                raise ValueError(f"{name}: {limit} is not of type {self.type}")
        zone = ZoneInfo(self.zone or "UTC")
        if self.min is not None and self.max is not None and _comparable(self.min, zone) > _comparable(self.max, zone):
            raise ValueError(f"min {_shown(self.min)} is above max {_shown(self.max)}")

    def boolean_texts(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The texts that mean true and those that mean false, in whatever case."""
        return (*TRUE_TEXTS, *self.true_texts), (*FALSE_TEXTS, *self.false_texts)

    def as_text(self) -> dict[str, Any]:
        """Its type, and how its values are written as text where that is not as by default."""
        return self.model_dump(mode="json", include=set(AS_TEXT), exclude_defaults=True)

    def _check_texts(self) -> None:
        fitting = {"format": TIMES, "zone": ("timestamp",), "pattern": ("string",)}
        fitting |= {"decimal_mark": NUMBERS, "thousands_mark": NUMBERS, "symbol": NUMBERS}
        fitting |= {"true_texts": ("boolean",), "false_texts": ("boolean",)}
        fitting |= {"categorical": ("int", "long", "string")}
        for name, kinds in fitting.items():
            if getattr(self, name) != type(self).model_fields[name].default and self.kind not in kinds:
                raise ValueError(f"{name} is for columns of type {', '.join(kinds)}, not {self.type}")
        true, false = ({text.casefold() for text in texts} for texts in self.boolean_texts())
        if both := sorted(true & false):
            raise ValueError(f"true_texts and false_texts: {both[0]!r} cannot be both")
        if self.thousands_mark == self.decimal_mark:
            raise ValueError(f"decimal_mark and thousands_mark: {self.decimal_mark!r} cannot be both")
        if self.symbol is not None and not re.fullmatch(SYMBOL, self.symbol):
            raise ValueError(
                f"symbol: {self.symbol!r} given; it is up to 20 characters without blanks around them, of which the "
                "first is no digit, sign or mark, such as $ or kg"
            )
        if self.format is not None:
            _check_format(self.format)
        if self.pattern is not None:
            try:
                re.compile(self.pattern)
            except re.error as err:
                raise ValueError(f"pattern: {self.pattern!r} is no regular expression: {err}") from err
        if self.zone is not None:
            try:
                ZoneInfo(self.zone)
            except (ZoneInfoNotFoundError, ValueError, OSError) as err:  # the last one for a folder of zones
                raise ValueError(f"zone: {self.zone!r} is no time zone; such as Europe/Berlin") from err


def _check_format(text: str) -> None:
    """ValueError for a format from which strptime cannot read back the day that it writes."""
    day = datetime.datetime(2001, 2, 13, tzinfo=datetime.UTC)
    try:
        says_day = datetime.datetime.strptime(day.strftime(text), text).date() == day.date()
    except ValueError:
        says_day = False
    if not says_day:
        raise ValueError(f"format: {text!r} does not tell year, month and day as strptime has them, such as %d.%m.%Y")


def _comparable(limit: float | datetime.date, zone: ZoneInfo) -> Any:
    if isinstance(limit, datetime.date) and not isinstance(limit, datetime.datetime):
        return datetime.datetime.combine(limit, datetime.time(), zone)
    return limit.replace(tzinfo=limit.tzinfo or zone) if isinstance(limit, datetime.datetime) else limit


def _shown(limit: float | datetime.date) -> str:
    return f"{limit:g}" if isinstance(limit, float) else str(limit)
