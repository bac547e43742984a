"""How much a bundle may ask for (docs/formats.md#bundle)."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a bundle may ask for; whatever goes beyond refuses the bundle."""

    max_bytes: int = 1 << 40  # of the whole bundle; asked where the body has no length of its own
    max_members: int = 1_000_000  # files and folders; metadata.txt does not count
    max_folders: int = 1_000_000  # different ones, named or implied
    max_name_bytes: int = 4096
    max_part_bytes: int = 255
    max_depth: int = 64  # parts of a name
    max_names_bytes: int = 256 << 20  # all names together: they stay in memory
    max_pax_bytes: int = 64 << 10  # of one extended header
    max_metadata_bytes: int = 1 << 30
    max_entries: int = 4_000_000  # of metadata.txt
    keep_metadata_bytes: int = 1 << 20  # a larger metadata.txt is not kept in memory but read again from the bundle

    @classmethod
    def of(cls, settings: Any) -> "Limits":
        """Return the limits that ``settings`` ([ingest]) names, at their defaults where it names none."""
        names = [name for name in cls.__dataclass_fields__ if hasattr(settings, name)]
        return cls(**{name: getattr(settings, name) for name in names})
