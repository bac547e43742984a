"""Web process, worker child and worker main process killed with -9 at each step of staging: the cart ends whole."""

import hashlib
import io
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from pacifica.tests.system.crash import MortalScaled
from pacifica.tests.system.suite import until
from pacifica.tests.system.tape import RemoteArchive

FILES = {1: b"one", 2: hashlib.sha512(b"2").digest() * (1 << 18), 3: b"", 4: b"four" * 5000}
WEB = [
    "pacifica.cartd.rest:Selection after 1",
    "pacifica.cartd.rest:enlist before 1",
    "pacifica.cartd.rest:enlist after 1",
    "pacifica.common.state:Work.move before 1",
    "pacifica.common.state:Work.move after 1",
    "pacifica.cartd.rest:ring after 1",
    "pacifica.cartd.rest:CartRoot.POST after 1",
]
WORKER = [
    "pacifica.common.state:_take before 1",
    "pacifica.common.state:_take after 1",
    "pacifica.cartd.staging:_Pass.look before 1",
    "pacifica.cartd.staging:_Pass._note_place after 1",
    "pacifica.cartd.staging:_postpone after 1",
    "pacifica.cartd.staging:admit after 1",
    "pacifica.cartd.pull:Source.fill after 9",
    "pacifica.cartd.pull:receive after 1",
    "pacifica.common.pack:Sidecar.write after 1",
    "pacifica.common.volume:_link after 1",
    "pacifica.cartd.pull:keep after 2",
    "pacifica.cartd.staging:_Pass.pull after 1",
    "pacifica.cartd.tasks:fetch after 1",
    "pacifica.cartd.ready:plan_of after 1",
    "pacifica.cartd.ready:announce after 1",
    "pacifica.cartd.tasks:make_ready after 1",
]
MAIN = [  # where the main process dies too: nobody of the old worker is left to take the cart up again
    "pacifica.common.state:_take after 1",
    "pacifica.cartd.staging:_postpone after 1",
    "pacifica.cartd.pull:Source.fill after 9",
    "pacifica.cartd.pull:keep after 2",
    "pacifica.cartd.tasks:fetch after 1",
    "pacifica.cartd.tasks:make_ready after 1",
]


class Staging(MortalScaled):
    """Cartd alone, as a facility runs it, with a remote archive."""

    def __init__(self, data: Path, database: str, broker: str, archive: RemoteArchive) -> None:
        super().__init__(data, database, broker, sorted({step.split()[0] for step in [*WEB, *WORKER]}))
        self.services, self.remote = ("cartd",), archive
        self.environment |= {"ARCHIVE_INTERFACE_URL": archive.url, "PACIFICA_ARCHIVEINTERFACE_TIMEOUT": "5"}
        with (data.parent / "site" / "sitecustomize.py").open("a") as file:
            file.write("from pacifica.cartd import rest; rest.WATCH_SECONDS = 1.0; rest.RING_SECONDS = 0.5\n")

    def post_cart(self) -> str:
        """Post a cart of all files, and return its uid whether or not somebody lived to answer."""
        uid = str(uuid.uuid4())
        entries = [
            {"id": id, "path": f"f{id}", "hashtype": "sha1", "hashsum": hashlib.sha1(content).hexdigest()}
            for id, content in FILES.items()
        ]
        with suppress(requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            assert requests.post(self.cart(uid), json={"fileids": entries}, timeout=60).status_code == 201
        return uid

    def dies_over_cart(self, step: str, main: bool = False) -> str:
        """Arm ``step``, post a cart, and bring back what died over it; return the cart's uid."""
        parent = self.armed.with_name("armed.parent")
        parent.touch() if main else parent.unlink(missing_ok=True)
        self.arm(f"call {step}")
        uid = self.post_cart()
        self.struck(step, 60)
        if main:
            until(lambda: self.workers["cartd"].poll() is not None, 30, "the death of the main process")
        self.restart()
        return uid

    def end_of(self, uid: str) -> str:
        """Wait until a cart is no longer staged, and return what it is then."""

        def status() -> str | None:
            with suppress(requests.ConnectionError):
                answer = requests.head(self.cart(uid), timeout=10)
                found = answer.headers["X-Pacifica-Status"]
                return found if found != "staging" else None
            return None

        return until(status, 60, "an end of the cart") or ""

    def is_whole(self, uid: str) -> None:
        """See that a cart gives out what it should, and that nothing is left of it once it is deleted."""
        content = requests.get(f"{self.cart(uid)}?filename=d", timeout=30).content
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            found = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
        assert found == {f"d/f{id}": content for id, content in FILES.items()}
        assert not list((self.archive / "carts").glob("*/*/spool/*"))
        assert requests.delete(self.cart(uid), timeout=10).status_code == 200
        assert self.query("SELECT count(*) FROM file f JOIN cart c ON c.id = f.cart_id WHERE c.cart_uid = ?", uid) == [
            (0,)
        ]


@pytest.fixture(scope="module")
def mortal(postgres: Any, rabbitmq: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Staging]:
    """A deployment whose processes die in each test and live on in the next."""
    with RemoteArchive(FILES) as archive:
        data = tmp_path_factory.mktemp("mortal") / "data"
        suite = Staging(data, postgres.create_database(), rabbitmq.create_vhost(), archive)
        try:
            yield suite.start()  # type: ignore[misc]
        finally:
            suite.kill()


@pytest.mark.parametrize("step", WEB)
def test_a_cart_whose_web_process_was_killed_is_whole_or_in_error_and_the_same_post_makes_it(
    mortal: Staging, step: str
) -> None:
    uid = mortal.dies_over_cart(step)
    if mortal.end_of(uid) == "error":  # it was not stored to its end, or not at all
        uid = mortal.post_cart()
    assert mortal.end_of(uid) == "ready"
    mortal.is_whole(uid)


@pytest.mark.parametrize(("step", "main"), [*((step, False) for step in WORKER), *((step, True) for step in MAIN)])
def test_a_cart_whose_worker_was_killed_is_ready_in_the_end(mortal: Staging, step: str, main: bool) -> None:
    if "_postpone" in step:
        mortal.remote.on_tape[1] = 1
        mortal.remote.staged.clear()
    uid = mortal.dies_over_cart(step, main)
    assert mortal.end_of(uid) == "ready"
    mortal.is_whole(uid)


def test_a_download_whose_web_process_was_killed_is_resumed(mortal: Staging, tmp_path: Path) -> None:
    uid = mortal.post_cart()
    assert mortal.end_of(uid) == "ready"
    url, target = f"{mortal.cart(uid)}?filename=d", tmp_path / "d.tar"
    whole = requests.get(url, timeout=30).content
    command = ["curl", "-fsS", "-C", "-", "-o", target, url]
    with subprocess.Popen([*command, "--limit-rate", "2M"], stderr=subprocess.DEVNULL) as curl:
        until(lambda: target.exists() and target.stat().st_size > 0, 30, "the first bytes")
        mortal.kill("web")
        assert curl.wait(60)  # what lies in the buffers still comes, at this rate
    mortal.restart()
    assert 0 < target.stat().st_size < len(whole)
    assert subprocess.run(command, timeout=30).returncode == 0
    assert target.read_bytes() == whole
