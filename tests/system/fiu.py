"""Failing system calls: fiu is loaded into a process and told, while that runs, which calls shall fail, and how.

The process must be started with ``environment`` (Debian packages fiu-utils and libfiu0).
"""

import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

PLACES = ("/usr/lib/fiu", "/usr/local/lib/fiu")
LIBRARIES = ("fiu_run_preload.so", "fiu_posix_preload.so")


class Fiu:
    """Control of the processes that were started with ``environment``, and their children; pipes lie in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.prefix = folder / "fiu"
        libraries = [str(Path(place) / name) for name in LIBRARIES for place in PLACES if (Path(place) / name).exists()]
        assert len(libraries) == len(LIBRARIES), "fiu is needed (Debian package fiu-utils)"
        self.environment = {"LD_PRELOAD": " ".join(libraries), "FIU_CTRL_FIFO": str(self.prefix)}

    @contextmanager
    def failing(self, pids: Iterable[int], calls: Iterable[str], number: int, chance: float = 1.0) -> Iterator[None]:
        """Let ``calls`` (such as ``posix/io/sync/fsync``) fail with the errno ``number`` for a block, by ``chance``."""
        pids, calls = list(pids), list(calls)
        how = "enable" if chance == 1 else "enable_random"
        more = "" if chance == 1 else f",probability={chance}"
        for call in calls:
            self._tell(pids, f"{how} name={call},failinfo={number}{more}")
        try:
            yield
        finally:
            for call in calls:
                self._tell(pids, f"disable name={call}")

    def _tell(self, pids: list[int], command: str) -> None:
        alive = [str(pid) for pid in pids if Path(f"{self.prefix}-{pid}.in").exists()]
        assert alive, "fiu is in none of the processes"
        done = subprocess.run(
            ["fiu-ctrl", "-f", self.prefix, "-c", command, *alive],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert done.returncode == 0 and not done.stdout and not done.stderr, done.stdout + done.stderr
