"""What of a bundle was held before it came, by the digests that are entered with its files."""

from array import array
from collections.abc import Iterator
from itertools import islice
from typing import Any

from ..common.auth import named
from ..common.ledger import ARCHIVED_FILE_COLUMNS
from ..common.repetition import COUNTED, EXAMPLES, NOTHING, originals
from .config import Settings
from .declared import Bundle
from .orm import Job

Row = tuple[Any, ...]

_SIZE, _HASHTYPE, _HASHSUM, _SUBDIR, _NAME = (
    ARCHIVED_FILE_COLUMNS.index(column) for column in ("size", "hashtype", "hashsum", "subdir", "name")
)


class Digests:
    """The digests of a bundle's rows, noted while these pass on their way to the ledger: 8 bytes each."""

    def __init__(self) -> None:
        """Begin with none."""
        self._prefixes = array("q")

    def noted(self, rows: Iterator[Row]) -> Iterator[Row]:
        """Yield ``rows``; empty files all are the same, and count for nothing."""
        add = self._prefixes.append
        for row in rows:
            add(int(row[_HASHSUM][:15], 16) if row[_SIZE] else -1)  # entry.prefix, without the call
            yield row

    def repeated(self, job: Job, bundle: Bundle, settings: Settings) -> dict[str, Any]:
        """Return how many of the files' contents are held where the job's owner may read them, and the first few.

        Where they are more than ``COUNTED``, that many are told of, and ``at_least`` is true.
        """
        count = at = 0
        examples: list[dict[str, Any]] = []
        rows = bundle.rows(job.first_id)
        for position, original in originals(self._prefixes, named(job.owner, settings.auth)):
            row = next(islice(rows, position - at, None))
            at = position + 1
            if not original.is_equal(row[_HASHTYPE], row[_HASHSUM]):
                continue
            if count == COUNTED:
                return {"files": count, "at_least": True, "examples": examples}
            count += 1
            if count <= EXAMPLES:
                path = "/".join(filter(None, (row[_SUBDIR], row[_NAME])))
                examples.append({"file": row[0], "path": path, "same_as": original.told})
        return {"files": count, "examples": examples} if count else NOTHING
