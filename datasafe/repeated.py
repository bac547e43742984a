"""What of an uploaded dataset was held before: a warning with the answer."""

from array import array
from collections.abc import Iterator

from ..common.catalog import Reader
from ..common.entry import prefix
from ..common.repetition import COUNTED, originals
from .faults import Fault
from .manifest import NAME as MANIFEST
from .taken import TakenFiles

SHOWN = 3  # files named in the warning


def repeated(files: TakenFiles, dataset: int, reader: Reader) -> Iterator[Fault]:
    """Yield a warning where contents that are new in ``dataset`` (id) are held elsewhere, and ``reader`` may read them.

    Compared are SHA-512 and MD5: other datasets by both, files of transactions by the one that they were declared with.
    """
    fresh = array("I", (row for row in range(len(files)) if files.stored[row] and files.sizes[row]))
    fresh = array("I", (row for row in fresh if files.name(row) != MANIFEST))
    digests = [("sha512", files.sha512), ("md5", files.md5)]
    prefixes = array("q", (prefix(digest(row).hex()) or -1 for _, digest in digests for row in fresh))
    same: dict[int, str] = {}
    for position, original in originals(prefixes, reader, besides=dataset):
        kind, digest = digests[position // len(fresh)]
        if original.is_equal(kind, digest(fresh[position % len(fresh)]).hex()):
            if len(same) == COUNTED:
                break
            told = original.told
            same.setdefault(position % len(fresh), told["dataset"] if "dataset" in told else f"file {told['file']}")
    if same:
        named = "; ".join(f"{files.name(fresh[at])}: {what}" for at, what in sorted(same.items())[:SHOWN])
        count = f"{len(same)}{' or more' if len(same) == COUNTED else ''} of {len(fresh)} new files"
        yield Fault("same_content", f"Same content as held already, {count}: {named}")
