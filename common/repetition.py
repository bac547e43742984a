"""Content that is held already, looked up by digest while it comes once more: a warning, never a refusal.

Only what the uploader may read is told of.  Content that came a moment before, and is not entered yet, is missed.
"""

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from peewee import BigIntegerField, TextField

from . import ledger, orm
from .batch import batches
from .catalog import Reader, readable_transactions
from .entry import DATASET, places

EXAMPLES = 5  # told of one upload
COUNTED = 1000  # contents of one upload; who has found these asks for no more
STEP = 2500  # digests, or places, of one query: who stops early has paid for no more, in time or in memory
EACH = 50  # places of one content that are looked at, from the newest, until one may be read
OLDER = 50_000  # such places of one upload, all contents together, besides the newest of each
SECONDS = 5.0  # after which no further step is begun: digests lie all over an index that may be larger than memory

NOTHING: dict[str, Any] = {"files": 0, "examples": []}


class Original(NamedTuple):
    """Where content is held; its digest is known of a file, of a dataset it is one of many."""

    told: dict[str, Any]
    hashtype: str | None
    hashsum: str | None

    def is_equal(self, hashtype: str, hashsum: str) -> bool:
        """Tell whether this is content of that digest, and not only one that begins alike."""
        return self.hashsum is None or (self.hashtype, self.hashsum) == (hashtype, hashsum)


class SameContent(orm.Model):
    """What of a job's files was held before, as JSON: ``{"files": number, "examples": [...]}``."""

    job = BigIntegerField(primary_key=True)
    told = TextField()


def originals(prefixes: Sequence[int], reader: Reader, besides: int | None = None) -> Iterator[tuple[int, Original]]:
    """Yield (position in ``prefixes``, the newest place that ``reader`` may read) for what is held, as it is asked for.

    Negative ones are no digest.  ``besides`` is a dataset (id) that does not count: the one that is being stored.
    """
    left, until = OLDER, time.monotonic() + SECONDS
    for start in range(0, len(prefixes), STEP):
        if start and time.monotonic() >= until:
            return
        some = prefixes[start : start + STEP]
        newest = places({one for one in some if one >= 0}, 1)
        known = _known(newest, reader, besides)
        hidden = sorted({prefix for prefix, _ in newest} - known.keys())
        for batch in batches(hidden, STEP // EACH):
            if left <= 0:
                break
            older = places(batch, EACH)
            left -= len(older)
            known |= _known(older, reader, besides)
        for position, prefix in enumerate(some, start):
            if prefix in known:
                yield position, known[prefix]


def _known(found: list[tuple[int, int]], reader: Reader, besides: int | None) -> dict[int, Original]:
    """Return the newest of the places ``found`` that ``reader`` may read, by prefix."""
    held = _readable({place for _, place in found if place != -(besides or 0)}, reader) if found else {}
    return {prefix: held[place] for prefix, place in sorted(found) if place in held}  # the last one stays


def _readable(found: set[int], reader: Reader) -> dict[int, Original]:
    """Return what ``reader`` may read of places, by place."""
    everything = reader.administrator or reader.service
    files = ledger.vouched(place for place in found if place > 0)
    transactions = readable_transactions(reader, {one.transaction for one in files.values() if one.transaction})
    held = {
        id: Original({"file": id, "transaction": one.transaction}, one.hashtype, one.hashsum)
        for id, one in files.items()
        if everything or one.transaction in transactions or (one.owner and one.owner == reader.name)
    }
    subjects = json.dumps([-place for place in found if place < 0])
    for subject, name, owner in orm.rows(_DATASETS_POSTGRES if orm.is_postgres() else _DATASETS_SQLITE, subjects):
        if everything or owner == reader.name:
            held[-subject] = Original({"dataset": name}, None, None)
    return held


_DATASETS = f"SELECT DISTINCT e.subject, e.name, e.owner FROM entry e WHERE e.kind = '{DATASET}' AND e.subject IN "
_DATASETS_SQLITE = f"{_DATASETS}(SELECT value FROM json_each(?))"
_DATASETS_POSTGRES = f"{_DATASETS}(SELECT CAST(w AS BIGINT) FROM jsonb_array_elements_text(CAST(? AS JSONB)) AS j (w))"


def note(job: int, told: dict[str, Any]) -> None:
    """Keep what is told of ``job``; in the transaction that archives it."""
    if told["files"]:
        SameContent.insert(job=job, told=json.dumps(told)).execute()


def of_job(job: int) -> dict[str, Any]:
    """Return what was told of ``job``."""
    found = orm.rows("SELECT told FROM samecontent WHERE job = ?", job)
    return dict(json.loads(found[0][0])) if found else NOTHING
