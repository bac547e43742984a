"""Pacifica's published clients and services, unmodified, in an environment apart (tests/clients.txt)."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from pacifica.tests.system import apart

KEPT = ("PATH", "LANG", "SSL_CERT_FILE")


class Originals:
    """The originals with a home folder of their own, so that nobody's configuration is read."""

    def __init__(self, home: Path, **variables: str) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.programs, self.home = apart.programs("clients"), home
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
