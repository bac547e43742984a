"""What a search of the catalogue asks for: the query of a request, judged once."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..common.errors import BadRequest
from ..common.moment import asked
from ..common.words import words
from .loi import LONGEST

DATASET, TRANSACTION, FILE = "dataset", "transaction", "file"
KINDS = (DATASET, TRANSACTION, FILE)  # in the order in which they are told
MOST = 1000  # things of one page
USUAL = 100
TOP = (1 << 63) - 1  # above every id that is ever given

MAX_TEXT = 1000  # characters of any value
MAX_WORDS = 32
MAX_PAIRS = 16
LEAST_BEGINNING = 2  # characters before a *: fewer would be in every entry

# Which kind of thing can be asked for what.
_KNOWN = {
    "text": KINDS,
    "submitter": KINDS,
    "since": KINDS,
    "until": KINDS,
    "key": KINDS,
    "project": KINDS,
    "instrument": KINDS,
    "transaction": (TRANSACTION, FILE),
    "name": (DATASET, FILE),
    "checksum": (DATASET, FILE),
    "loi": (DATASET,),
}
_PAGING = ("kind", "value", "limit", "cursor")
_REPEATED = ("key", "value")

_NUMBER = re.compile(r"[0-9]{1,18}")
_SECONDS = re.compile(r"[0-9]{1,11}(\.[0-9]{1,9})?")
_CURSOR = re.compile(rf"({'|'.join(KINDS)})-([0-9]{{1,19}})")
_PART = re.compile(rf"[0-9a-z./-]{{1,{LONGEST}}}")
_CHECKSUM = re.compile(r"(?:([a-z0-9]{2,10}):)?([0-9a-f]{32,128})")


@dataclass(frozen=True)
class Name:
    """A file's name, or how it begins; ``subdir`` None: in any folder."""

    subdir: str | None
    name: str
    is_beginning: bool

    def narrowed(self) -> tuple[set[str], set[str]]:
        """Return the words that every such name has, and beginnings of words."""
        heard, begun = words(self.name), set()
        if heard and self.is_beginning and not (self.name[-1].isascii() and not self.name[-1].isalnum()):
            # What follows may change its last letter: a combining mark does.  Of other scripts more than that.
            last = heard.pop()
            if last.isascii() and len(last) > LEAST_BEGINNING:
                begun.add(last[:-1])
        return set(heard), begun


@dataclass(frozen=True, kw_only=True)
class Criteria:
    """What all things found have in common; what is None, or empty, was not asked.

    ``words`` and ``beginnings`` are folded; times are epoch seconds UTC, ``since`` included, ``until`` not; each of
    ``pairs`` is a key with its value (None: any).  ``kinds`` are those that can have all of it.
    """

    kinds: tuple[str, ...] = KINDS
    words: frozenset[str] = frozenset()
    beginnings: frozenset[str] = frozenset()
    name: Name | None = None
    hashtype: str | None = None
    hashsum: str | None = None
    pairs: tuple[tuple[str, str | None], ...] = ()
    project: str | None = None
    instrument: str | None = None
    submitter: str | None = None
    transaction: int | None = None
    loi: str | None = None
    since: float | None = None
    until: float | None = None
    limit: int = USUAL
    begin: tuple[str, int] | None = None  # kind and id that the page is behind

    def hears(self, said: set[str]) -> bool:
        """Tell whether every word that is asked for is among ``said``."""
        return self.words <= said and all(any(word.startswith(one) for word in said) for one in self.beginnings)


def parse(query: Mapping[str, Any]) -> Criteria:
    """Return what ``query`` (texts, or lists of them for what is said repeatedly) asks for.

    BadRequest names the parameter that is unknown, said twice, or no value of its kind.
    """
    for name, value in query.items():
        if name not in _KNOWN and name not in _PAGING:
            raise BadRequest("There is no such parameter here", parameter=name[:MAX_TEXT])
        if isinstance(value, list) and name not in _REPEATED:
            raise BadRequest("A parameter was given twice", parameter=name)
        for text in value if isinstance(value, list) else [value]:
            _check(name, text)
    given = {name: value for name, value in query.items() if name not in _REPEATED}
    kinds = _kinds(given.get("kind"), [name for name in query if name in _KNOWN])
    heard, begun = _words(given["text"]) if "text" in given else (set(), set())
    hashtype, hashsum = _checksum(given["checksum"]) if "checksum" in given else (None, None)
    return Criteria(
        kinds=kinds,
        words=frozenset(heard),
        beginnings=frozenset(begun),
        name=_name(given["name"]) if "name" in given else None,
        hashtype=hashtype,
        hashsum=hashsum,
        pairs=_pairs(_several(query, "key"), _several(query, "value")),
        project=given.get("project"),
        instrument=given.get("instrument"),
        submitter=given.get("submitter"),
        transaction=_number("transaction", given["transaction"]) if "transaction" in given else None,
        loi=_part(given["loi"]) if "loi" in given else None,
        since=asked("since", given["since"], _SECONDS) if "since" in given else None,
        until=asked("until", given["until"], _SECONDS) if "until" in given else None,
        limit=_limit(given["limit"]) if "limit" in given else USUAL,
        begin=_cursor(given["cursor"], kinds) if "cursor" in given else None,
    )


