"""Why a value is none of its column's type: the rules that it may break."""

# Each ends the sentence "3 of 60 rows ...".
INFINITE = "are infinite"
OUT_OF_RANGE = "are out of the range of type {type} (a wider type, or string, holds them)"
NOT_WHOLE = "are not whole numbers"
LOSES_DIGITS = "would lose digits"
NO_SUCH_TIME = "are at an hour that does not exist once in their zone"
NOT_IN_CALENDAR = "are not in the years 1 to 9999"
NOT_UTF8 = "are not UTF-8 (say source.options.encoding)"
HAS_NUL = "have a NUL byte"


class Refused(ValueError):
    """A value that is none of its column's type; the text is the rule that it breaks."""
