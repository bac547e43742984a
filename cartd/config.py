"""What cartd can be told: ``config/cartd.ini`` or ``PACIFICA_<SECTION>_<KEY>``."""

from dataclasses import dataclass, field
from pathlib import Path

from ..common.config import Bytes, Reader, Seconds, Shared, at_least, key

PACIFICAS = Path("/tmp")  # its default of volume_path


@dataclass(frozen=True, kw_only=True)
class Cartd:
    """[cartd]: carts and what they may hold."""

    transfer_size: Bytes = key(4 << 20, env="TRANSFER_SIZE")  # Pacifica's; we choose our own pieces
    volume_path: Path = key(PACIFICAS, env="VOLUME_PATH")  # of staged files; at its default they lie in [archive]
    lru_buffer_time: Seconds = key(0.0, env="LRU_BUFFER_TIME")  # a cart used within it is never evicted
    lru_purge: bool = key(True, env="LRU_PURGE")
    bundle_task: bool = key(False, env="BUNDLE_TASK")  # `bundle` of a cart that does not say
    max_files: int = key(1_000_000, kind=at_least(int, 1))  # of one cart
    max_json_bytes: Bytes = key(512 << 20, kind=at_least(Bytes, 1))  # of a POST: 413 beyond
    pulls: int = key(8, kind=at_least(int, 1))  # files of one cart that are fetched from a remote archive at once
    stage_days: float = key(7.0, kind=at_least(float, 0))  # a file that is still on tape then fails its cart
    expire_days: float = key(180.0, kind=at_least(float, 0))  # an unused cart is purged then; 0: never


@dataclass(frozen=True, kw_only=True)
class ArchiveInterface:
    """[archiveinterface]: where archived bytes are; empty is the volume of [archive]."""

    url: str = key("", env="ARCHIVE_INTERFACE_URL", secret=True)  # not ingest's name: so it is in Pacifica
    timeout: Seconds = key(60.0)  # of a remote archive that is silent

    @property
    def is_remote(self) -> bool:
        """Tell whether files have to be fetched before they can be served."""
        return self.url.partition(":")[0].lower() in ("http", "https")


@dataclass(frozen=True, kw_only=True)
class Settings(Shared):
    """Everything cartd reads."""

    cartd: Cartd = field(default_factory=Cartd)
    archiveinterface: ArchiveInterface = field(default_factory=ArchiveInterface)


settings = Reader(Settings, "cartd")
