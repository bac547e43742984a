"""A file of this host that the archive is asked to take away: put under its id, then removed from its folder."""

from collections.abc import Sequence
from contextlib import closing

from ..common.archive import LocalArchive
from ..common.interface import Incoming
from ..common.source import SourceChanged, open_source, remove


def move(archive: LocalArchive, id: int, path: str, roots: Sequence[str], owner: str) -> None:
    """Archive the file ``path``, from below one of ``roots``, under ``id`` and remove it.

    Errors as of ``source.open_source`` and ``Archive.put``; SourceChanged, with nothing archived, when somebody writes
    to it meanwhile.  A file that took its name after it was read stays.
    """
    root = archive.volume.root
    with closing(open_source(path, roots, root)) as source:

        def fill(view: memoryview) -> int:
            count = source.readinto(view)
            if not count:
                source.require_unchanged()
            return count

        found = source.identity
        mtime = found.mtime_ns / 1e9
        archive.put(id, Incoming(fill=fill, length=found.size, mtime=mtime, owner=owner))
    if not remove(path, roots, root, found, f"{id}.moved"):
        raise SourceChanged("Another file has its name by now and stays; what was read is archived.")
