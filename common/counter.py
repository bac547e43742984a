"""Ids that never come twice, each mode (``file``, ``upload_job``, ...) counted for itself."""

from peewee import BigIntegerField, CharField

from . import orm


class Counter(orm.Model):
    """The next id of each mode (``file``, ``upload_job``, ...)."""

    mode = CharField(max_length=64, primary_key=True)
    next = BigIntegerField()


def allocate(mode: str, count: int = 1) -> int:
    """Take ``count`` consecutive ids of ``mode`` and return the first; the very first is 1, and none comes twice.

    Inside a caller's transaction the counter stays locked until that ends, so keep it short.
    """
    if count < 1:
        raise ValueError("at least one id has to be taken")
    with orm.transaction():
        return int(orm.rows(_TAKE, mode, count, count)[0][0])


_TAKE = (
    'INSERT INTO counter (mode, "next") VALUES (?, 1 + CAST(? AS BIGINT)) ON CONFLICT (mode) '
    'DO UPDATE SET "next" = counter."next" + excluded."next" - 1 RETURNING "next" - CAST(? AS BIGINT)'
)


def reserve_beyond(mode: str, id: int) -> None:
    """See to it that ``allocate`` never gives ``id``, which somebody else chose; inside the caller's transaction.

    The counter stays locked until that ends, so whoever allocates and drafts a pack in one transaction is seen by it.
    """
    orm.execute(_BEYOND, mode, id + 1)


_BEYOND = (
    'INSERT INTO counter (mode, "next") VALUES (?, ?) ON CONFLICT (mode) DO UPDATE SET "next" = '
    'CASE WHEN counter."next" < excluded."next" THEN excluded."next" ELSE counter."next" END'
)


def is_id(number: int) -> bool:
    """Tell whether ``number`` can be an id at all: positive, 63 bits."""
    return 0 < number < 1 << 63
