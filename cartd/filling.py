"""From a posted selection to a cart: the ledger is asked in bulk, and must agree with what was declared."""

import logging
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from ..common import ledger, orm
from ..common.auth import Principal
from ..common.catalog import may_read
from ..common.errors import ChecksumMismatch, Damaged, NotFound, ServiceError
from ..common.pack import PackReader, hasher
from ..common.state import describe
from ..common.volume import Volume
from .orm import Cart, File
from .selection import Selection

BATCH = 4000  # entries held at a time: some 1 KB each
FILE_COLUMNS = ("cart", "file_name", "bundle_path", "hash_type", "hash_value", "status", "error")

log = logging.getLogger(__name__)

Readable = Callable[[Iterable[tuple[int, str, int | None]]], set[int]]  # ``catalog.readable_files`` of who asks


def fill(cart: Cart, selection: Selection, readable: Readable) -> bool:
    """Store the selection as the files of ``cart``, and tell whether every digest could be compared with the ledger's.

    False: some are declared in an algorithm that the ledger does not hold (status ``waiting``), so that their bytes
    have to be read.  Raises NotFound for an id that is not there or not ``readable``, ChecksumMismatch for a digest
    that is not the file's, Damaged for a file that is known to be; each names the first such file.
    """
    compared, total = True, 0
    entries = iter(selection)
    while batch := list(islice(entries, BATCH)):
        held = ledger.vouched(wanted.id for wanted in batch)
        allowed = readable(file[:3] for file in held.values())
        rows = []
        for wanted in batch:
            if wanted.id not in allowed:
                raise NotFound(f"File {wanted.id} is not in the archive.", file_id=wanted.id, file=wanted.path)
            file = held[wanted.id]
            same_type = agrees(file, *wanted[1:])
            compared &= same_type
            total += file.size
            rows.append((cart.id, *wanted, "staged" if same_type else "waiting", ""))
        _store(cart, rows)
    cart.progress(files_total=len(selection), bytes_total=total)
    return compared


def enlist(cart: Cart, selection: Selection, readable: Readable) -> None:
    """Store the selection as files that are to be fetched from a remote archive.

    What the catalogue here knows must be ``readable``, else NotFound; the rest is the archive's to judge.
    """
    entries = iter(selection)
    while batch := list(islice(entries, BATCH)):
        known = list(ledger.owners(wanted.id for wanted in batch))
        for id in sorted({id for id, _, _ in known} - readable(known)):
            raise NotFound(f"File {id} is not in the archive.", file_id=id)
        _store(cart, [(cart.id, *wanted, "waiting", "") for wanted in batch])
    cart.progress(files_total=len(selection))


def verify(cart: Cart, volume: Volume) -> None:
    """Compare each waiting file of ``cart`` with the ledger, or hash it with the declared algorithm.

    From then on its row says what the ledger says.  Errors as of ``fill``.
    """
    after = 0
    chosen = (File.cart == cart.id) & (File.status == "waiting")
    while batch := list(File.select().where(chosen & (File.id > after)).order_by(File.id).limit(BATCH)):
        after = batch[-1].id
        found = ledger.locate([file.file_name for file in batch])
        for file in batch:
            held = found.get(file.file_name)
            if held is None:
                text = f"File {file.file_name} is not in the archive."
                raise NotFound(text, file_id=file.file_name, file=file.bundle_path)
            if not agrees(held, file.bundle_path, file.hash_type, file.hash_value):
                cart.heed()
                _hash(held, file, volume)
        with orm.transaction():
            cart.fence()
            for file in batch:
                held = found[file.file_name]
                here = File.update(status="staged", hash_type=held.hashtype, hash_value=held.hashsum)
                here.where(File.id == file.id).execute()
    total = orm.rows(
        "SELECT coalesce(sum(a.size), 0) FROM file f JOIN archivedfile a ON a.id = f.file_name WHERE f.cart_id = ?",
        cart.id,
    )
    cart.progress(bytes_total=int(total[0][0]))


def agrees(held: ledger.Located | ledger.Vouched, path: str, hashtype: str, hashsum: str) -> bool:
    """Tell whether declared and held digest are of one algorithm; ChecksumMismatch when they are and differ."""
    if held.verdict == ledger.DAMAGED:
        raise Damaged(f"File {held.id} is damaged in the archive.", file=path, file_id=held.id)
    if hashtype != held.hashtype:
        return False
    if hashsum != held.hashsum:
        raise mismatch(path, held.id)
    return True


def mismatch(path: str, file_id: int) -> ServiceError:
    """The error of a file whose content is not what the selection declares, in the words that clients know."""
    text = "Failed to pull with error: File hash does not match provided hash"
    return ChecksumMismatch(f"Failed to pull file({text})", file=path, file_id=file_id)


def adopted(cart: Cart, principal: Principal) -> bool:
    """Give a cart of an earlier version, which knew no owners, to who asks for it and may read every file of it."""
    if cart.owner:
        return False
    ids = [id for (id,) in orm.rows("SELECT file_name FROM file WHERE cart_id = ?", cart.id)]
    if not may_read(principal, ids).issuperset(ids):
        return False
    return bool(orm.execute("UPDATE cart SET owner = ? WHERE id = ? AND owner = ''", principal.name, cart.id))


def abandon(cart: Cart, error: Exception) -> None:
    """End a cart whose POST could not fill it, as far as the database lets us; the sweeper ends what is left."""
    log.info("cart %s failed: %s", cart.id, describe(error)[0])
    try:
        cart.failed(error)
    except ServiceError as trouble:  # deleted meanwhile, or the database is away
        log.warning("cart %s: that it failed could not be written: %s", cart.id, trouble)


def _store(cart: Cart, rows: list[tuple[Any, ...]]) -> None:
    with orm.transaction():
        cart.fence()
        orm.insert_rows(File, FILE_COLUMNS, rows)


def _hash(held: ledger.Located, file: File, volume: Volume) -> None:
    """Read a file and hold it against the declared digest."""
    digest = hasher(file.hash_type)()
    with PackReader(volume, held.pack) as reader:
        for piece in reader.read(held.offset, held.size):
            digest.update(piece)
    if digest.hexdigest() != file.hash_value:
        raise mismatch(file.bundle_path, file.file_name)
