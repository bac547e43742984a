"""A cart of a remote archive: its files asked for, waited for while they are on tape, pulled, and checked.

Each pass does what can be done now, many files at a time; each file's row says how far it is, so that a pass that was
killed or failed is followed by one that does only the rest.
"""

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Any, TypeVar

from ..common import orm
from ..common.errors import ServiceError
from ..common.interface import Held
from ..common.remote import RemoteArchive
from . import part
from .config import Cartd
from .orm import Cart, File
from .pull import Wish, pull
from .shelf import Shelf, pack_name
from .space import admit

NOTE_SECONDS = 1.0  # between two commits about what has come
POLL_MIN_SECONDS, POLL_MAX_SECONDS = 1.0, 60.0  # a file on tape is asked for again after a quarter of the time waited

T = TypeVar("T", bound=tuple[Any, ...])
R = TypeVar("R")


class StillOnTape(ServiceError):
    """The archive did not bring the file to disk in time."""

    code = "still_on_tape"


def stage(cart: Cart, shelf: Shelf, archive: RemoteArchive, settings: Cartd, min_free: int) -> bool:
    """Bring every file of ``cart`` here that can be had now; False when some are still on tape, with the time to ask.

    A failure that no other attempt will mend is raised at once; one that may pass after the other files had their turn,
    unless many fail in a row.  It counts as a failed attempt only where nothing came at all.
    """
    stopped = threading.Event()
    with ThreadPoolExecutor(settings.pulls, thread_name_prefix="pull") as pool:
        try:
            work = _Pass(cart, shelf, archive, pool, settings.pulls, stopped)
            work.look()
            waiting = work.waiting()
            if waiting:
                needed = max(sum(wish.size for wish in waiting) - part.room_of(shelf.staged(cart.id)), 0)
                purge, buffer = settings.lru_purge, settings.lru_buffer_time
                admit(cart, shelf, needed, min_free=min_free, purge=purge, buffer_seconds=buffer)
                work.pull(waiting)
        finally:
            stopped.set()
            pool.shutdown(cancel_futures=True)
    if work.failures:
        if work.came:
            cart.progress(tries=1)
        raise work.failures[0]
    on_tape = File.select().where((File.cart == cart.id) & (File.status == "staging")).count()
    if on_tape:
        _postpone(cart, on_tape)
        return False
    part.discard(shelf.staged(cart.id))
    cart.progress(bytes_total=_total(cart), pending_bytes=0)
    return True


class _Pass:
    """One pass over the files that are not here yet."""

    def __init__(
        self,
        cart: Cart,
        shelf: Shelf,
        archive: RemoteArchive,
        pool: ThreadPoolExecutor,
        width: int,
        stopped: threading.Event,
    ) -> None:
        self.failures: list[ServiceError] = []  # those that may pass
        self.came = 0
        self._cart, self._archive, self._pool, self._width = cart, archive, pool, width
        self._volume, self._stopped = shelf.staged(cart.id), stopped

    def look(self) -> None:
        """Learn size and place of each file that is not known to be on disk, and ask for those on tape."""
        sql = "SELECT id, file_name, status FROM file WHERE cart_id = ? AND status <> 'staged' AND "
        sql += "(size IS NULL OR status = 'staging') ORDER BY id"
        rows = orm.rows(sql, self._cart.id)

        def ask(row: tuple[Any, ...]) -> Held:
            held = self._archive.stat(row[1])
            if not held.on_disk and row[2] != "staging":
                self._archive.stage(row[1])
                held = self._archive.stat(row[1])  # a quick archive has it there by now
            return held

        self._each(rows, ask, self._note_place)

    def waiting(self) -> list[Wish]:
        """Return the files that can be pulled."""
        columns = "id, file_name, bundle_path, hash_type, hash_value, size, mtime"
        sql = f"SELECT {columns} FROM file WHERE cart_id = ? AND status = 'waiting' AND size IS NOT NULL ORDER BY id"
        return [Wish._make(row) for row in orm.rows(sql, self._cart.id)]

    def pull(self, wishes: list[Wish]) -> None:
        """Pull the files; what has come is noted every second."""
        left = sum(wish.size for wish in wishes)

        def get(wish: Wish) -> None:
            pull(self._archive, self._volume, pack_name(self._cart.id, wish.row), wish, self._stopped)

        def note(done: list[tuple[Wish, None]]) -> None:
            nonlocal left
            if not done:
                return
            left -= sum(wish.size for wish, _ in done)
            self.came += len(done)
            with orm.transaction():
                # what has come counts for eviction also where the cart fails later
                here = self._cart.bytes_total + sum(wish.size for wish, _ in done)
                self._cart.progress(pending_bytes=max(left - part.room_of(self._volume), 0), bytes_total=here)
                for wish, _ in done:
                    orm.execute("UPDATE file SET status = 'staged', error = '' WHERE id = ?", wish.row)

        self._each(wishes, get, note)

    def _note_place(self, found: list[tuple[tuple[Any, ...], Held]]) -> None:
        if not found:
            return
        with orm.transaction():
            self._cart.fence()
            for (row, *_), held in found:
                status = "waiting" if held.on_disk else "staging"
                sql = "UPDATE file SET size = ?, mtime = ?, status = ? WHERE id = ?"
                orm.execute(sql, held.size, held.mtime, status, row)

    def _each(self, items: Iterable[T], action: Callable[[T], R], note: Callable[[list[tuple[T, R]]], None]) -> None:
        """Run ``action`` on the pool for each item, whose first part is its file's row; ``note`` what came of it."""
        rest = iter(items)
        running: dict[Future[R], T] = {}
        done: list[tuple[T, R]] = []
        noted, in_a_row = time.monotonic(), 0
        while True:
            running |= {self._pool.submit(action, item): item for item in islice(rest, 2 * self._width - len(running))}
            if not running:
                break
            for future in wait(running, NOTE_SECONDS, FIRST_COMPLETED).done:
                item = running.pop(future)
                try:
                    done.append((item, future.result()))
                    in_a_row = 0
                except FileNotFoundError:
                    self._cart.heed()  # deleted, and its folder went with it
                    raise
                except ServiceError as error:
                    File.update(error=error.message).where(File.id == item[0]).execute()
                    self.failures.append(error)
                    in_a_row += 1
                    if not error.retryable or in_a_row > 2 * self._width:
                        note(done)
                        raise
            if time.monotonic() - noted >= NOTE_SECONDS:
                self._cart.heed()
                note(done)
                done, noted = [], time.monotonic()
        self._cart.heed()
        note(done)


def _postpone(cart: Cart, on_tape: int) -> None:
    """Give the lease back and have the sweeper ring when it is time to ask again; that is no failed attempt."""
    waited = orm.clock() - cart.created
    if cart.deadline is not None and orm.clock() > cart.deadline:
        raise StillOnTape(f"{on_tape} files were not brought from tape in time.", files=on_tape)
    delay = min(max(waited / 4, POLL_MIN_SECONDS), POLL_MAX_SECONDS)
    with orm.transaction():
        cart.progress(tries=0, not_before=orm.clock() + delay)


def _total(cart: Cart) -> int:
    return int(orm.rows("SELECT coalesce(sum(size), 0) FROM file WHERE cart_id = ?", cart.id)[0][0])
