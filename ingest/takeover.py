"""Jobs of a Pacifica ingest 0.4.1: its table turned into ours in place, or read in from another database.

Every row is kept under its id, with its task, percentage, text and times.  What was over there stays so.  What was not
is FAILED here, since nobody works on it any more, and says how it is run again (docs/ingest-takeover.md).
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import peewee
from playhouse import db_url

from ..common import orm
from ..common.batch import batches
from ..common.counter import reserve_beyond
from ..common.errors import BadConfiguration, Conflict, DatabaseAway
from ..common.moment import epoch
from ..common.state import StateChange

OLD = "ingeststate_0_4"  # Pacifica's table, until it is read
PAGE = 1000
CODE = "taken_over"
UNFINISHED = (
    "This job was unfinished when its database was taken over. "
    "`pacifica-ingest-cmd retry --job_id {id} --path FILE` runs it again with its old bundle."
)
NOTE = "taken over from Pacifica's ingest"
DONE = ("ingest metadata", 100.0)
IDS = "uniqueindex"  # the table of Pacifica's uniqueid

_LOG_COLUMNS = ("kind", "row", "at", "who", "target", "attempt", "reason")


def take_over(job: type[peewee.Model], owner: str) -> None:
    """Replace Pacifica's table of jobs, of whatever version, by ``job``'s, with all rows; call it in a transaction.

    The jobs belong to ``owner``: the original knew no owners.
    """
    job.create_table(safe=True)
    if "ingeststate" not in orm.database.get_tables():
        return
    orm.execute(f"ALTER TABLE ingeststate RENAME TO {OLD}")
    _enter(job, _pages(orm.rows, OLD), owner)
    orm.execute(f"DROP TABLE {OLD}")


def read_in(url: str, job: type[peewee.Model], owner: str) -> dict[str, int]:
    """Read Pacifica's jobs, and the counters of its uniqueid, from the database at ``url``; return how many of each.

    All or nothing.  A job that was read in before is passed by; Conflict for one that is another here.
    """
    try:
        source = db_url.connect(url)
        source.connect()
    except (peewee.PeeweeException, RuntimeError, ValueError, ImportError) as error:
        raise DatabaseAway(f"The database to read from cannot be opened ({type(error).__name__}).") from error

    def rows(sql: str, *params: Any) -> list[tuple[Any, ...]]:
        text = sql if isinstance(source, peewee.SqliteDatabase) else sql.replace("?", "%s")
        return list(source.execute_sql(text, params).fetchall())

    try:
        present = {"ingeststate", IDS} & set(source.get_tables())
        if not present:
            raise BadConfiguration("The database to read from has neither Pacifica's jobs nor its ids.")
        with orm.transaction():
            jobs = _enter(job, _pages(rows, "ingeststate"), owner) if "ingeststate" in present else 0
            counters = rows(f'SELECT id, "index" FROM {IDS}') if IDS in present else []
            for mode, following in counters:
                reserve_beyond(str(mode), int(following) - 1)
    except peewee.PeeweeException as error:
        raise DatabaseAway(f"The database to read from failed ({type(error).__name__}).") from error
    finally:
        source.close()
    return {"jobs": jobs, "counters": len(counters)}


def _pages(rows: Any, table: str) -> Iterator[tuple[Any, ...]]:
    sql = (
        f"SELECT id, state, task, task_percent, exception, created, updated FROM {table}"
        f" WHERE id > ? ORDER BY id LIMIT {PAGE}"
    )
    after = -(1 << 63)
    while page := rows(sql, after):
        yield from page
        after = page[-1][0]


def _enter(job: type[peewee.Model], old: Iterable[tuple[Any, ...]], owner: str) -> int:
    entered, highest = 0, 0
    for batch in batches(old, PAGE):
        found = [_row(*each, owner=owner) for each in batch]
        known = {row.id: row for row in job.select().where(job.id.in_([row["id"] for row in found]))}
        for row in found:
            if row["id"] in known and abs(known[row["id"]].created - row["created"]) > 0.001:
                raise Conflict(f"Job {row['id']} is another one here.", job_id=row["id"])
        fresh = [row for row in found if row["id"] not in known]
        for part in batches(fresh, 50):  # SQLite bounds the number of parameters
            job.insert_many(part).execute()
        log = [("job", str(row["id"]), orm.clock(), "dbsync", row["state"], 0, NOTE) for row in fresh]
        orm.insert_rows(StateChange, _LOG_COLUMNS, log)
        entered += len(fresh)
        highest = max([highest, *(row["id"] for row in found)])
    if highest > 0:
        reserve_beyond("upload_job", highest)
    return entered


def _row(
    id: int, state: str, task: str, percent: Any, exception: str, created: Any, updated: Any, *, owner: str
) -> dict[str, Any]:
    over = state == "FAILED" or (task, float(percent)) == DONE  # the column `complete` is missing, or not to be trusted
    row = {
        "id": id,
        "task": task,
        "task_percent": float(percent),
        "exception": exception or "",
        "created": _seconds(created),
        "updated": _seconds(updated),
        "owner": owner,
        "code": CODE,
    }
    if not over:
        return row | {"state": "FAILED", "exception": exception or UNFINISHED.format(id=id)}
    return row | {"state": "FAILED" if state == "FAILED" else "ARCHIVED"}


def _seconds(moment: datetime | str) -> float:
    """Return a time of Pacifica's, UTC and without a zone, as seconds since 1970."""
    return epoch(moment) if isinstance(moment, str) else moment.replace(tzinfo=UTC).timestamp()
