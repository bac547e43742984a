"""The words of a text as the catalogue finds them: the same with every database, since none of them cuts the text."""

import re
from unicodedata import normalize

LONGEST = 64  # characters of a word; what follows them is not compared

_WORD = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    """Return the words of ``text`` in their order: letters and digits of any script, case and form folded."""
    folded = text.lower() if text.isascii() else normalize("NFKC", normalize("NFKC", text).casefold())
    return [word[:LONGEST] for word in _WORD.findall(folded)]
