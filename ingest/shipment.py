"""What lies in a remote archive on behalf of a job that is not over."""

from functools import lru_cache

import peewee

from ..common import orm
from ..common.remote import RemoteArchive
from .config import Settings

SENDING, SOUND = "SENDING", "SOUND"
TAKING_BACK = "TAKING_BACK"  # to be deleted there
WATCHED = "WATCHED"  # deleted, but a PUT of it may still be under way
LAST = "LAST"  # to be deleted once more, and forgotten
TO_DELETE = (TAKING_BACK, LAST)


class Shipped(orm.Model):
    """One file: announced before it is sent, SOUND once read back, gone with its job's success or its own deletion."""

    id = peewee.BigIntegerField(primary_key=True)  # the file's
    job = peewee.BigIntegerField(index=True)
    attempt = peewee.IntegerField()
    state = peewee.CharField(max_length=12)


@lru_cache(maxsize=8)
def archive_of(settings: Settings) -> RemoteArchive:
    """Return the remote archive that ``settings`` name, with its connections."""
    return RemoteArchive(settings.archiveinterface.url, settings.neighbours)
