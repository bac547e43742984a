"""The end of staging: a plan on disk, the state, and the event, of which clients see all or nothing."""

import datetime
import re

from ..common import orm
from ..common.outbox import announce
from .orm import SOURCE, Cart, State
from .plan import Plan
from .plans import plan_of
from .shelf import Shelf

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,254}")


def make_ready(cart: Cart, shelf: Shelf) -> Plan:
    """Plan the download without a name of its own, and move ``cart`` to READY."""
    plan = plan_of(shelf, cart, top_folder(cart))
    data = {"cart": cart.cart_uid, "owner": cart.owner, "files": cart.files_total, "bytes": plan.size}
    with orm.transaction():
        cart.move(State.READY, tar_bytes=plan.size, deadline=None)
        announce("pacifica.cart.ready", f"carts/{cart.id}", data, source=SOURCE)
    return plan


def default_name(cart: Cart) -> str:
    """Return the file name of a download that asks for none: the cart's creation, so that its bytes never change."""
    made = datetime.datetime.fromtimestamp(cart.created, datetime.UTC)
    return made.strftime("data_%Y_%m_%d_%H_%M_%S.tar")


def top_folder(cart: Cart, filename: str | None = None) -> str:
    """Return the folder that holds everything in the tar: ``filename`` without ``.tar``.

    In a bundled cart it is the uid, as Pacifica has it, where that is a plain name.
    """
    if cart.bundle and _PLAIN.fullmatch(cart.cart_uid):
        return str(cart.cart_uid)
    return (filename or default_name(cart)).removesuffix(".tar")
