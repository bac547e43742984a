"""A version as a server tells of it: names, sizes and digests, none of which is believed before it is looked at."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from ..common.errors import ChecksumMismatch, NeighbourAway
from .exchange import TRIES, BadAnswer, Exchange, pieces, wait
from .inventory import Author
from .loi import Loi
from .manifest import NAME
from .paths import NameLimits, judge, twins

_DIGESTS = {"sha512": re.compile(r"[0-9a-f]{128}"), "md5": re.compile(r"(?:[0-9a-f]{32})?")}


class HeldVersion:
    """Version ``number`` of ``loi`` behind ``exchange``; made of the server's list of its files."""

    def __init__(self, exchange: Exchange, loi: Loi, told: Any) -> None:
        """Take the list ``told``; BadAnswer for one that no datasafe makes, or whose names lead elsewhere."""
        self._exchange, self.loi = exchange, loi
        try:
            self.number = int(told["version"])
            self.listed: list[Mapping[str, Any]] = [_checked(one) for one in told["files"]]
        except (KeyError, TypeError, ValueError) as error:
            raise BadAnswer() from error
        names = [one["name"] for one in self.listed]
        if any(judge(name, NameLimits()) for name in names) or any(twins(names)) or NAME not in names:
            raise BadAnswer("The server tells of files whose names no dataset has.")

    @property
    def names(self) -> list[str]:
        """The files: MANIFEST.yaml first."""
        return [one["name"] for one in self.listed]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(one["size"] for one in self.listed)

    @cached_property
    def digests(self) -> Mapping[str, str]:
        """Name -> SHA-512."""
        return {one["name"]: one["sha512"] for one in self.listed}

    @property
    def md5(self) -> Mapping[str, str]:
        """Name -> MD5."""
        return {one["name"]: one["md5"] for one in self.listed}

    @cached_property
    def author(self) -> Author:
        """Who stored the version, and why."""
        told = self._exchange.json(str(self.loi), versions="")
        try:
            found = next(one for one in told["versions"] if one["version"] == self.number)
            return Author(name=str(found["author"]), message=str(found["message"]))
        except (KeyError, TypeError, StopIteration) as error:
            raise BadAnswer() from error

    def read(self, name: str, /) -> Iterator[bytes]:
        """Yield the bytes of a file, going on where an answer broke off; ChecksumMismatch at the end of wrong ones."""
        sha512, size = hashlib.sha512(), next(one["size"] for one in self.listed if one["name"] == name)
        query = {"file": name, "version": str(self.number)}
        at, attempt = 0, 1
        while at < size:
            begun = at
            try:
                with self._exchange.ask("GET", str(self.loi), params=query, headers=since(at), stream=True) as answer:
                    if at and answer.status_code != 206:
                        raise BadAnswer("The server does not go on where it broke off.")
                    for piece in pieces(answer):
                        at += len(piece)
                        sha512.update(piece)
                        yield piece
            except NeighbourAway:
                attempt = 1 if at > begun else attempt + 1
                if attempt > TRIES:
                    raise
                wait(attempt)
        if at != size or sha512.hexdigest() != self.digests[name]:
            raise ChecksumMismatch("A file is not what its digest says.", file=name)


def since(at: int, etag: str = "") -> dict[str, str]:
    """Return the headers that ask for the bytes from ``at`` on, of just this representation."""
    headers = {"Accept-Encoding": "identity"}
    if at:
        headers["Range"] = f"bytes={at}-"
        if etag:
            headers["If-Range"] = etag
    return headers


def _checked(one: Any) -> Mapping[str, Any]:
    name, size = one["name"], one["size"]
    if not isinstance(name, str) or type(size) is not int or size < 0:
        raise ValueError("a name is text, a size a number")
    for kind, grammar in _DIGESTS.items():
        if not grammar.fullmatch(one[kind]):
            raise ValueError("a digest is lower-case hex")
    return {"name": name, "size": size, "sha512": one["sha512"], "md5": one["md5"]}
