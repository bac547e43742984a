"""What of an uploaded dataset was held before: a warning with the answer."""

from collections.abc import Iterator, Sequence

from ..common.catalog import Reader
from ..common.entry import prefix
from ..common.repetition import COUNTED, originals
from .extract import Taken
from .faults import Fault
from .manifest import NAME as MANIFEST

SHOWN = 3  # files named in the warning


def repeated(files: Sequence[Taken], dataset: int, reader: Reader) -> Iterator[Fault]:
    """Yield a warning where contents that are new in ``dataset`` (id) are held elsewhere, and ``reader`` may read them.

    Compared are SHA-512 and MD5: other datasets by both, files of transactions by the one that they were declared with.
    """
    fresh = [file for file in files if file.stored and file.size and file.name != MANIFEST]
    sums = [("sha512", file.sha512) for file in fresh] + [("md5", file.md5) for file in fresh]
    same: dict[int, str] = {}
    for position, original in originals([prefix(digest) or -1 for _, digest in sums], reader, besides=dataset):
        if original.is_equal(*sums[position]):
            if len(same) == COUNTED:
                break
            told = original.told
            same.setdefault(position % len(fresh), told["dataset"] if "dataset" in told else f"file {told['file']}")
    if same:
        named = "; ".join(f"{fresh[at].name}: {what}" for at, what in sorted(same.items())[:SHOWN])
        count = f"{len(same)}{' or more' if len(same) == COUNTED else ''} of {len(fresh)} new files"
        yield Fault("same_content", f"Same content as held already, {count}: {named}")
