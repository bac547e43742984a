"""What flow can be told: ``config/flow.ini`` or ``PACIFICA_<SECTION>_<KEY>``."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from ..common.config import Bytes, Reader, Seconds, Shared, at_least, key, one_of
from ..common.values import parse


def _assignments(pattern: str, said: str) -> Callable[[str], tuple[str, ...]]:
    """Make the kind of a comma list whose parts fit ``pattern``; ``said`` tells people how they look."""

    def read(text: str) -> tuple[str, ...]:
        parts = parse(tuple[str, ...], text)
        if not all(re.fullmatch(pattern, part) for part in parts):
            raise ValueError(f"{said}, separated by commas")
        return parts

    return read


@dataclass(frozen=True, kw_only=True)
class Flow:
    """[flow]: process definitions and the programs they run."""

    process_dirs: tuple[str, ...] = key(())  # folders of process definitions (YAML), registered by an administrator
    executor: str = key("bubblewrap", kind=one_of("bubblewrap", "local", "null"))
    program_user: str = key("nobody")  # whom programs run as when the worker is root
    cores: int = key(1, kind=at_least(int, 1))  # what a process gets that asks for nothing
    memory_bytes: Bytes = key(4 << 30, kind=at_least(Bytes, 1 << 20))
    max_cores: int = key(64, kind=at_least(int, 1))  # what a process may ask for
    max_memory_bytes: Bytes = key(64 << 30, kind=at_least(Bytes, 1 << 20))
    max_storage_bytes: Bytes = key(1 << 40, kind=at_least(Bytes, 1 << 30))
    resources: tuple[str, ...] = key(
        (), kind=_assignments(r"[\w-]+\.(cores|memory|storage)=[1-9]\d{0,8}", "SLUG.memory=MB")
    )
    wall_seconds: Seconds = key(7 * 86400.0, kind=at_least(Seconds, 1))  # then the program is killed
    interactive_cpu_seconds: Seconds = key(30.0, kind=at_least(Seconds, 1))  # CPU of scheduling class interactive
    max_file_bytes: Bytes = key(100 << 30, kind=at_least(Bytes, 1))  # of one file that a program writes
    max_processes: int = key(1024, kind=at_least(int, 1))  # of one program
    max_log_bytes: Bytes = key(16 << 20, kind=at_least(Bytes, 1))  # kept of a program's output
    max_streams: int = key(8, kind=at_least(int, 1))  # of events, of one web process at once; each holds a thread
    heartbeat_seconds: Seconds = key(5.0, kind=at_least(Seconds, 0.1))  # of silence, then a stream sends a comment
    environment: tuple[str, ...] = key((), kind=_assignments(r"(?!RE_)[A-Za-z_]\w*=.*", "NAME=VALUE"))  # of programs
    host_url: str = key("localhost")  # what programs and the filter get_url are told
    filter_modules: tuple[str, ...] = key(())  # each has a dictionary ``filters`` for templates; later ones win
    trusted_sources: tuple[str, ...] = key(("/ingest", "/cartd", "/datasafe", "/flow"))  # whose events fire triggers
    list_rows: int = key(1000, kind=at_least(int, 1))  # of a list over HTTP
    reuse: bool = key(True)  # answer from an equal earlier run where the process allows it


@dataclass(frozen=True, kw_only=True)
class ArchiveInterface:
    """[archiveinterface]: where archived bytes are; empty is the volume of [archive]."""

    url: str = key("", env="ARCHIVEINTERFACE_URL", secret=True)


@dataclass(frozen=True, kw_only=True)
class Settings(Shared):
    """Everything flow reads."""

    flow: Flow = field(default_factory=Flow)
    archiveinterface: ArchiveInterface = field(default_factory=ArchiveInterface)


settings = Reader(Settings, "flow")
