"""From an archived bundle back to the rows that its job wrote (``common.rereading``)."""

from collections.abc import Iterator

from ..common.pack import Sidecar
from ..common.rereading import Reread
from ..common.volume import Volume
from .bundle import Limits
from .declared import check
from .spooled import Spooled


def reread(volume: Volume, sidecar: Sidecar) -> Reread:
    """Scan the bundle again and return what metadata.txt says of it; BundleError when it is no longer right."""
    spooled = Spooled(volume, sidecar.pack)
    limits = Limits()
    index, _ = spooled.load(limits, "sha1")
    with spooled.pack.open("rb", buffering=0) as file:

        def read(offset: int, size: int) -> Iterator[bytes]:
            file.seek(offset)
            while size > 0 and (piece := file.read(min(size, 1 << 20))):
                size -= len(piece)
                yield piece

        bundle = check(index, read, limits)
        rows = list(bundle.rows(sidecar.first_id))
        file_key_values = list(bundle.file_key_values(sidecar.first_id))
    about = {**bundle.transaction, "key_values": bundle.key_values, "file_key_values": file_key_values}
    return Reread(rows, about)
