"""The register: which numbers were given to whom, and which datasets were deleted, as lines of text in the volume.

The database says so too; the register is there so that a database made anew gives no number twice and brings nothing
back.  One journal a series (format: ``docs/formats.md#register``).
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ..common import journal
from .loi import InvalidLoi, Series, series_named

EXTENSION = "pacifica-register"


class Register:
    """The register of the OCFL storage root ``root``; a folder of its extensions."""

    def __init__(self, root: Path) -> None:
        """Make nothing yet."""
        self.folder = root / "extensions" / EXTENSION

    def given(self, series: Series, number: int, who: str, at: float) -> None:
        """Note that ``number`` was given to ``who``; on disk when this returns."""
        journal.add(self._path(series), {"number": number, "given": who, "at": at})

    def deleted(self, series: Series, number: int, who: str, at: float, reason: str) -> None:
        """Note that ``who`` deleted dataset ``number``; on disk when this returns."""
        journal.add(self._path(series), {"number": number, "deleted": who, "at": at, "reason": reason})

    def entries(self, series: Series) -> list[dict[str, Any]]:
        """Return the entries of a series, oldest first; lines that do not check are left out."""
        return journal.entries(self._path(series))

    def damaged(self, series: Series) -> int:
        """Return how many lines of a series do not check."""
        return journal.damaged(self._path(series))

    def series(self) -> Iterator[Series]:
        """Yield every series that has entries; foreign files are passed over."""
        for path in sorted(self.folder.glob("??/*.txt")):
            try:
                yield series_named(unquote(path.stem))
            except InvalidLoi:
                continue

    def path(self, series: Series) -> str:
        """Return where the entries of a series lie, below the storage root."""
        return str(self._path(series).relative_to(self.folder.parents[1]))

    def _path(self, series: Series) -> Path:
        name = str(series)
        return self.folder / hashlib.sha256(name.encode()).hexdigest()[:2] / f"{name.replace('/', '%2f')}.txt"
