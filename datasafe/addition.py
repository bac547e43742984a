"""The inventory of a dataset with one version more, made as a stream from the one before and the files that came."""

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

from ..common.batch import batches
from ..common.errors import Damaged
from ..common.moment import zulu
from .inventory import PIECE, SCHEME, TYPE, Author, Inventory
from .loi import Loi
from .spelling import Listed, Part, Place
from .taken import TakenFiles

_MANIFEST: Place = ("manifest",)
_MD5: Place = ("fixity", "md5")

Entries = Iterator[tuple[str, list[str]]]


def first(loi: Loi, files: TakenFiles, author: Author, at: float) -> Iterator[Part]:
    """Yield the inventory of a first version; ``at`` is epoch seconds UTC."""
    yield _top(loi, "v1")
    yield from _parts(_MANIFEST, files.contents("v1"))
    yield from _version("v1", files, author, at)
    yield from _parts(_MD5, files.md5s("v1"))


def advance(old: Inventory, loi: Loi, files: TakenFiles, author: Author, at: float) -> Iterator[Part]:
    """Yield the inventory with one version more, holding ``files``; ``at`` is epoch seconds UTC.

    A file that is not ``stored`` must be in ``old``.  Content that is stored again comes last in its list of paths:
    readers take the last.
    """
    head = f"v{old.head().number + 1}"
    _require(old, files)
    yield _top(loi, head)
    yield from _longer(old, _MANIFEST, lambda: files.contents(head))
    yield from (part for part in old.parts(lambda place: place[0] == "versions") if part.place[:1] == ("versions",))
    yield from _version(head, files, author, at)
    yield from _longer(old, _MD5, lambda: files.md5s(head))


def _top(loi: Loi, head: str) -> Part:
    return Part((), {"id": f"{SCHEME}{loi}", "type": TYPE, "digestAlgorithm": "sha512", "head": head})


def _version(head: str, files: TakenFiles, author: Author, at: float) -> Iterator[Part]:
    place = "versions", head
    user: dict[str, Any] = {
        "name": author.name, "address": author.address or f"urn:pacifica:user:{quote(author.name, safe='')}"
    }  # fmt: skip
    yield Part(place, {"created": zulu(at)})
    yield from _parts((*place, "state"), files.state())
    yield Part(place, {"message": author.message or "Stored."})
    yield Part((*place, "user"), user)


def _parts(place: Place, entries: Entries) -> Iterator[Part]:
    yield Part(place, {})  # which is there though it be empty
    for some in batches(entries, PIECE):
        yield Part(place, dict(some))


def _longer(old: Inventory, place: Place, fresh: Callable[[], Entries]) -> Iterator[Part]:
    """Yield a list of ``old`` and behind it what is fresh; a digest that is in both keeps its place."""
    coming = {bytes.fromhex(digest) for digest, _ in fresh()}
    both = {digest.lower() for digest, _ in old.lists(*place) if bytes.fromhex(digest) in coming} if coming else set()
    del coming  # as large as the files are many
    again: Listed = {digest: paths for digest, paths in fresh() if digest in both} if both else {}
    held = ((digest, [*paths, *again.get(digest.lower(), ())]) for digest, paths in old.lists(*place))
    yield from _parts(place, held)
    yield from _parts(place, ((digest, paths) for digest, paths in fresh() if digest not in again))


def _require(old: Inventory, files: TakenFiles) -> None:
    """Raise Damaged unless ``old`` has what is to be kept."""
    kept = files.kept()
    for digest, _ in old.lists(*_MANIFEST) if kept else ():
        kept.discard(bytes.fromhex(digest))
    if kept:
        raise Damaged("Content that should be kept is no longer in the inventory.", count=len(kept))
