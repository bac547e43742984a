"""Slugs of data objects: given by people, or made of the slug of the process and the id; each is one object's alone."""

import re
import uuid
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

import peewee

from ..common import orm
from ..common.batch import batches
from ..common.errors import BadRequest

_FORM = re.compile(r"[a-zA-Z0-9_-]{1,100}", re.ASCII)


def free(slug: str | None) -> str | None:
    """Return ``slug``; BadRequest when it has another form, or another object has it."""
    if slug is not None and not _FORM.fullmatch(slug):
        raise BadRequest("slug must be 1 to 100 letters, digits, - and _.", key="slug")
    if slug is not None and _held([slug]):
        raise _taken(slug)
    return slug


def automatic(wanted: Iterable[tuple[int, str]], given: Collection[str] = ()) -> dict[int, str]:
    """Return a slug for each (id, slug of the process): ``<process>-<id>``, longer where somebody has taken that.

    ``given`` are those that others get in the same transaction.
    """
    made = {id: f"{process}-{id}" for id, process in wanted}
    taken = {*given, *_held(made.values())}
    return {id: f"{slug}-{uuid.uuid4().hex}" if slug in taken else slug for id, slug in made.items()}


@contextmanager
def alone(*slugs: str | None) -> Iterator[None]:
    """Turn what the database says of a slug that another took meanwhile into BadRequest."""
    try:
        yield
    except peewee.IntegrityError as error:
        given = [slug for slug in slugs if slug is not None]
        if not given or "slug" not in str(error):
            raise
        raise _taken(given[0]) if len(given) == 1 else BadRequest("One of the slugs is taken.") from error


def _held(slugs: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for some in batches(slugs, 500):
        marks = ", ".join("?" * len(some))
        found |= {slug for (slug,) in orm.rows(f"SELECT slug FROM data WHERE slug IN ({marks})", *some)}
    return found


def _taken(slug: str) -> BadRequest:
    return BadRequest(f"The slug {slug} is taken.", slug=slug)
