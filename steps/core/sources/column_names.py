"""Names for the columns of a source that Delta and Spark take without quoting, and that no other column has."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

from steps.core.config import PREDICTION_COLUMNS

VALID = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
HASH_LETTERS = 8
LATIN = str.maketrans(  # letters that Unicode does not take apart, as they are written in ASCII
    {"ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L"}
    | {"đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "ı": "i"}
)


def contract_names(source_names: Iterable[str], *, of: str = "column") -> dict[str, str]:
    """The name in the contract of each column of a source; the same in whatever order the source has them. `of` is what
    they begin with where they could not else.

    A name depends on its own column alone. Where names become the same, or letters are lost, each gets a hash of the
    source's name: "user age" and "user.age" are user_age_d78c9af3 and user_age_94693f18. None of those that become the
    same goes without, also where it is valid, as a name by which a model knows one column must not become another's.
    """
    names = list(source_names)
    hashes = {name: 0 if _says_all(name) else 1 for name in names}
    while True:
        chosen = {name: _named(name, of, hashes=hashes[name]) for name in names}
        counts = Counter(valid.lower() for valid in chosen.values())
        alike = [name for name, valid in chosen.items() if counts[valid.lower()] > 1]
        if not alike:
            return chosen
        for name in alike:
            hashes[name] += 1


def hashed(name: str, *, words: str) -> str:
    """`words` with a hash of `name`, the same in whatever form Unicode writes it."""
    return f"{words}_{_hash(unicodedata.normalize('NFC', name))[:HASH_LETTERS]}"


def _named(name: str, of: str, *, hashes: int) -> str:
    """The name with no hash, with one, or with a longer one of its very code points too."""
    if not hashes:
        return _valid(name, of)
    once = hashed(name, words=_valid(name, of))
    return once if hashes == 1 else f"{once}_{_hash(name)[: HASH_LETTERS * (hashes - 1)]}"


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def _says_all(name: str) -> bool:
    """Whether no letter or digit is lost in the name that is like `name`, and no column of predictions has it."""
    is_lost = any(letter.isalnum() and not letter.isascii() for letter in _decomposed(name))
    return not is_lost and bool(_words(name)) and name.lower() not in PREDICTION_COLUMNS


def _valid(name: str, of: str) -> str:
    """A name of letters, digits and _ that reads like `name`."""
    words = _words(name)
    if VALID.fullmatch(words):
        return words
    return f"{of}_{words}" if words else of


def _words(name: str) -> str:
    plain = _decomposed(name).encode("ascii", "ignore").decode()
    return plain if VALID.fullmatch(plain) else re.sub(r"[^A-Za-z0-9]+", "_", plain).strip("_")


def _decomposed(name: str) -> str:
    return unicodedata.normalize("NFKD", name.translate(LATIN))
