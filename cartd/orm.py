"""The cart: a user's selection of archived files, and Pacifica's tables for it."""

from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar

import peewee

from ..common import orm, schema
from ..common.outbox import announce
from ..common.state import Work
from ..common.tables import COMMON
from .takeover import take_over

SOURCE = "/cartd"  # of this service's events


class State(StrEnum):
    """Where a cart stands; clients see ``staging`` for the first two."""

    FILLING = "FILLING"  # the POST is storing its selection
    STAGING = "STAGING"  # a worker has to read bytes before it can be ready
    READY = "READY"
    ERROR = "ERROR"
    DELETED = "DELETED"


class Cart(Work):
    """One POST of a selection under ``cart_uid``; the newest that is not deleted is the one that clients see.

    ``created`` names the download that has no name of its own.  ``exception`` says why a cart is in ERROR.
    ``updated`` is the time of the last move or download, which "unused" is counted from.
    """

    KIND = "cart"
    MOVES: ClassVar[Mapping[str, set[str]]] = {
        State.FILLING: {State.STAGING, State.READY, State.ERROR, State.DELETED},
        State.STAGING: {State.READY, State.ERROR, State.DELETED},
        State.READY: {State.STAGING, State.ERROR, State.DELETED},
        State.ERROR: {State.STAGING, State.DELETED},
    }
    FINAL = frozenset({State.DELETED})
    FAILED = State.ERROR
    CANCELLED = State.DELETED
    CLAIMABLE = frozenset({State.STAGING})

    cart_uid = peewee.CharField(255, index=True)
    bundle = peewee.BooleanField(default=False)  # asked for by old clients; a plan needs no bundling
    files_total = peewee.IntegerField(default=0)
    bytes_total = peewee.BigIntegerField(default=0)  # of the files' content
    tar_bytes = peewee.BigIntegerField(null=True)  # of the download without a name of its own, once READY
    staged = peewee.BooleanField(default=False)  # its files are copies, in its folder, of a remote archive's
    pending_bytes = peewee.BigIntegerField(default=0)  # room promised for what is still to come, while STAGING
    read_until = peewee.DoubleField(default=0.0)  # until then a download may be under way: no eviction
    cleared = peewee.BooleanField(default=False)  # DELETED, and its folder is gone too

    class Meta:
        indexes = ((("state", "cleared"), False),)

    def failed(self, error: Exception) -> None:
        """Enter ERROR, with the reason that HEAD will show, and announce it."""
        with orm.transaction():
            self.fail(error)
            data = {"cart": self.cart_uid, "owner": self.owner, "message": self.exception, "code": self.code}
            announce("pacifica.cart.failed", f"carts/{self.id}", data, source=SOURCE)


class File(orm.Model):
    """One file of a cart: ``file_name`` is its archive id, ``bundle_path`` its path in the tar.

    ``status`` is ``waiting`` until its bytes are known to be what the digest says, then ``staged``; ``staging`` while a
    remote archive fetches it from tape; ``error`` when its copy was found damaged.  ``size`` and ``mtime`` are null
    until a remote archive has told them; with the volume of ours the ledger knows them.
    """

    cart = peewee.BigIntegerField(column_name="cart_id", index=True)
    file_name = peewee.BigIntegerField()
    bundle_path = peewee.TextField()
    hash_type = peewee.CharField()
    hash_value = peewee.CharField()
    status = peewee.CharField(default="staged")
    error = peewee.TextField(default="")
    size = peewee.BigIntegerField(null=True)
    mtime = peewee.DoubleField(null=True)


class CartSystem(schema.System):
    """The version of cartd's schema, in Pacifica's layout."""


def _nothing() -> None:
    """Do nothing: the last step takes the tables of every older version as they are."""


SCHEMA = schema.Schema(
    system=CartSystem,
    models=[Cart, File],
    version=(3, 0),
    steps={
        schema.NONE: _nothing,  # tables of a cartd that had no version yet
        (0, 1): _nothing,
        (1, 0): _nothing,  # it added cart.bundle
        (2, 0): lambda: take_over(Cart, File),  # it added carttasks
    },
    requires=(COMMON,),
)


LIVE = (State.FILLING, State.STAGING, State.READY, State.ERROR)


def carts_of(uid: str) -> list[Cart]:
    """Return the carts under ``uid`` that were not deleted, the newest first."""
    return list(Cart.select().where((Cart.cart_uid == uid) & (Cart.state != State.DELETED)).order_by(Cart.id.desc()))
