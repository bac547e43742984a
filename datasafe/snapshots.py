"""Versions that were opened a moment ago, with their zip laid out: what makes the next answer begin at once.

An inventory of 5,000 files takes 20 ms to read and check.  An entry is good as long as the object's inventory and
sidecar are the very files that it was read from.
"""

import threading
from collections import OrderedDict
from typing import NamedTuple

from ..common import memory
from .dataset import DatasetStore, Signature
from .loi import Loi
from .snapshot import Snapshot
from .zipstream import StoredZip

MAX_FILES = 100_000  # of all entries together: about 25 MiB


class Opened(NamedTuple):
    """A version, and the zip that it is served as."""

    snapshot: Snapshot
    zip: StoredZip
    etag: str


class Snapshots:
    """The versions of ``store`` that were asked for last; for all threads of a process."""

    def __init__(self, store: DatasetStore, max_files: int = MAX_FILES) -> None:
        """Hold versions of together ``max_files`` files at most."""
        self._store, self._max_files, self._files = store, max_files, 0
        self._lock, self._opening = threading.Lock(), threading.Lock()
        self._held: OrderedDict[tuple[Loi, int | None], tuple[Signature, Opened]] = OrderedDict()

    def open(self, loi: Loi, version: int | None = None) -> Opened:
        """Open a version (default: the newest), as ``DatasetStore.open`` does."""
        signature = self._store.signature(loi)  # before the reading: what changes meanwhile makes the entry stale
        found = self._found((loi, version), signature)
        if found is not None:
            return found
        with self._opening:  # one at a time: to open a version takes more memory than to have it
            found = self._found((loi, version), signature)
            if found is None:
                snapshot = self._store.open(loi, version)
                found = Opened(snapshot, snapshot.zip(), snapshot.etag)
                self._keep((loi, version), signature, found)
        return found

    def forget(self, loi: Loi) -> None:
        """Let go of the versions of a dataset that is about to change."""
        with self._lock:
            for key in [key for key in self._held if key[0] == loi]:
                self._drop(key)
        memory.trim()

    def _found(self, key: tuple[Loi, int | None], signature: Signature) -> Opened | None:
        with self._lock:
            found = self._held.get(key)
            if not found or found[0] != signature:
                return None
            self._held.move_to_end(key)
            return found[1]

    def _keep(self, key: tuple[Loi, int | None], signature: Signature, opened: Opened) -> None:
        with self._lock:
            self._drop(key)
            self._held[key] = signature, opened
            self._files += len(opened.snapshot)
            while self._files > self._max_files and len(self._held) > 1:
                self._drop(next(iter(self._held)))

    def _drop(self, key: tuple[Loi, int | None]) -> None:
        old = self._held.pop(key, None)
        if old:
            self._files -= len(old[1].snapshot)
