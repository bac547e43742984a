"""Packs for tests: drafted, published, and files put one by one."""

import hashlib

from pacifica.common import draft, ledger, orm
from pacifica.common.pack import PackReader
from pacifica.common.spool import receive
from pacifica.common.volume import new_name


def no_fence():
    pass


def file_rows(first, count, **fields):
    about = {"header": 512, "hashtype": "sha1", "hashsum": "0" * 40, "subdir": "a/b", "mimetype": "text/plain"} | fields
    for id in range(first, first + count):
        yield (
            id, (id - first) * 1024 + 512, 300, about["header"], about["hashtype"], about["hashsum"], about["subdir"],
            f"file{id}", about["mimetype"], 1.5, 2.5,
        )  # fmt: skip


def drafted(job, attempt=1, first=1, count=3, name=None):
    return draft.begin_pack(name or new_name(), "bundle", job, attempt, first, count, 9999, "ann")


def archived(job, first=1, count=3):
    pack = drafted(job, first=first, count=count)
    draft.add_files(pack, file_rows(first, count), no_fence)
    with orm.transaction():
        draft.publish(pack)
    return pack


def held():
    return sorted(row[0] for row in orm.rows("SELECT id FROM archivedfile"))


def put(volume, id, data):
    spooled = volume.spool / new_name()
    source = iter([data, b""])

    def fill(view):
        piece = next(source)
        view[: len(piece)] = piece
        return len(piece)

    received = receive(fill, spooled)
    hashsum = hashlib.sha1(data).hexdigest()
    facts = {"hashtype": "sha1", "hashsum": hashsum, "mtime": 3.5, "name": "x", "owner": "ann"}
    return draft.put_file(volume, spooled, received, id, **facts)


def content(volume, id):
    found = ledger.find(id)
    with PackReader(volume, found.pack) as reader:
        return b"".join(reader.read(found.offset, found.size))
