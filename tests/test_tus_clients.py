"""The published tus clients against ours: what they expect is the protocol."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.clients import tus_js, tuspy
from pacifica.tests.system.suite import Suite

pytestmark = pytest.mark.timeout(600)  # the first one installs the clients

CONTENT = {"a.txt": b"alpha", "b.dat": os.urandom(3 << 20)}


@pytest.fixture(scope="module")
def posted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "bundle.tar"
    path.write_bytes(bundle(CONTENT))
    return path


def with_tuspy(url: str, path: Path) -> str:
    """Stop in the middle, and go on as a new process."""
    size = path.stat().st_size
    first = tuspy(url, path, 500_000, stop=size // 2)
    assert size // 2 <= first["offset"] < size
    second = tuspy(url, path, 700_000, resume=first["url"])
    assert second == {"url": first["url"], "offset": size}
    return str(second["url"])


def with_tus_js(url: str, path: Path) -> str:
    """Abort in the middle, and go on."""
    told = tus_js(url, path, 500_000)
    assert told["resumed"] is True
    assert told["offsets"] == sorted(set(told["offsets"]))
    assert told["offsets"][-1] == path.stat().st_size
    return str(told["url"])


@pytest.mark.parametrize("client", [with_tuspy, with_tus_js], ids=["tuspy", "tus-js-client"])
def test_a_client_uploads_breaks_off_and_goes_on(
    deployment: Suite, posted: Path, client: Callable[[str, Path], str]
) -> None:
    url = client(f"{deployment.urls['ingest']}/files/", posted)
    head = requests.head(url, headers={"Tus-Resumable": "1.0.0"}, timeout=30)
    job = int(head.headers["X-Pacifica-Job-Id"])
    assert deployment.finished(job, 60)["state"] == "OK"
    files: dict[str, Any] = {file["name"]: file for file in deployment.files(job)}
    for name, content in CONTENT.items():
        kept = deployment.content(files[name]["_id"])
        assert hashlib.sha256(kept).digest() == hashlib.sha256(content).digest()
