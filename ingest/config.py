"""What ingest can be told: ``config/ingest.ini`` or ``PACIFICA_<SECTION>_<KEY>``."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from ..common.config import Bytes, Reader, Seconds, Shared, at_least, key, one_of
from ..common.sections import Auth, Neighbours, Policy

HASHES = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512")


@dataclass(frozen=True, kw_only=True)
class Ingest:
    """[ingest]: bundles on their way in."""

    auth_header: str = key("X-Http-Authed-User", env="INGEST_AUTH_HEADER")  # Pacifica's name of auth.header
    default_user: str = key("root", env="INGEST_DEFAULT_USER")  # Pacifica's name of auth.default_user
    transfer_size: Bytes = key(4 << 20, env="TRANSFER_SIZE")  # Pacifica's; we choose our own pieces
    volume_path: Path = key(Path("/tmp"), env="VOLUME_PATH")  # the spool, with a remote archive only
    max_bytes: Bytes = key(100 << 30, kind=at_least(Bytes, 1))  # larger bodies get 413 before a byte is read
    max_unfinished_bytes: Bytes = key(1 << 40, kind=at_least(Bytes, 0))  # of one user's uploads under way; 0: no limit
    max_members: int = key(1_000_000, kind=at_least(int, 1))
    max_name_bytes: int = key(4096, kind=at_least(int, 1))  # of a member's whole path
    max_metadata_bytes: Bytes = key(1 << 30, kind=at_least(Bytes, 1))
    hashtype: str = key("sha1", kind=one_of(*HASHES))  # computed while the bytes arrive, before anything is declared
    idle_seconds: Seconds = key(600.0, kind=at_least(Seconds, 1))  # RECEIVING without a byte for so long: FAILED
    tus_expire_seconds: Seconds = key(86400.0, kind=at_least(Seconds, 1))  # the same for resumable uploads
    remember_days: float = key(7.0, kind=at_least(float, 0))  # Idempotency-Keys, and how resumable uploads ended
    keep_failed_days: float = key(7.0, kind=at_least(float, 0))  # of faults of ours, for `retry`
    keep_sent_hours: float = key(
        24.0, kind=at_least(float, 0)
    )  # what a remote archive has of them, for `retry --failed`
    move_roots: tuple[str, ...] = key(())  # POST /move takes files from below these folders only


@dataclass(frozen=True, kw_only=True)
class UniqueId:
    """[uniqueid]: where ids come from; empty is the embedded counter."""

    url: str = key("", env="UNIQUEID_URL", secret=True)


@dataclass(frozen=True, kw_only=True)
class ArchiveInterface:
    """[archiveinterface]: where archived bytes go; empty is the volume of [archive]."""

    url: str = key("", env="ARCHIVEINTERFACE_URL", secret=True)


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """[metadata]: where the catalogue is; empty is the embedded one."""

    ingest_url: str = key("", env="METADATA_INGEST_URL", secret=True)


@dataclass(frozen=True, kw_only=True)
class Notifications:
    """[notifications]: a webhook that is told of each archived job, as Pacifica's metadata tells its notifications."""

    url: str = key("", env="NOTIFICATIONS_URL", secret=True)
    disabled: bool = key(False, env="NOTIFICATIONS_DISABLED")
    timeout_seconds: Seconds = key(10.0, kind=at_least(Seconds, 0.1))  # to connect, and for each answer
    retry_seconds: Seconds = key(2.0, kind=at_least(Seconds, 0.01))  # doubles each time, up to 300


@dataclass(frozen=True, kw_only=True)
class Settings(Shared):
    """Everything ingest reads."""

    ingest: Ingest = field(default_factory=Ingest)
    uniqueid: UniqueId = field(default_factory=UniqueId)
    policy: Policy = field(default_factory=Policy)
    archiveinterface: ArchiveInterface = field(default_factory=ArchiveInterface)
    metadata: Metadata = field(default_factory=Metadata)
    notifications: Notifications = field(default_factory=Notifications)
    neighbours: Neighbours = field(default_factory=Neighbours)

    @property
    def notifies(self) -> bool:
        """Whether a webhook is told of archived jobs; an external metadata service tells its own."""
        return bool(self.notifications.url) and not self.notifications.disabled and not self.metadata.ingest_url

    def __post_init__(self) -> None:
        """Let Pacifica's names of two keys set [auth], unless [auth] itself says something."""
        auth, usual = self.auth, Auth()
        if auth.header == usual.header:
            auth = replace(auth, header=self.ingest.auth_header)
        if auth.default_user == usual.default_user:
            auth = replace(auth, default_user=self.ingest.default_user)
        object.__setattr__(self, "auth", auth)
        if self.archiveinterface.url.startswith(("http:", "https:")):  # the volume is then nothing but a spool
            object.__setattr__(self, "archive", replace(self.archive, path=self.ingest.volume_path))


settings = Reader(Settings, "ingest")