def _check(name: str, text: str) -> None:
    if not text:
        raise BadRequest(f"{name} is empty.", parameter=name)
    if len(text) > MAX_TEXT:
        raise BadRequest(f"{name} is longer than {MAX_TEXT} characters.", parameter=name)
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise BadRequest(f"{name} has a character in it that no text has.", parameter=name)


def _kinds(kind: str | None, asked: list[str]) -> tuple[str, ...]:
    if kind is not None and kind not in KINDS:
        raise BadRequest(f"kind is one of {', '.join(KINDS)}.", parameter="kind")
    kinds: tuple[str, ...] = (kind,) if kind else KINDS
    for name in asked:
        if kind and kind not in _KNOWN[name]:
            raise BadRequest(f"A {kind} has no {name}.", parameter=name)
        kinds = tuple(one for one in kinds if one in _KNOWN[name])
    if not kinds:
        raise BadRequest(f"Nothing has all of {', '.join(asked)}.", parameter=asked[-1])
    return kinds


def _words(text: str) -> tuple[set[str], set[str]]:
    heard: set[str] = set()
    begun: set[str] = set()
    for part in text.split():
        found = words(part)
        if found and part.endswith("*"):
            begun.add(found.pop())
        heard.update(found)
    if not heard and not begun:
        raise BadRequest("text has no word in it.", parameter="text")
    if len(heard) + len(begun) > MAX_WORDS:
        raise BadRequest(f"text has more than {MAX_WORDS} words.", parameter="text")
    if any(len(word) < LEAST_BEGINNING for word in begun):
        raise BadRequest(f"A word needs {LEAST_BEGINNING} characters before its *.", parameter="text")
    return heard, begun


def _name(text: str) -> Name:
    is_beginning = text.endswith("*")
    subdir, slash, name = text.removesuffix("*").rpartition("/")
    if not name and not (slash and is_beginning):
        raise BadRequest("name is a file's name, with or without its folders; a last * stands for any end.",
                         parameter="name")  # fmt: skip
    return Name(subdir.strip("/") if slash else None, name, is_beginning)


def _checksum(text: str) -> tuple[str | None, str]:
    found = _CHECKSUM.fullmatch(text.lower())
    if not found:
        raise BadRequest("checksum is a digest in hex, such as sha1:2fd4... or the digest alone.", parameter="checksum")
    return found[1], found[2]


def _pairs(keys: list[str], values: list[str]) -> tuple[tuple[str, str | None], ...]:
    if not keys and values:
        raise BadRequest("A value needs its key.", parameter="value")
    if values and len(values) != len(keys):
        raise BadRequest("There are not as many values as keys.", parameter="value")
    if len(keys) > MAX_PAIRS:
        raise BadRequest(f"There are more than {MAX_PAIRS} keys.", parameter="key")
    if not values:
        return tuple((key, None) for key in keys)
    return tuple(zip(keys, values, strict=True))


def _part(text: str) -> str:
    if not _PART.fullmatch(text):
        raise BadRequest("No LOI has this in it.", parameter="loi")
    return text


def _number(name: str, text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise BadRequest(f"{name} must be a whole number.", parameter=name)
    return int(text)


def _limit(text: str) -> int:
    number = _number("limit", text)
    if not 1 <= number <= MOST:
        raise BadRequest(f"limit is 1 to {MOST}.", parameter="limit")
    return number


def _cursor(text: str, kinds: tuple[str, ...]) -> tuple[str, int]:
    found = _CURSOR.fullmatch(text)
    if not found or found[1] not in kinds or int(found[2]) > TOP:
        raise BadRequest("cursor is what the page before said as next.", parameter="cursor")
    return found[1], int(found[2])


def _several(query: Mapping[str, Any], name: str) -> list[str]:
    value = query.get(name, [])
    return list(value) if isinstance(value, list) else [value]
