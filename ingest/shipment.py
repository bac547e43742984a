"""What lies in a remote archive on behalf of a job that is not over."""

import peewee

from ..common import orm

SENDING, SOUND, TAKING_BACK = "SENDING", "SOUND", "TAKING_BACK"


class Shipped(orm.Model):
    """One file: announced before it is sent, SOUND once read back, gone with its job's success or its own deletion."""

    id = peewee.BigIntegerField(primary_key=True)  # the file's
    job = peewee.BigIntegerField(index=True)
    attempt = peewee.IntegerField()
    state = peewee.CharField(max_length=12)
