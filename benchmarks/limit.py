"""What this machine can do at most, measured in the same run as what is held against it."""

import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PIECE = 1 << 20


def seconds(work: Callable[[], object]) -> float:
    """Return how long ``work`` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def sha1sum(path: Path) -> float:
    """Return the seconds that coreutils take to hash ``path``."""
    return seconds(lambda: subprocess.run(["sha1sum", path], check=True, stdout=subprocess.DEVNULL))


def spool(path: Path, folder: Path) -> float:
    """Return the seconds that it takes to write the bytes of ``path`` to a new file in ``folder`` and fsync it."""
    target = folder / "spooled"

    def copy() -> None:
        with path.open("rb", buffering=0) as source, target.open("xb", buffering=0) as file:
            while piece := source.read(PIECE):
                file.write(piece)
            os.fsync(file.fileno())

    try:
        return seconds(copy)
    finally:
        target.unlink(missing_ok=True)


def evict(path: Path) -> None:
    """Drop ``path`` from the page cache, so that the next reader has to ask the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def warm(path: Path) -> None:
    """Bring ``path`` into the page cache."""
    with path.open("rb", buffering=0) as file:
        while file.read(PIECE):
            pass


class Nginx:
    """A private nginx that serves the files of ``root`` with sendfile; a context manager."""

    def __init__(self, root: Path, folder: Path) -> None:
        folder.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._config = folder / "nginx.conf"
        temporary = "".join(
            f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        user = "user root;" if os.geteuid() == 0 else ""
        self._config.write_text(
            f"daemon off; {user} worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;\n"
            "events { worker_connections 64; }\n"
            f"http {{ access_log off; sendfile on; tcp_nopush on;\n{temporary}"
            f"server {{ listen 127.0.0.1:{self.port}; root {root}; }} }}\n"
        )

    def url(self, name: str) -> str:
        """Return where the file ``name`` is found."""
        return f"http://127.0.0.1:{self.port}/{name}"

    def __enter__(self) -> "Nginx":
        self._process = subprocess.Popen(["nginx", "-c", self._config], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(0.02)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)
