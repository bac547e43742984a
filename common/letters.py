"""Small letters, one for each capital: as PostgreSQL's ``lower`` makes them, and SQLite's does for ASCII alone."""

from functools import cache


def small(text: str | None) -> str | None:
    """Return ``text`` in small letters, as many as there were; SQLite calls this for its function ``small``."""
    if text is None or text.isascii():
        return text and text.lower()
    return "".join(letter if len(letter.lower()) > 1 else letter.lower() for letter in text)


@cache
def capitals() -> dict[str, str]:
    """Return the letters beyond ASCII that each small letter is made of, together."""
    found: dict[str, str] = {}
    for number in range(0x80, 0x1F000):
        letter = chr(number)
        if (lower := small(letter)) != letter and lower is not None:
            found[lower] = found.get(lower, "") + letter
    return found
