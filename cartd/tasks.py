"""The Celery side of cartd: ``celery -A pacifica.cartd.tasks worker``."""

from functools import lru_cache

from ..common import worker
from ..common.config import Neighbours
from ..common.remote import RemoteArchive
from ..common.timekeeper import timekeeper
from ..common.volume import open_volume
from .config import settings
from .filling import verify
from .orm import Cart, State
from .purging import clear, end_silent, purge
from .ready import make_ready
from .shelf import Shelf
from .staging import stage as fetch

app = worker.make_app("cartd", settings)


@app.task(name="pacifica.cartd.stage")
def stage(cart_id: int, attempt: int) -> None:
    """Bring a cart's files within reach, hold each against its digest, and make the cart ready."""
    with worker.working(Cart, cart_id, attempt, settings().worker) as cart:
        here, told = shelf(), settings()
        remote = told.archiveinterface.is_remote
        if cart.staged != remote:  # taken over, or the site has moved its archive
            cart.progress(staged=remote)
        if not remote:
            verify(cart, here.volume)
        elif not fetch(cart, here, archive(), told.cartd, told.archive.min_free_bytes):
            return
        make_ready(cart, here)


def shelf() -> Shelf:
    """The folders of carts, where the configuration in force puts them."""
    return Shelf.of(settings(), open_volume(settings().archive))


def archive() -> RemoteArchive:
    """The remote archive of the configuration in force; one for the process, whose connections it keeps."""
    told = settings()
    return _archive(
        told.archiveinterface.url, told.archiveinterface.timeout, told.cartd.pulls * told.celery.concurrency
    )


_archive = lru_cache(maxsize=4)(
    lambda url, timeout, connections: RemoteArchive(url, Neighbours(timeout=timeout, tries=1), connections=connections)
)


def purge_unused() -> int:
    """Purge what nobody has used for ``expire_days``; 0 keeps carts for ever."""
    days = settings().cartd.expire_days
    return purge(shelf(), days * 86400) if days else 0


def clear_deleted() -> int:
    """Clear the folders of carts that were deleted while somebody read, or by somebody who died over it."""
    return clear(shelf())


app.duties += [
    timekeeper(Cart, [State.FILLING, State.STAGING], settings),
    worker.ringer(Cart, "pacifica.cartd", "pacifica.cartd.stage", [State.STAGING]),
    end_silent,
    purge_unused,
    clear_deleted,
]
