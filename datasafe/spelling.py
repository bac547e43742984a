"""How an inventory is spelt in JSON, in parts: 45 MB of it for 100,000 files, never held whole.

Ours has an indent of 1.  What another program has spelt otherwise is read too, at once.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

import msgspec

from ..common.errors import Damaged

CHUNK = 256 << 10  # bytes that are read at once

Place = tuple[str, ...]  # keys that lead to it: ("manifest",), ("versions", "v1", "state"), ("fixity", "md5")
Listed = dict[str, list[str]]


class Part(NamedTuple):
    """Some entries of the map at ``place``, in their order; those of one map may come in several parts."""

    place: Place
    entries: dict[str, Any]


class Misspelt(Exception):
    """The JSON is spelt in another way than ours, by a later release or by another program."""


def is_list(place: Place) -> bool:
    """Say whether a map is a list of files: digest -> paths or names."""
    return place == ("manifest",) or (len(place), *place[::2]) in ((2, "fixity"), (3, "versions", "state"))


def pieces(parts: Iterator[Part]) -> Iterator[bytes]:
    """Yield the bytes of an inventory as they are made."""
    here: list[str] = []
    empty = True  # the map at ``here`` has no entry yet
    yield b"{"
    for place, entries in parts:
        while tuple(here) != place[: len(here)]:
            yield _closing(here, empty)
            empty = False
            here.pop()
        for key in place[len(here) :]:
            yield _opening(here, empty) + msgspec.json.encode(key) + b": {"
            here.append(key)
            empty = True
        if entries:
            yield _opening(here, empty) + _spelt(entries, b"\n" + b" " * len(here))
            empty = False
    while here:
        yield _closing(here, empty)
        empty = False
        here.pop()
    yield b"}\n" if empty else b"\n}\n"


_listed = msgspec.json.Decoder(Listed).decode


class _Lines:
    """A file line by line, or up to a mark."""

    def __init__(self, file: BinaryIO) -> None:
        file.seek(0)
        self._file, self._held, self._at, self._before = file, b"", 0, 0

    def line(self) -> bytes:
        """Return the next line without its end."""
        while (end := self._held.find(b"\n", self._at)) < 0:
            if not self._more():
                if not self._held:
                    raise Misspelt
                end = len(self._held)
                break
        line, self._at = self._held[self._at : end], end + 1
        return line

    def until(self, end: bytes, cut: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield what stands up to the line that begins ``end``, in pieces that end with a ``cut`` but for its comma.

        Each with where it stands in the file.  Then stand before the last line of ``end``.
        """
        while (stop := self._held.find(end, self._at)) < 0:
            last = self._held.rfind(cut, self._at)
            if last >= 0:
                yield self._piece(last + len(cut) - 2)
                self._at += 2
            if not self._more():
                raise Misspelt
        yield self._piece(stop + end.rindex(b"\n"))
        self._at += 1

    def _piece(self, stop: int) -> tuple[int, bytes]:
        start, self._at = self._at, stop
        return self._before + start, self._held[start:stop]

    def _more(self) -> bool:
        more = self._file.read(CHUNK)
        self._before += self._at
        self._held, self._at = self._held[self._at :] + more, 0
        return bool(more)


Spans = dict[Place, list[tuple[int, int]]]  # of each list of files where its pieces stand: start, length


def ours(file: BinaryIO, wanted: Callable[[Place], bool], spans: Spans | None = None) -> Iterator[Part]:
    """Yield the parts of JSON that is spelt as ours is: a line for each key, brace and item, the depth as indent.

    No line ends within a text (JSON escapes it), so what begins a line is structure.  ``spans`` is told where the lists
    of files stand, which ``span`` then reads without the rest.
    """
    lines = _Lines(file)
    if lines.line() != b"{":
        raise Misspelt
    place: list[str] = []
    while True:
        line = lines.line()
        depth = len(line) - len(line.lstrip(b" "))
        line = line[depth:].removesuffix(b",")
        if depth != len(place) + (line != b"}"):
            raise Misspelt
        if line == b"}":
            if not place:
                return
            place.pop()
        elif line.endswith((b": {", b": {}")):
            key, _, rest = line.rpartition(b": ")
            place.append(msgspec.json.decode(key, type=str))
            if rest == b"{}":
                yield Part(tuple(place), {})
                place.pop()
            elif is_list(tuple(place)):
                here = tuple(place)
                is_wanted, known = wanted(here), [] if spans is None else spans.setdefault(here, [])
                for start, text in _entries(lines, len(place)):
                    known.append((start, len(text)))
                    if is_wanted:
                        yield Part(here, _listed(b"{%b}" % text))
        else:
            yield Part(tuple(place), msgspec.json.decode(b"{%b}" % line, type=dict[str, Any]))


def span(file: BinaryIO, start: int, length: int) -> Listed:
    """Return the entries of a list of files that stand there."""
    file.seek(start)
    return _listed(b"{%b}" % file.read(length))


def _entries(lines: _Lines, depth: int) -> Iterator[tuple[int, bytes]]:
    indent = b"\n" + b" " * depth
    for start, text in lines.until(indent + b" ]" + indent + b"}", indent + b" ],\n"):
        if b"[]" + indent + b"}" in text:  # a list that ends with an empty one, which we do not make, goes on behind it
            raise Misspelt
        yield start, text


def foreign(file: BinaryIO, wanted: Callable[[Place], bool]) -> Iterator[Part]:
    """Yield the parts of an inventory that is spelt otherwise, which is read whole; Damaged when it is none."""
    try:
        file.seek(0)
        whole = msgspec.json.decode(file.read(), type=dict[str, Any])
        yield from _walked((), whole, wanted)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Damaged("An inventory is damaged.") from error


def _walked(place: Place, tree: dict[str, Any], wanted: Callable[[Place], bool]) -> Iterator[Part]:
    for key, value in tree.items():
        if not isinstance(value, dict):
            yield Part(place, {key: value})
        elif is_list((*place, key)):
            if wanted((*place, key)):
                yield Part((*place, key), msgspec.convert(value, Listed))
        elif value:
            yield from _walked((*place, key), value, wanted)
        else:
            yield Part((*place, key), {})


def _opening(here: list[str], empty: bool) -> bytes:
    return (b"\n" if empty else b",\n") + b" " * (len(here) + 1)


def _closing(here: list[str], empty: bool) -> bytes:
    return b"}" if empty else b"\n" + b" " * len(here) + b"}"


def _spelt(entries: Mapping[str, Any], line: bytes) -> bytes:
    """Return entries as JSON with an indent of 1, without the braces; ``line`` begins a line of their map."""
    whole = msgspec.json.format(msgspec.json.encode(entries), indent=1)
    return whole[3:-2].replace(b"\n", line)
