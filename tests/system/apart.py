"""Programs of others, unmodified and pinned, each in an environment apart: below ``.cache``, made once.

As a program it makes them all, so that no test's time goes into it.
"""

import fcntl
import subprocess
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
CACHE = CHECKOUT / ".cache"
TESTS = CHECKOUT / "tests"
REQUIREMENTS = {
    "clients": TESTS / "clients.txt",  # Pacifica's published clients and services
    "judges": TESTS / "judges.txt",
    "tuspy": TESTS / "tus" / "requirements.txt",
}
INSTALL_SECONDS = 600


def programs(name: str) -> Path:
    """Return the folder of programs of the environment ``name``; CalledProcessError where it cannot be made."""
    home = CACHE / name
    with lacking(home, REQUIREMENTS[name]) as missing:
        if missing:
            venv.create(home, with_pip=True, clear=True)
            pip = [home / "bin/python", "-m", "pip", "install", "--quiet", "-r", REQUIREMENTS[name]]
            subprocess.run(pip, check=True, timeout=INSTALL_SECONDS)
    return home / "bin"


@contextmanager
def lacking(home: Path, wanted: Path) -> Iterator[bool]:
    """Say whether a block is to make ``home`` anew, to be what the file ``wanted`` says; one process at a time."""
    mark = home / ".installed"
    CACHE.mkdir(exist_ok=True)
    with (CACHE / f"{home.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        missing = not mark.is_file() or mark.read_text() != wanted.read_text()
        yield missing
        if missing:
            mark.write_text(wanted.read_text())


if __name__ == "__main__":
    for each in REQUIREMENTS:
        programs(each)
