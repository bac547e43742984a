"""Killed with -9 at each step of a cart, it is whole or in error, and the same POST again makes it."""

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import requests

from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.crash import CONTENTS, Mortal
from pacifica.tests.system.suite import until, wanted

COMPARED = [  # steps of a cart whose digests the ledger can compare
    "pacifica.cartd.rest:fill before 1",
    "pacifica.cartd.rest:fill after 1",
    "pacifica.cartd.ready:plan_of before 1",
    "pacifica.cartd.ready:plan_of after 1",
    "pacifica.common.state:Work.move before 1",
    "pacifica.common.state:Work.move after 1",
    "pacifica.cartd.ready:announce after 1",
    "pacifica.cartd.rest:make_ready after 1",
]
STAGED = [  # steps of one whose files a worker has to read
    "pacifica.cartd.rest:ring after 1",
    "pacifica.common.state:_take before 1",
    "pacifica.common.state:_take after 1",
    "pacifica.cartd.tasks:verify after 1",
    "pacifica.cartd.ready:plan_of after 1",
    "pacifica.cartd.ready:announce after 1",
    "pacifica.cartd.tasks:make_ready after 1",
]
FEW_SECONDS = "from pacifica.cartd import rest; rest.WATCH_SECONDS = 1.0; rest.RING_SECONDS = 0.5; "


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mortal]:
    """A suite that dies in each test and lives on in the next."""
    calls = sorted({step.split()[0] for step in COMPARED + STAGED})
    suite = Mortal(tmp_path_factory.mktemp("mortal") / "data", calls)
    suite.code = suite.code.replace("from pacifica.common.cli", FEW_SECONDS + "from pacifica.common.cli", 1)
    try:
        yield suite.start()
    finally:
        suite.kill()


@pytest.fixture(scope="module")
def files(mortal: Mortal) -> list[dict[str, Any]]:
    job = mortal.finished(mortal.upload(bundle(CONTENTS))["job_id"])
    return mortal.files(job["job_id"])


def status(suite: Mortal, uid: str) -> str:
    return requests.head(suite.cart(uid), timeout=10).headers["X-Pacifica-Status"]


@pytest.mark.parametrize(("hashtype", "step"), [*(("sha1", s) for s in COMPARED), *(("sha256", s) for s in STAGED)])
def test_a_cart_that_was_killed_at_any_step_is_whole_or_in_error(
    mortal: Mortal, files: list[dict[str, Any]], hashtype: str, step: str
) -> None:
    uid = f"{hashtype}-{step.replace(' ', '-')}".replace(":", "-")
    entries = [
        one | {"hashtype": hashtype, "hashsum": hashlib.new(hashtype, CONTENTS[one["path"]]).hexdigest()}
        for one in wanted(files)
    ]
    mortal.start() if mortal.is_dead else None
    mortal.arm(f"call {step}")
    with suppress(requests.ConnectionError, requests.exceptions.ChunkedEncodingError):  # dead before it could answer
        assert requests.post(mortal.cart(uid), json={"fileids": entries}, timeout=30).status_code == 201
    mortal.died(step)
    mortal.start()
    until(lambda: status(mortal, uid) != "staging", 30, "an end of the cart")
    found = status(mortal, uid)
    assert found in ("ready", "error")
    if hashtype == "sha256" and ":ring " not in step:  # its POST had committed it: a worker ends it
        assert found == "ready"
    if found == "error":
        mortal.fill_cart(entries, uid)
    answer = requests.get(mortal.cart(uid), timeout=30)
    head = requests.head(mortal.cart(uid), timeout=10)
    assert len(answer.content) == int(head.headers["X-Content-Length"])
    for path, content in CONTENTS.items():
        assert requests.get(f"{mortal.cart(uid)}/files/{path}", timeout=10).content == content
    assert requests.delete(mortal.cart(uid), timeout=10).status_code == 200
    assert not mortal.query("SELECT 1 FROM file")
    until(lambda: not [path for path in (mortal.archive / "carts").rglob("*") if path.is_file()], 30, "no plan left")
