"""Pacifica's published clients and services, unmodified, in an environment apart, made once from tests/clients.txt."""

import fcntl
import json
import os
import subprocess
import venv
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
KEPT = ("PATH", "LANG", "SSL_CERT_FILE")
HOME = CHECKOUT / ".cache" / "clients"


def environment() -> Path:
    """Return the folder of programs, installed first where they are not, or not those that are wanted now."""
    wanted = (CHECKOUT / "tests" / "clients.txt").read_text()
    mark = HOME / ".installed"
    HOME.parent.mkdir(exist_ok=True)
    with (HOME.parent / "clients.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes, one environment
        if not mark.is_file() or mark.read_text() != wanted:
            venv.create(HOME, with_pip=True, clear=True)
            command = [HOME / "bin/python", "-m", "pip", "install", "--quiet", "-r", CHECKOUT / "tests" / "clients.txt"]
            subprocess.run(command, check=True, timeout=600)
            mark.write_text(wanted)
    return HOME / "bin"


class Originals:
    """The originals with a home folder of their own, so that nobody's configuration is read."""

    def __init__(self, home: Path, **variables: str) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.programs, self.home = environment(), home
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        self.variables = kept | {"HOME": str(home), "LOGNAME": "dmlb2001", "USER": "dmlb2001"} | variables

    def run(self, program: str, *words: object, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment and return what became of it."""
        command = [str(self.programs / program), *map(str, words)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=300, env=self.variables, cwd=options.pop("cwd", self.home),
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def python(self, code: str, *words: object, **options: Any) -> Any:
        """Run ``code`` and return the JSON of the last line that it prints."""
        lines = self.run("python", "-c", code, *words, **options).stdout.splitlines()
        return json.loads(lines[-1]) if lines else None
