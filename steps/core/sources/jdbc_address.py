"""The address of a PostgreSQL database, jdbc:postgresql://host:5432/database?dbtable=schema.table.

`dbtable` is ours: the table that is read, where a source is given as one text. The other parameters are the driver's.
"""

import re
from urllib.parse import unquote

from steps.core.errors import SourceUnreadable
from steps.core.redaction import is_secret

USER_VARIABLE, PASSWORD_VARIABLE = "PGUSER", "PGPASSWORD"  # environment variables, libpq's own
PREFIX = "jdbc:postgresql://"
ADDRESS = re.compile(rf"{PREFIX}[^/?#@\s]+/[^/?#@\s]+(\?[^#@\s]*)?")
TABLE = "dbtable"
NAME = r'(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)'  # of PostgreSQL, quoted or not
TABLE_NAME = re.compile(rf"(?:{NAME}\.)?{NAME}")


def check(uri: str) -> None:
    """SourceUnreadable for an address that is none, or that holds a user or a password, which is not repeated."""
    address, _, _ = uri.partition("?")
    if "@" in uri or any(name.lower() == "user" or is_secret(name) for name, _ in _parameters(uri)):
        shown = address.replace(address[len(PREFIX) : address.rfind("@") + 1], "")
        next = f"leave it out, and set {USER_VARIABLE} and {PASSWORD_VARIABLE} in the environment"
        reason = "its address holds a user or a password, which would be kept with the run"
        raise SourceUnreadable(shown, reason, next=f"{next}; where it was a parameter, change the password too")
    if not ADDRESS.fullmatch(uri):
        reason = f"it is not the address of a PostgreSQL database, as in {PREFIX}host:5432/database"
        raise SourceUnreadable(uri, reason)
    if (name := table(uri)) and not TABLE_NAME.fullmatch(name):
        next = "write a config with source.options.query, which takes a query"
        raise SourceUnreadable(uri, f"{TABLE} in its address is no name of a table: {name}", next=next)


def table(uri: str) -> str:
    """The table that an address names, "" for none."""
    return next((value for name, value in _parameters(uri) if name == TABLE), "")


def without_table(uri: str) -> str:
    """The address as the driver takes it."""
    address, _, parameters = uri.partition("?")
    others = [word for word in parameters.split("&") if word and unquote(word).partition("=")[0] != TABLE]
    return f"{address}?{'&'.join(others)}" if others else address


def last_name(uri: str) -> str:
    """The name of the table, without its schema and quotes; of the database where the address names no table."""
    names = re.findall(NAME, table(uri))
    return names[-1].strip('"') if names else unquote(without_table(uri).partition("?")[0].rpartition("/")[2])


def _parameters(uri: str) -> list[tuple[str, str]]:
    pairs = (unquote(word).partition("=") for word in uri.partition("?")[2].split("&"))
    return [(name, value) for name, _, value in pairs]
