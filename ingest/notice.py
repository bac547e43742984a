"""What is owed to the configured webhook: one row a job that was archived, until its event was taken."""

import peewee

from ..common import orm


class Notice(orm.Model):
    """The event of one job that still has to be delivered; ``tries`` have failed so far."""

    job = peewee.BigIntegerField(primary_key=True)
    created = peewee.DoubleField()
    not_before = peewee.DoubleField(default=0.0, index=True)
    tries = peewee.IntegerField(default=0)
    trouble = peewee.TextField(default="")


def owe(job_id: int) -> None:
    """Note that the event of job ``job_id`` has to be delivered, in the transaction that archives it."""
    Notice.insert(job=job_id, created=orm.now()).execute()


def due() -> int | None:
    """Return the job whose event has waited longest of those that may be tried now, None when there is none."""
    found = orm.rows(f"SELECT job FROM notice WHERE not_before <= {orm.now().sql} ORDER BY not_before, job LIMIT 1")
    return int(found[0][0]) if found else None


def taken(job_id: int) -> None:
    """Forget an event that was delivered."""
    Notice.delete().where(Notice.job == job_id).execute()


def failed(job_id: int, trouble: str, seconds: float) -> None:
    """Put off every event for ``seconds``: the receiver that did not take this one will take no other either."""
    orm.execute(
        "UPDATE notice SET tries = tries + (CASE WHEN job = ? THEN 1 ELSE 0 END),"
        " trouble = CASE WHEN job = ? THEN ? ELSE trouble END,"
        f" not_before = CASE WHEN not_before > {orm.now().sql} + ? THEN not_before ELSE {orm.now().sql} + ? END",
        job_id, job_id, trouble, seconds, seconds,
    )  # fmt: skip


def tries_of(job_id: int) -> int:
    """Return how often the event of a job was tried in vain."""
    found = orm.rows("SELECT tries FROM notice WHERE job = ?", job_id)
    return int(found[0][0]) if found else 0
