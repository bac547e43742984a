"""What datasafe can be told: ``config/datasafe.ini`` or ``PACIFICA_<SECTION>_<KEY>``."""

from dataclasses import dataclass, field

from ..common.config import Bytes, Policy, Reader, Shared, at_least, key


@dataclass(frozen=True, kw_only=True)
class Datasafe:
    """[datasafe]: archived files and datasets."""

    issuers: tuple[str, ...] = key(())  # whose LOIs ("42.<issuer>/ds/...") are kept here; none: any well-formed one
    max_bytes: Bytes = key(100 << 30, kind=at_least(Bytes, 1))  # larger bodies get 413 before a byte is read
    max_members: int = key(1_000_000, kind=at_least(int, 1))  # of one dataset's ZIP
    move_roots: tuple[str, ...] = key(())  # PATCH /archive/<id> takes files from below these folders only


@dataclass(frozen=True, kw_only=True)
class Audit:
    """[audit]: the re-reading of everything that is held."""

    period_days: float = key(30.0, kind=at_least(float, 0))  # every byte is read again within it; 0: no audit
    rate: Bytes = key(50_000_000, kind=at_least(Bytes, 1))  # bytes a second, at most


@dataclass(frozen=True, kw_only=True)
class Settings(Shared):
    """Everything datasafe reads."""

    datasafe: Datasafe = field(default_factory=Datasafe)
    audit: Audit = field(default_factory=Audit)
    policy: Policy = field(default_factory=Policy)


settings = Reader(Settings, "datasafe")
