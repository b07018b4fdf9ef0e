"""The options of delimited text: source.options in a config."""

from collections.abc import Mapping
from dataclasses import dataclass

from steps.core.errors import SourceUnreadable
from steps.core.sources.csv_dialect import WHITESPACE

OPTIONS = (
    "sep", "delimiter", "encoding", "charset", "quote", "escape", "comment", "header", "skip_lines", "nullValue",
    "ignoreLeadingWhiteSpace", "ignoreTrailingWhiteSpace",
    "multiLine",  # Spark's, and always so here
)  # fmt: skip
INSTEAD = {  # of Spark's options, what says the same here
    "dateFormat": "columns.<name>.format, as strptime has it: %d.%m.%Y",
    "timestampFormat": "columns.<name>.format, as strptime has it: %d.%m.%Y %H:%M",
    "timestampNTZFormat": "columns.<name>.format, as strptime has it: %d.%m.%Y %H:%M",
    "timeZone": "columns.<name>.zone",
    "nanValue": "columns.<name>.missing",
    "emptyValue": "columns.<name>.missing",
    "locale": "columns.<name>.decimal_mark",
    "inferSchema": "columns.<name>.type",
    "mode": "rejects_at_most, as rows that cannot be read are rejects",
    "lineSep": "nothing, as LF, CRLF and CR all end a line",
    "maxColumns": "nothing, as there is no such limit",
    "maxCharsPerColumn": "nothing, as there is no such limit",
    "enforceSchema": "nothing, as columns are found by their names",
}
SEPARATOR_NAMES = {"tab": "\t", r"\t": "\t", WHITESPACE: WHITESPACE, r"\s+": WHITESPACE}


@dataclass(frozen=True, kw_only=True)
class CsvOptions:
    """`separator` and `encoding` are "" where the file's content tells, `header` is None where it is to be checked."""

    separator: str = ""
    encoding: str = ""
    quote: str = '"'
    escape: str = ""
    comment: str = ""
    header: bool | None = None
    skip_lines: int = 0
    strips_leading: bool = False  # blanks around values
    strips_trailing: bool = False


def parse(uri: str, given: Mapping[str, str | bool | int]) -> CsvOptions:
    """The options of a config, whose names are the same in upper and lower case. SourceUnreadable for a wrong one."""
    options = {name.lower(): value for name, value in given.items()}
    for name, instead in INSTEAD.items():
        if name.lower() in options:
            raise SourceUnreadable(
                uri, f"source.options.{name} is not an option of this source", next=f"leave it out, and say {instead}"
            )
    separator = str(options.get("sep", options.get("delimiter", "")))
    quote, escape = str(options.get("quote", '"')), str(options.get("escape", ""))
    parsed = CsvOptions(
        separator=SEPARATOR_NAMES.get(separator, separator),
        encoding=str(options.get("encoding", options.get("charset", ""))),
        quote=quote,
        escape="" if escape == quote else escape,
        comment=str(options.get("comment", "")),
        header=_truth(uri, "header", options["header"]) if "header" in options else None,
        skip_lines=_count(uri, "skip_lines", options.get("skip_lines", 0)),
        strips_leading=_truth(uri, "ignoreLeadingWhiteSpace", options.get("ignoreleadingwhitespace", False)),
        strips_trailing=_truth(uri, "ignoreTrailingWhiteSpace", options.get("ignoretrailingwhitespace", False)),
    )
    _check_letters(uri, parsed)
    return parsed


def _check_letters(uri: str, options: CsvOptions) -> None:
    for name, value in (("quote", options.quote), ("escape", options.escape)):
        if value and (len(value) > 1 or not value.isascii() or value in "\r\n"):
            raise _wrong(uri, name, value, "one ASCII letter, or '' for none")
    for name, value in (("sep", options.separator), ("comment", options.comment)):
        if "\n" in value or "\r" in value or (value and value in (options.quote, options.escape)):
            raise _wrong(uri, name, value, "text without a line end that is neither the quote nor the escape")


def _truth(uri: str, name: str, value: str | bool | int) -> bool:
    if str(value).lower() not in ("true", "false"):
        raise _wrong(uri, name, value, "true or false")
    return str(value).lower() == "true"


def _count(uri: str, name: str, value: str | bool | int) -> int:
    if isinstance(value, bool) or not str(value).isdecimal():
        raise _wrong(uri, name, value, "a number of lines")
    return int(value)


def _wrong(uri: str, name: str, value: object, expected: str) -> SourceUnreadable:
    return SourceUnreadable(uri, f"source.options.{name}: {value!r} given", next=f"give {expected}")
