"""Published tus clients, unmodified: tuspy in an environment apart, tus-js-client from npm, both pinned."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from pacifica.tests.system import apart

TUS = apart.TESTS / "tus"

_TUSPY = """
import json, sys
from tusclient import client
url, path, chunk, stop, resume = sys.argv[1:6]
uploader = client.TusClient(url).uploader(
    path, chunk_size=int(chunk), upload_checksum=True, retries=3, retry_delay=1, url=resume or None,
    metadata={"filename": "bundle.tar"},
)
uploader.upload(stop_at=int(stop) or None)
print(json.dumps({"url": uploader.url, "offset": uploader.offset}))
"""


def tuspy(url: str, path: Path, chunk: int, stop: int = 0, resume: str = "") -> dict[str, Any]:
    """Upload ``path`` by tuspy, each chunk with its checksum, to ``stop`` (0: the end), going on at ``resume``."""
    return _said(apart.programs("tuspy") / "python", "-c", _TUSPY, url, path, chunk, stop, resume)


def tus_js(url: str, path: Path, chunk: int) -> dict[str, Any]:
    """Upload ``path`` by tus-js-client, which aborts once and goes on."""
    home = apart.CACHE / "tus-js"
    with apart.lacking(home, TUS / "package-lock.json") as missing:
        if missing:
            home.mkdir(exist_ok=True)
            for name in ("package.json", "package-lock.json"):
                shutil.copy(TUS / name, home)
            _run("npm", "ci", "--no-audit", "--no-fund", "--silent", cwd=home)
    shutil.copy(TUS / "upload.js", home)
    return _said("node", home / "upload.js", url, path, chunk)


def _said(*command: object) -> dict[str, Any]:
    return dict(json.loads(_run(*command).splitlines()[-1]))


def _run(*command: object, cwd: Path | None = None) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=600, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
