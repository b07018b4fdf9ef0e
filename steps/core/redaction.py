"""Take secrets out of a text before it is shown or kept: what a library says of an address may hold a password."""

import re

HIDDEN = "***"
# The end of the name of a secret: of a URL's parameter, a variable or a key of a connection string.
_SECRET = re.compile(
    r".*(token|signature|secret|passw(or)?d|passphrase|pwd|credential|(api|access|account|private|secret)[-_]?key)"
    r"|sig|auth",
    re.IGNORECASE,
)
# A place in a list, which tells nobody anything.
_PAGE_MARK = re.compile(r"(.*[-_.])?(page|next|continuation)[-_]?token", re.IGNORECASE)
_USER = re.compile(r"(?<![\w+.-])([a-z][a-z0-9+.-]{0,30}://)([^\s/?#'\"<>]*)@", re.IGNORECASE)
_OF_BUCKETS = ("s3://", "s3a://", "gs://", "abfs://", "abfss://", "wasb://", "wasbs://")
_VALUE = r"""'[^'\n]*'|"[^"\n]*"|[^\s&;,'"<>)\]}]+"""
_PAIR = re.compile(rf"""(?<![\w.-])([\w.-]+)(=|['"]: ?)({_VALUE})""")  # name=value, and "name": "value"
_LOGIN = re.compile(
    r"""(\bauthorization['"]?\s*[:=]\s*['"]?)(?:(?:Bearer|Basic|Digest|Token|AWS4\S+)\s+[^'"\n]+|[^\s'"]{8,})"""
    r"""|(\bBearer\s+)(?=\S*\d)[\w.~+/=-]{8,}""",
    re.IGNORECASE,
)


def is_secret(name: str) -> bool:
    """Whether what has this name is known to nobody else; not the mark of a page, such as page_token."""
    return bool(_SECRET.fullmatch(name)) and not _PAGE_MARK.fullmatch(name)


def redacted(text: str) -> str:
    """`text` as it may be shown: URLs without a user, who may be a token, and HIDDEN in place of each secret.

    A user of ssh stays, as that is part of the address.
    """
    text = _USER.sub(_address, text)
    text = _LOGIN.sub(lambda login: f"{login[1] or login[2]}{HIDDEN}", text)
    return _PAIR.sub(_pair, text)


def _pair(pair: re.Match[str]) -> str:
    name, is_to, value = pair.groups()
    quote = value[0] if value[0] in "'\"" else ""
    is_placeholder = not value.strip("'\".")  # token=...
    return pair[0] if is_placeholder or not is_secret(name) else f"{name}{is_to}{quote}{HIDDEN}{quote}"


def _address(url: re.Match[str]) -> str:
    if url[1].lower() in _OF_BUCKETS and ":" not in url[2]:
        return url[0]  # s3://bucket@v3 is a version of a table, abfss://container@account a place
    is_ssh = url[1].lower().endswith("ssh://") and url[2]
    return f"{url[1]}{url[2].partition(':')[0]}@" if is_ssh else url[1]
