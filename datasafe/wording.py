"""What is said of things, in words: of a transaction, a file, a dataset.  Entries and searches both ask here."""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from ..common import orm
from ..common.batch import batches
from ..common.words import words
from . import manifest
from .faults import Refused
from .snapshot import Snapshot

MOST = 1 << 16  # characters of what is said of one thing; what follows is not searched
MANIFEST_BYTES = 1 << 20
MOST_SAID = 200  # by a manifest
MOST_VALUE = 1000  # characters

_LEFT_OUT = ("checksums", "files.data.names", "files.metadata.name")


def of_transactions(ids: Iterable[int]) -> dict[int, set[str]]:
    """Return the words of transactions, by id: number, people, project, instrument, and everything said of them."""
    texts: dict[int, str] = {}
    for batch in batches(sorted(set(ids)), 500):
        marks = ", ".join("?" * len(batch))
        sql = f'SELECT id, owner, submitter, project, instrument, extra FROM "transaction" WHERE id IN ({marks})'
        for id, owner, submitter, project, instrument, extra in orm.rows(sql, *batch):
            more = " ".join(f"{key} {value}" for key, value in json.loads(extra).items())
            texts[id] = f"{id} {owner} {submitter} {project} {instrument} {more}"
        sql = f'SELECT "transaction", key, value FROM transactionkeyvalue WHERE "transaction" IN ({marks}) ORDER BY id'
        for id, key, value in orm.rows(sql, *batch):
            texts[id] = _more(texts.get(id, ""), key, value)
    return {id: set(words(text)) for id, text in texts.items()}


def of_files(first: int, last: int) -> dict[int, str]:
    """Return the key-values of the files from ``first`` to ``last`` as text, by id; nothing where nothing is said."""
    said: dict[int, str] = {}
    sql = "SELECT file, key, value FROM filekeyvalue WHERE file BETWEEN ? AND ? ORDER BY id"
    for file, key, value in orm.rows(sql, first, last):
        said[file] = _more(said.get(file, ""), key, value)
    return said


def of_manifest(newest: Snapshot) -> list[tuple[str, str]]:
    """Return what the manifest of a version says, as (key with dots, value), names and checksums of files left out.

    Nothing of a manifest beyond 1 MiB, whose names are all there is to it, and at most 200 of them.
    """
    if newest.content(manifest.NAME).size > MANIFEST_BYTES:
        return []
    try:
        said = _scalars(manifest.read(newest.whole(manifest.NAME)).document, "")
    except Refused:  # an earlier version took what this one does not: the rest of the dataset is found all the same
        return []
    wanted = ((key, value[:MOST_VALUE]) for key, value in said if value and not key.startswith(_LEFT_OUT))
    return list(dict.fromkeys(islice(wanted, MOST_SAID)))


def _scalars(tree: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(tree, dict):
        for name, part in tree.items():
            yield from _scalars(part, f"{key}.{name}" if key else name)
    elif isinstance(tree, list):
        for part in tree:
            yield from _scalars(part, key)
    else:
        yield key, str(tree)


def _more(text: str, key: str, value: str) -> str:
    return text if len(text) >= MOST else f"{text} {key} {value}"[:MOST]
