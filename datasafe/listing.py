"""What is held, told in pieces: the datasets that a principal may see, page by page, and the files of a version."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ..common import orm
from ..common.errors import BadRequest
from .inventory import Author
from .loi import LONGEST
from .snapshot import Snapshot

MOST = 1000  # datasets of one page

_PREFIX = re.compile(rf"[0-9a-z./-]{{0,{LONGEST}}}")  # what a dataset's LOI is made of, and nothing that LIKE knows


class Listed(NamedTuple):
    """One LOI that was given; ``version`` is its newest, 0 where there is none; ``stored`` is epoch seconds UTC."""

    loi: str
    owner: str
    version: int
    files: int
    bytes: int
    stored: float | None


class Page(NamedTuple):
    """Some datasets, in the order in which their LOIs were given; ``next`` is the ``after`` of the page behind."""

    datasets: list[Listed]
    next: int | None


def page(prefix: str = "", after: int = 0, limit: int = MOST, owner: str | None = None) -> Page:
    """Return datasets whose LOI begins with ``prefix``, of ``owner`` alone or (None) of everybody.

    BadRequest for a prefix that no LOI has, and for numbers that are none of a page.
    """
    if not _PREFIX.fullmatch(prefix):
        raise BadRequest("No dataset's LOI begins like this.", parameter="prefix")
    if after < 0 or not 1 <= limit <= MOST:
        raise BadRequest(f"after is not negative, limit is 1 to {MOST}.", parameter="limit")
    whose, values = ("", []) if owner is None else ("AND owner = ? ", [owner])
    found = orm.rows(
        'SELECT id, loi, owner, version, files, "size", stored FROM dataset '
        f"WHERE id > ? AND loi LIKE ? {whose}ORDER BY id LIMIT ?",
        after, f"{prefix}%", *values, limit + 1,
    )  # fmt: skip
    shown = found[:limit]
    return Page([Listed(*row[1:]) for row in shown], shown[-1][0] if len(found) > limit else None)


def files(snapshot: Snapshot) -> Iterator[Mapping[str, Any]]:
    """Yield name, size, SHA-512 and MD5 of each file of a version, MANIFEST.yaml first."""
    for (name, size, sha512), md5 in zip(snapshot.rows(), snapshot.sums(), strict=True):
        yield {"name": name, "size": size, "sha512": sha512, "md5": md5}


def version(number: int, created: str, author: Author) -> Mapping[str, Any]:
    """Return a version as it is told to clients."""
    return {"version": number, "created": created, "author": author.name, "message": author.message}
