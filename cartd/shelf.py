"""A cart's own folder on the disk, and the readers of the packs that its plans name."""

import os
import shutil
from contextlib import suppress
from functools import partial
from pathlib import Path

from xxhash import xxh3_128_hexdigest

from ..common.archive import make_archive
from ..common.pace import Eager
from ..common.pack import PackReader, forget
from ..common.volume import Volume, make_directory
from .config import PACIFICAS, Settings
from .orm import Cart
from .run import ReaderFactory


class Shelf:
    """Where carts keep what is theirs: ``<two hex>/<cart's id>``; never named after anything a user chose."""

    def __init__(self, volume: Volume, root: Path | None = None) -> None:
        """Keep the folders in ``root`` (default: ``carts`` of ``volume``); archived packs are read from ``volume``."""
        self.volume, self._root = volume, root

    @classmethod
    def of(cls, settings: Settings, volume: Volume) -> "Shelf":
        """Return the shelf that the configuration names; BadConfiguration for an archive that nobody can read."""
        if not settings.archiveinterface.is_remote:
            make_archive(settings.archiveinterface.url, volume)  # for what it says of a wrong url
        elsewhere = settings.archiveinterface.is_remote and settings.cartd.volume_path != PACIFICAS
        return cls(volume, settings.cartd.volume_path.absolute() / "carts" if elsewhere else None)

    @property
    def root(self) -> Path:
        """The folder of all carts' folders."""
        return self.volume.carts if self._root is None else make_directory(self._root, 0o700)

    def free(self) -> int:
        """Return the bytes that the disk of the carts would still give us."""
        facts = os.statvfs(self.root)
        return facts.f_bavail * facts.f_frsize

    def home(self, cart_id: int) -> Path:
        """Return the folder of a cart, which may not be there yet."""
        return self.root / f"{cart_id % 256:02x}" / str(cart_id)

    def staged(self, cart_id: int) -> Volume:
        """Return the packs of a cart's own: copies of a remote archive's files."""
        return Volume(self.home(cart_id), 0)

    def readers(self, cart: Cart, pace: Eager | None = None) -> ReaderFactory:
        """Return what opens the packs that ``cart`` is served from; ``pace`` is that of one download (None: ours)."""
        if cart.staged:
            return partial(StagedReader, self.staged(cart.id), pace=pace)
        return partial(PackReader, self.volume, pace=pace)

    def clear(self, cart_id: int) -> bool:
        """Remove the folder of a cart; a download under way keeps the plan that it has mapped.

        False when it is still there: somebody has put a file into it meanwhile, or the disk does not let it go.
        """
        home = self.home(cart_id)
        shutil.rmtree(home, ignore_errors=True)
        return not home.exists()


def by_age(home: Path, pattern: str) -> list[Path]:
    """Return the files of a cart's folder whose names match, the oldest first; what others remove is as old as can be.

    None where the folder is gone.
    """
    with suppress(FileNotFoundError):
        return sorted(home.glob(pattern), key=_changed)
    return []


def _changed(path: Path) -> float:
    with suppress(FileNotFoundError):
        return path.stat().st_mtime
    return 0.0


def pack_name(cart_id: int, row: int) -> str:
    """Return the name of the pack that a cart's file is pulled into: the same for every attempt."""
    return xxh3_128_hexdigest(b"%d/%d" % (cart_id, row))


class StagedReader(PackReader):
    """A reader of a copy, which the process does not keep open: its space must come back when the cart goes."""

    def __init__(self, volume: Volume, name: str, pace: Eager | None = None) -> None:
        """Open pack ``name`` of a cart's own volume."""
        super().__init__(volume, name, pace)
        self._place = volume, name

    def close(self) -> None:
        """Close the file, unless another download reads it too."""
        super().close()
        forget(*self._place)
