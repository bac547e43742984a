"""Digests that a client declares of a body: Content-Digest and Repr-Digest (RFC 9530), Content-MD5 (RFC 1864).

In a request without ranges the content is the whole representation, so that all three speak of the same bytes.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import BadRequest, ChecksumMismatch

ALGORITHMS = {"sha-256": "sha256", "sha-512": "sha512"}  # the others of the registry are too weak to prove anything
MD5 = "md5"

# RFC 9651: a dictionary whose values are items or inner lists of items
_KEY = re.compile(r"[a-z*][a-z0-9_.*-]*")
_BYTES = r":[A-Za-z0-9+/=]*:"
_STRING = r'"(?:[ !#-\[\]-~]|\\["\\])*"'
_TOKEN = r"[A-Za-z*][!#$%&'*+.^_`|~:/0-9A-Za-z-]*"
_BARE = rf"(?:{_BYTES}|{_STRING}|\?[01]|@?-?[0-9]+(?:\.[0-9]+)?|{_TOKEN})"
_PARAMETERS = rf"(?:; *[a-z*][a-z0-9_.*-]*(?:={_BARE})?)*"
_ITEM = re.compile(rf"({_BARE}){_PARAMETERS}")
_LIST = re.compile(rf"\( *(?:{_BARE}{_PARAMETERS}(?: +{_BARE}{_PARAMETERS})*)? *\){_PARAMETERS}")
_COMMA = re.compile(r"[ \t]*,[ \t]*")


@dataclass(frozen=True)
class Declared:
    """One digest: the header that declared it, hashlib's name of the algorithm, the digest's bytes."""

    header: str
    algorithm: str
    digest: bytes


class Integrity:
    """What was declared of one body; ``update`` it with every byte, then ``check``."""

    def __init__(self, declared: Iterable[Declared] = ()) -> None:
        """Hold a body to ``declared``; to nothing when that is empty."""
        self.declared = tuple(declared)
        self._hashes: dict[str, Any] = {
            each.algorithm: hashlib.new(each.algorithm, usedforsecurity=False) for each in self.declared
        }

    def __bool__(self) -> bool:
        """Tell whether anything was declared."""
        return bool(self.declared)

    def update(self, view: memoryview | bytes) -> None:
        """Take the next bytes."""
        for each in self._hashes.values():
            each.update(view)

    def check(self) -> None:
        """Raise ChecksumMismatch for the first declaration that does not hold of the bytes taken."""
        for each in self.declared:
            received = self._hashes[each.algorithm].digest()
            if received != each.digest:
                raise ChecksumMismatch(
                    header=each.header, algorithm=each.algorithm, declared=each.digest.hex(), received=received.hex()
                )

    def known(self) -> dict[str, str]:
        """Return what was declared, as lower-case hex by algorithm."""
        return {each.algorithm: each.digest.hex() for each in self.declared}


def declared(headers: Mapping[str, str]) -> Integrity:
    """Return what ``headers`` (any case that the mapping understands) declare of the body that follows.

    Algorithms that we do not know are ignored, as RFC 9530 wants it; BadRequest for a header that cannot be read.
    """
    found: list[Declared] = []
    for header in ("Content-Digest", "Repr-Digest"):
        if (text := headers.get(header)) is not None:
            found += _dictionary(header, text)
    if (text := headers.get("Content-MD5")) is not None:
        found.append(Declared("Content-MD5", MD5, decode("Content-MD5", MD5, text.strip())))
    return Integrity(found)


def decode(header: str, algorithm: str, text: str) -> bytes:
    """Return the digest that ``text`` says in base64; BadRequest unless it has the length of ``algorithm``'s."""
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != hashlib.new(algorithm, usedforsecurity=False).digest_size:
        raise BadRequest(f"{header}: expected the {algorithm} digest in base64.", header=header)
    return digest


def _dictionary(header: str, text: str) -> list[Declared]:
    found: dict[str, Declared] = {}  # of a key given twice the last counts (RFC 9651 §4.2.2)
    at, text = 0, text.strip(" \t")
    while True:
        key = _KEY.match(text, at)
        if key is None:
            raise BadRequest(f"{header} is not a dictionary of RFC 9651.", header=header)
        at = key.end()
        value = ""
        if text[at : at + 1] == "=":
            item = _ITEM.match(text, at + 1) or _LIST.match(text, at + 1)
            if item is None:
                raise BadRequest(f"{header} is not a dictionary of RFC 9651.", header=header)
            at = item.end()
            value = (item[1] if item.re is _ITEM else "") or ""
        if key[0] in ALGORITHMS:
            algorithm = ALGORITHMS[key[0]]
            if not re.fullmatch(_BYTES, value):
                raise BadRequest(f"{header}: expected {key[0]}=:<base64>:.", header=header)
            found[key[0]] = Declared(header, algorithm, decode(header, algorithm, value[1:-1]))
        if at == len(text):
            return list(found.values())
        comma = _COMMA.match(text, at)
        if comma is None or comma.end() == len(text):
            raise BadRequest(f"{header} is not a dictionary of RFC 9651.", header=header)
        at = comma.end()
