"""Take secrets out of a text before it is shown or kept: what a library says of an address may hold a password."""

import re

HIDDEN = "***"
# The end of the name of a secret: of a URL's parameter, a variable or a key of a connection string.
_SECRET = re.compile(
    r".*(token|signature|secret|passw(or)?d|passphrase|pwd|credential|(api|access|account|private|secret)[-_.]?key)"
    r"|fs\.azure\.account\.key\..*|sig|auth",
    re.IGNORECASE,
)
# A place in a list, which tells nobody anything, and how many tokens there are.
_NO_SECRET = re.compile(r"(.*[-_.])?(page|next|continuation)[-_]?token|-*(max|min|num|n)[-_]tokens?", re.IGNORECASE)
# In place of a value: what is to be put there, its type, or nothing.
_PLACEHOLDER = re.compile(
    r"\.*|(?-i:\$\{?[A-Z_][A-Z0-9_]*\}?)|\$\(.*|(?-i:\{[a-z_.]*)|%s|none|null|true|false"
    r"|str(ing)?|text|(var)?char|u?int(eger|\d+)?|(big|small)int|long|float\d*|double|decimal|bool(ean)?"
    r"|date|timestamp|binary|object",
    re.IGNORECASE,
)
_OF_PARSERS = ("unexpected ", "unknown ", "invalid ", "illegal ")  # before a token that is a part of a text
_OF_BUCKETS = ("s3://", "s3a://", "gs://", "abfs://", "abfss://", "wasb://", "wasbs://")
_USER = re.compile(  # the second way is a password with a slash, which should be written %2F
    r"""(?<![\w+.-])([a-z][a-z0-9+.-]{0,30}://)"""
    r"""([^\s/?#'"<>]*|[^\s/?#'"<>@:\[]+:(?!\d*[/?#])[^\s'"<>@]{0,200})@""",
    re.IGNORECASE,
)
_QUOTED = r"""[bru]{0,2}(?:\\"[^"\\\n]*\\"|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
_WORD = r"""[^\s&;,'"<>)\]}]+"""
_NAME = r"(?<![\w.-])([\w.-]+)"
_SENTENCE = r"(?!-|(?:a|an|and|are|as|for|from|in|is|may|must|needs|of|on|or|that|the|to|with)\b)"
_LAST = r"""[^\s&;,'"<>()\[\]{}\\]+(?=[ \t]*(?:[,;)\]}'"\r]|\\[rn]|$))"""  # a word after which no sentence goes on
_PAIRS = (
    re.compile(rf"{_NAME}(=)({_QUOTED}|{_WORD})"),
    re.compile(rf"""{_NAME}(\\?['"]?[ \t]{{0,3}}[:=][ \t]{{0,3}})({_QUOTED}|{_LAST})""", re.MULTILINE),
    re.compile(rf"""(?<![\w.-])(--[\w-]+)(['"]?,?[ \t]+)({_QUOTED}|{_SENTENCE}{_WORD})"""),  # of a command line
)
_LOGIN = re.compile(
    r"""(\bauthorization['"]?\s*[:=]\s*['"]?)(?:(?:Bearer|Basic|Digest|Token|AWS4\S+)\s+[^'"\n]+|[^\s'"]{8,})"""
    r"""|(\bcookie['"]?\s*[:=]\s*['"]?)(?=[\w.-]+=)[^'"\n]+"""
    r"""|(\bBearer\s+)(?=\S*\d)[\w.~+/=-]{8,}""",
    re.IGNORECASE,
)


def is_secret(name: str) -> bool:
    """Whether what has this name is known to nobody else; not the mark of a page, such as page_token."""
    return bool(_SECRET.fullmatch(name)) and not _NO_SECRET.fullmatch(name)


def redacted(text: str) -> str:
    """`text` as it may be shown: URLs without a user, who may be a token, and HIDDEN in place of each secret.

    A user of ssh stays, as that is part of the address.
    """
    text = _USER.sub(_address, text)
    text = _LOGIN.sub(lambda login: f"{login[login.lastindex or 0]}{HIDDEN}", text)
    for pair in _PAIRS:
        text = pair.sub(_pair, text)
    return text


def _pair(pair: re.Match[str]) -> str:
    name, is_to, value = pair.groups()
    opened = re.match(r"""[bru]{0,2}(\\?['"])""", value)
    begin, end = (opened[0], opened[1]) if opened else ("", "")
    word = value[len(begin) : len(value) - len(end)]
    before = pair.string[max(0, pair.start() - 12) : pair.start()].lower()
    is_plain = (
        not is_secret(name)
        or _PLACEHOLDER.fullmatch(word)
        or (name.lower() in ("sig", "auth") and not before.endswith(("?", "&", "'", '"')))
        or (name.lower() == "pwd" and word.startswith("/"))  # a shell's folder
        or (name.lower().endswith("token") and re.fullmatch(r"\d{1,6}", word))  # a count
        or before.endswith(_OF_PARSERS)
    )
    return pair[0] if is_plain else f"{name}{is_to}{begin}{HIDDEN}{end}"


def _address(url: re.Match[str]) -> str:
    is_place = url[1].lower() in _OF_BUCKETS and ":" not in url[2]  # s3://bucket@v3, abfss://container@account
    if is_place or url[1].lower() == "file://":
        return url[0]
    is_ssh = url[1].lower().endswith("ssh://") and url[2]
    return f"{url[1]}{url[2].partition(':')[0]}@" if is_ssh else url[1]
