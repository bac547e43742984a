"""The clients of the measurements: curl for bytes, requests for questions, wrk for many small requests."""

import json
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import requests

OCTETS = "Content-Type: application/octet-stream"
TUS = {"Tus-Resumable": "1.0.0"}


@dataclass(frozen=True)
class Posted:
    """A bundle that was posted: seconds until the answer, and until the job was ARCHIVED."""

    job: int
    answered: float
    archived: float


@dataclass(frozen=True)
class Got:
    """A download: seconds until its first byte and its last, and its bytes."""

    first: float
    seconds: float
    size: int

    @property
    def rate(self) -> float:
        """Bytes a second."""
        return self.size / self.seconds


class Client:
    """Asks the suite at ``urls``."""

    def __init__(self, urls: dict[str, str]) -> None:
        self.urls = urls
        self.session = requests.Session()
        self.session.headers["Connection"] = "close"  # which is what uWSGI does anyway, without a word

    def post(self, path: Path) -> Posted:
        """POST a bundle with curl and wait until it is archived; RuntimeError when it is not."""
        started = time.perf_counter()
        answer = _curl("-X", "POST", "-T", str(path), "-H", OCTETS, f"{self.urls['ingest']}/upload")
        answered = time.perf_counter() - started
        state = json.loads(answer)
        job = self.archived(state["job_id"])
        return Posted(job, answered, time.perf_counter() - started)

    def resumable(self, path: Path) -> Posted:
        """Upload a bundle by tus, in one PATCH, and wait until it is archived; seconds count from the creation."""
        started = time.perf_counter()
        length = {**TUS, "Upload-Length": str(path.stat().st_size)}
        files = f"{self.urls['ingest']}/files/"
        answer = self.session.post(files, headers=length, timeout=30)
        answer.raise_for_status()
        patch = {**TUS, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
        words = [word for name, value in patch.items() for word in ("-H", f"{name}: {value}")]
        head = _curl("-X", "PATCH", "-T", str(path), "-D", "-", *words, urljoin(files, answer.headers["Location"]))
        answered = time.perf_counter() - started
        found = re.search(r"(?mi)^X-Pacifica-Job-Id: (\d+)", head)
        if not found:
            raise RuntimeError(f"the last PATCH names no job: {head}")
        job = self.archived(int(found[1]))
        return Posted(job, answered, time.perf_counter() - started)

    def archived(self, job: int, seconds: float = 120.0) -> int:
        """Wait for the end of ``job`` and return its id."""
        deadline = time.monotonic() + seconds
        while True:
            state = self.session.get(f"{self.urls['ingest']}/get_state", params={"job_id": job}, timeout=30).json()
            if state["complete"] and state["state"] == "OK":
                return job
            if state["complete"] or time.monotonic() > deadline:
                raise RuntimeError(f"job {job} was not archived: {state}")
            time.sleep(0.005)

    def files(self, job: int) -> list[dict[str, Any]]:
        """Return what the catalogue lists of a transaction."""
        answer = self.session.get(f"{self.urls['metadata']}/files", params={"transaction": job}, timeout=60)
        answer.raise_for_status()
        return list(answer.json())

    def cart(self, uid: str, selection: bytes) -> float:
        """Create a cart; return the seconds until it was ready."""
        url = f"{self.urls['cartd']}/{uid}"
        started = time.perf_counter()
        answer = self.session.post(url, data=selection, timeout=60)
        if answer.status_code != 201:
            raise RuntimeError(f"no cart: {answer.status_code} {answer.text[:200]}")
        while (status := self.session.head(url, timeout=30).headers["X-Pacifica-Status"]) != "ready":
            if status == "error" or time.perf_counter() - started > 60:
                raise RuntimeError(f"cart {uid}: {status}")
            time.sleep(0.005)
        return time.perf_counter() - started

    def cart_url(self, uid: str, name: str) -> str:
        """Return the URL of the tar of cart ``uid`` as ``name``."""
        return f"{self.urls['cartd']}/{uid}?filename={name}"


def selection_of(files: Sequence[dict[str, Any]]) -> bytes:
    """Return the document that makes a cart of ``files``, each under the path that it had in its bundle."""
    wanted = [
        {
            "id": file["_id"],
            "path": f"{file['subdir']}/{file['name']}",
            "hashtype": file["hashtype"],
            "hashsum": file["hashsum"],
        }
        for file in files
    ]
    return json.dumps({"fileids": wanted}).encode()


def get(url: str, start: int | None = None, stop: int | None = None) -> Got:
    """Download ``url``, or its bytes from ``start`` to ``stop``, into nothing."""
    words = [] if start is None or stop is None else ["-r", f"{start}-{stop - 1}"]
    told = "%{http_code} %{time_starttransfer} %{time_total} %{size_download}"
    code, first, seconds, size = _curl(*words, "-o", "/dev/null", "-w", told, url).split()
    if code not in ("200", "206"):
        raise RuntimeError(f"{url}: {code}")
    return Got(float(first), float(seconds), int(size))


def wrk(url: str, seconds: int = 3, connections: int = 8) -> float:
    """Return how many requests a second ``url`` answers."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", url]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"Requests/sec:\s+([0-9.]+)", output)
    if not found or "Non-2xx" in output:
        raise RuntimeError(output)
    return float(found[1])


def _curl(*words: str) -> str:
    return subprocess.run(["curl", "-fsS", *words], check=True, capture_output=True, text=True).stdout
