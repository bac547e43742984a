"""Look at, and end, a tree of processes from outside (Linux, ``/proc``)."""

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Usage:
    """What a tree of processes uses now."""

    cpu_seconds: float
    memory_bytes: int
    processes: int


def tree(root: int) -> list[int]:
    """Return ``root`` and all that descend from it, as far as their parents are alive."""
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        with contextlib.suppress(OSError):  # it ended meanwhile
            for thread in Path(f"/proc/{pid}/task").iterdir():
                todo += map(int, (thread / "children").read_text().split())
    return found


def usage(pids: list[int], limit: int | None = None) -> Usage:
    """Add up what ``pids`` use; memory counts shared pages once, precisely only where the sum comes near ``limit``."""
    cpu, memory, alive = 0.0, 0, 0
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            cpu += sum(map(int, fields[11:15])) / TICKS  # its own time and that of children it has waited for
            memory += int(fields[21]) * PAGE
            alive += 1
    if limit is not None and memory > limit:
        memory = sum(map(_proportional, pids))
    return Usage(cpu, memory, alive)


def end_orphans(group: int) -> None:
    """Kill what is left of process group ``group``, whose leader has ended and is not waited for yet."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def end_group(group: int, mark: bytes) -> None:
    """Kill process group ``group``, its descendants, and every process whose environment holds ``mark``.

    Repeats until a whole pass finds none: what is being forked cannot slip through.
    """
    for _ in range(50):
        found = {pid for pid in (*tree(group)[1:], *_marked(mark)) if pid != os.getpid()}
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not found:
            return


def _marked(mark: bytes) -> list[int]:
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with contextlib.suppress(OSError):
                if mark in (path / "environ").read_bytes():
                    found.append(int(path.name))
    return found


def _proportional(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
    return 0
