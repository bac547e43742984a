"""Digests of what a cart gives out, as RFC 9530 has them: of a file what the ledger holds, of a tar what was computed.

To compute a tar's costs as much as to send it.  So it is done for who asks, while the whole is sent, and told to
everybody from then on.
"""

import hashlib
import re
import uuid
from base64 import b64encode
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from pathlib import Path

from .orm import Cart
from .plan import Plan
from .shelf import Shelf, by_age

KEPT = 4  # digests of one cart; it has one for each name that it is downloaded under
_ALGORITHMS = {"sha512": "sha-512", "sha256": "sha-256", "sha1": "sha", "md5": "md5"}  # RFC 9530 §7.2
_WANTED = re.compile(r"(?:^|,)[ \t]*sha-256[ \t]*=[ \t]*0*[1-9]")  # of Want-Repr-Digest; 0: not acceptable
_HEX = re.compile(r"[0-9a-f]{64}")


def repr_digest(hashtype: str, hashsum: str) -> dict[str, str]:
    """Return the header for a digest in hex; none where the registry does not know the algorithm."""
    if hashtype not in _ALGORITHMS:
        return {}
    return {"Repr-Digest": f"{_ALGORITHMS[hashtype]}=:{b64encode(bytes.fromhex(hashsum)).decode()}:"}


def is_wanted(header: str | None) -> bool:
    """Tell whether a Want-Repr-Digest header (RFC 9530 §4) asks for SHA-256."""
    return bool(header and _WANTED.search(header))


def of_tar(shelf: Shelf, cart: Cart, plan: Plan) -> dict[str, str]:
    """Return the header for the tar of ``plan``, where its digest was computed."""
    with suppress(FileNotFoundError):
        text = _place(shelf, cart, plan).read_text("ascii", "replace")
        if _HEX.fullmatch(text):  # else it was torn
            return repr_digest("sha256", text)
    return {}


def computed(
    pieces: Generator[bytes | memoryview, None, None], shelf: Shelf, cart: Cart, plan: Plan
) -> Iterator[bytes | memoryview]:
    """Pass on the pieces of the whole tar of ``plan``, and keep its digest once all of them went out."""
    digest = hashlib.sha256()
    with closing(pieces):
        for piece in pieces:
            digest.update(piece)
            yield piece
    place = _place(shelf, cart, plan)
    part = place.with_name(f".{uuid.uuid4().hex}")
    with suppress(FileNotFoundError):  # the cart was deleted meanwhile
        part.write_text(digest.hexdigest())
        part.replace(place)
        for old in by_age(place.parent, "*.sha-256")[:-KEPT]:
            old.unlink(missing_ok=True)


def _place(shelf: Shelf, cart: Cart, plan: Plan) -> Path:
    return shelf.home(cart.id) / f"{plan.etag}.sha-256"  # the tag is of the bytes: a plan made again has the same
