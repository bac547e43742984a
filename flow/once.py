"""A creation that is sent again under its Idempotency-Key creates nothing more (docs/flow.md#many-at-once).

What the first one made is written in the commit that makes it, so that an answer that was lost changes nothing; of two
at once the second waits for the first one's commit.
"""

import hashlib
import json
from collections.abc import Callable
from typing import Any

from ..common import orm
from ..common.idempotency import KeyReused
from .orm import Creation

DAYS = 7.0  # how long a key is remembered
BATCH = 1000


def once(owner: str, key: str | None, document: Any, create: Callable[[], list[int]]) -> tuple[list[int], bool]:
    """Return what ``create`` made, or what it made the first time; and whether it did so now.

    KeyReused where ``key`` stands for another document.
    """
    if key is None:
        return create(), True
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    with orm.transaction():
        claimed = orm.rows(
            f"INSERT INTO creation (owner, key, digest, made, created) VALUES (?, ?, ?, '[]', {orm.now().sql})"
            " ON CONFLICT (owner, key) DO NOTHING RETURNING id",
            owner, key, digest,
        )  # fmt: skip
        if claimed:
            made = create()
            orm.execute("UPDATE creation SET made = ? WHERE id = ?", json.dumps(made), claimed[0][0])
            return made, True
    earlier = Creation.get((Creation.owner == owner) & (Creation.key == key))
    if earlier.digest != digest:
        raise KeyReused(key=key)
    return json.loads(earlier.made), False


def forget() -> int:
    """Remove the keys that are older than DAYS."""
    old = Creation.select(Creation.id).where(Creation.created < orm.clock() - DAYS * 86400).limit(BATCH)
    found = [row.id for row in old]
    return int(Creation.delete().where(Creation.id.in_(found)).execute()) if found else 0
