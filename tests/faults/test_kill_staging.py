"""Killed before any single thing that staging does to disk or database, a cart ends ready, and whole."""

import hashlib
import io
import tarfile
import uuid
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from pacifica.tests.system.crash import Mortal
from pacifica.tests.system.suite import until
from pacifica.tests.system.tape import RemoteArchive

FILES = {1: b"one", 2: bytes(range(256)) * 8000, 3: b""}
STRIDE = 5  # every step costs a start of the suite
HELD = "SELECT 1 FROM cart WHERE cart_uid = ? AND lease_until IS NOT NULL"  # by who may still die over its last step


def selection() -> dict[str, object]:
    return {
        "fileids": [
            {"id": id, "path": f"f{id}", "hashtype": "sha1", "hashsum": hashlib.sha1(content).hexdigest()}
            for id, content in FILES.items()
        ]
    }


def posted(mortal: Mortal) -> str:
    """Post a cart until it is taken, as a client does whose server dies; return its uid."""
    uid = str(uuid.uuid4())
    with suppress(requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
        assert requests.post(mortal.cart(uid), json=selection(), timeout=60).status_code == 201
    return uid


def ended(mortal: Mortal, uid: str) -> str:
    return requests.head(mortal.cart(uid), timeout=10).headers["X-Pacifica-Status"]


def held(mortal: Mortal, uid: str) -> dict[str, bytes]:
    content = requests.get(f"{mortal.cart(uid)}?filename=d", timeout=30).content
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


@pytest.mark.timeout(600)
def test_a_cart_whose_web_and_worker_are_killed_anywhere_is_ready_in_the_end(tmp_path: Path) -> None:
    with RemoteArchive(FILES) as archive:
        archive.on_tape = {1: 1}
        mortal = Mortal(
            tmp_path / "data",
            [],
            {
                "ARCHIVE_INTERFACE_URL": archive.url,
                "PACIFICA_ARCHIVEINTERFACE_TIMEOUT": "5",
                "PACIFICA_CARTD_PULLS": "2",
            },
        )
        try:
            mortal.start()
            step, died = 2, True
            while died:
                archive.on_tape = {1: 1}
                archive.staged.clear()
                mortal.arm(f"event {step}")
                uid = posted(mortal)

                def over(uid: str = uid) -> bool:
                    with suppress(requests.ConnectionError):
                        return mortal.is_dead or (ended(mortal, uid) == "ready" and not mortal.query(HELD, uid))
                    return False

                until(over, 60, f"death at event {step}, or the cart's end")
                mortal.armed.unlink()
                died = mortal.is_dead
                if died:
                    assert mortal.stop() == 137
                    mortal.start()
                rows = mortal.query("SELECT state FROM cart WHERE cart_uid = ?", uid)
                if rows == [] or rows[-1][0] in ("FILLING", "ERROR"):  # the POST died: its client posts again
                    uid = posted(mortal)
                until(lambda uid=uid: ended(mortal, uid) == "ready", 60, f"the cart after event {step}")  # type: ignore[misc]
                assert held(mortal, uid) == {f"d/f{id}": content for id, content in FILES.items()}
                requests.delete(mortal.cart(uid), timeout=10)
                step += STRIDE
            left = "SELECT count(*) FROM cart WHERE state = 'DELETED' AND NOT cleared"
            until(lambda: mortal.query(left) == [(0,)], 120, "the minute that a download holds its cart")
            assert not [path for path in (mortal.archive / "carts").rglob("*") if path.is_file()]
            assert step > 20, "as many effects as there were when this was written, or about"
        finally:
            mortal.kill()
