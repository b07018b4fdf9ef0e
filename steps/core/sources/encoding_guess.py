"""Which encoding a text has that is neither UTF-8 nor says it: a guess, with a word that shows whether it is right."""

import re

CENTRAL_EUROPEAN, WESTERN = "cp1250", "cp1252"  # whose languages have a letter beyond ASCII here and there
OTHERS = (  # whose letters beyond ASCII follow each other
    *("cp1251", "cp1253", "cp1255", "cp1256"),
    *("cp932", "euc_jp", "gb18030", "big5", "euc_kr"),
)
HIGHEST_MESS = 0.5  # of the library's measure of letters that do not go together, from 0 to 1
WORD = re.compile(rb"[^\s,;\"]*[\x80-\xff][^\s,;\"]*")  # with a byte beyond ASCII
RUN = re.compile(rb"[\x80-\xff]{3,}")


def likely_encoding(sample: bytes) -> str:
    """The encoding in which a text looks most like one of a language; "" when it does in none.

    Letters tell Central from Western European. Where both have as many, it is Western, which more files are.
    """
    words = list(dict.fromkeys(WORD.findall(sample)))  # once each: the library takes repeated rows for no language
    in_runs = sum(len(run) for word in words for run in RUN.findall(word))
    if 2 * in_runs < sum(byte >= 0x80 for word in words for byte in word):
        text = b" ".join(words)
        return max((WESTERN, CENTRAL_EUROPEAN), key=lambda encoding: _letters(text, encoding))
    from charset_normalizer import from_bytes  # 30 ms, which only such a text needs

    best = from_bytes(b" ".join(words), cp_isolation=list(OTHERS), threshold=HIGHEST_MESS).best()
    return best.encoding if best else ""


def example(text: str) -> str:
    """The first word of a text that has a letter beyond ASCII, by which one sees whether it is read right."""
    words = text.replace(",", " ").replace(";", " ").split()
    return next((word.strip("\"'") for word in words if not word.isascii()), "")


def _letters(text: bytes, encoding: str) -> int:
    """How many of the characters beyond ASCII are letters or open a sentence; a byte without a meaning is neither."""
    decoded = text.decode(encoding, "replace")
    return sum(letter.isalpha() or letter in "¿¡" for letter in decoded if not letter.isascii())
