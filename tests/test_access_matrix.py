"""Every route of every service, asked for alice's things by alice, bob, an administrator and nobody.

What bob is told of a thing of alice's is, but for its name, what he is told of a thing that never was.  The one
exception are the numbers under which files may be put: that one is taken has to be said.
"""

import re
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin

import pytest
import requests

from pacifica.tests.system.datasets import zipped
from pacifica.tests.system.flows import PROCESSES
from pacifica.tests.system.people import PROXY, Person, session, walked
from pacifica.tests.system.suite import Suite, until

READS = ("GET", "HEAD", "OPTIONS")
CHANGES = ("PATCH", "PUT", "POST", "DELETE")
QUERIES = ("job_id", "transaction", "transaction_id", "id", "owner")
TAILS = ("", "/files", "/files/secret", "/stdout")
SHARED = ("/api/process",)  # definitions are everybody's to read
SERIES = "42.1001/ds/exp/sa/42/cwepr"
TUS = {"Tus-Resumable": "1.0.0", "Upload-Length": "1000"}
NOISE = re.compile(r"(\"(?:trace|instance|created|updated|date)\": )\"[^\"]*\"|\b\d+(\.\d+)?\b")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """A suite behind a proxy."""
    told = {"AUTH_MODE": "proxy", "AUTH_PROXIES": PROXY, "AUTH_ADMINISTRATORS": "root", "FLOW_EXECUTOR": "null"}
    told |= {"AUDIT_PERIOD_DAYS": "0"}
    environment = {f"PACIFICA_{key}": value for key, value in told.items()}
    suite = Suite(tmp_path_factory.mktemp("matrix") / "data", environment)
    try:
        suite.start()
        suite.register(PROCESSES)
        yield suite
    finally:
        suite.kill()


@pytest.fixture(scope="module")
def hers(guarded: Suite) -> dict[str, str]:
    """The names of alice's things, by what they are; nothing changes with them any more."""
    alice = Person(guarded, "alice")
    job = alice.upload({"secret": b"of alice"})
    (file,) = alice.files(job)
    cart = str(uuid.uuid4())
    alice.fill(cart, [file])
    opened = alice.http.post(f"{guarded.urls['ingest']}/files/", headers=TUS, timeout=10)
    loi = alice.http.post(f"{guarded.urls['datasets']}/{SERIES}", timeout=10).text
    content = zipped({"a.dat": b"alice", "x.info": b""})
    put = alice.http.put(f"{guarded.urls['datasets']}/{loi}", data=content, timeout=30)
    assert put.status_code == 200, put.text
    wanted = {"process": {"slug": process(alice, guarded)}, "input": {}}
    made = alice.http.post(f"{guarded.urls['flow']}/api/data", json=wanted, timeout=10)
    assert made.status_code == 201, made.text
    url, root = f"{guarded.urls['flow']}/api/data/{made.json()['id']}", session(PROXY, "root")
    until(lambda: alice.http.get(url, timeout=10).json()["status"] in ("OK", "ER"), 60, "the end of the run")
    until(lambda: alice.cart("HEAD", cart).headers["X-Pacifica-Status"] == "ready", 60, "the cart")
    asked = guarded.urls["catalog"], {"limit": 1}
    until(lambda: root.get(*asked, timeout=30).json()["pending"] == 0, 60, "the catalogue's index")
    return {
        "job": str(job), "file": str(file["_id"]), "cart": cart, "loi": loi, "data": str(made.json()["id"]),
        "upload": urljoin(opened.url, opened.headers["Location"]).rpartition("/")[2],
    }  # fmt: skip


def process(alice: Person, guarded: Suite) -> str:
    """Return the name of a process that needs no input."""
    listed = alice.http.get(f"{guarded.urls['flow']}/api/process", timeout=10).json()
    return next(one["slug"] for one in listed if not one["input_schema"])


GHOSTS = {
    "job": "999983", "file": "999979", "cart": str(uuid.uuid4()), "loi": f"{SERIES}/999961", "data": "999959",
    "upload": uuid.uuid4().hex,
}  # fmt: skip


def asked(routes: list[tuple[str, str, str, bool]], methods: tuple[str, ...]) -> Iterator[tuple[str, str, str, str]]:
    """Give (service, method, path, query) of all that can be asked, ``{job}`` and the like for names of things."""
    for service, path, method, _ in routes:
        if method not in methods:
            continue
        base = path.replace("/{name}", "").rstrip("/")
        for thing in GHOSTS:
            for tail in TAILS:
                yield service, method, f"{base}/{{{thing}}}{tail}", ""
            for query in QUERIES if base == path else ():
                yield service, method, base or "/", f"{query}={{{thing}}}"


def ask(client: requests.Session, guarded: Suite, route: tuple[str, str, str, str], names: dict[str, str]) -> Any:
    service, method, path, query = route
    url = guarded.urls[service] + path.format(**names) + (f"?{query.format(**names)}" if query else "")
    return client.request(method, url, timeout=30, allow_redirects=False)


def shape(answer: requests.Response, names: dict[str, str]) -> tuple[Any, ...]:
    """Return what tells one answer from another, but for the names that were asked for and the moment."""
    text = answer.text
    for thing in ("loi", "cart", "upload"):  # the others are numbers, which are noise
        text = text.replace(names[thing], "NAME")
    heads = sorted(name.lower() for name in answer.headers)
    return answer.status_code, heads, NOISE.sub("N", text)


def of_alice(guarded: Suite, hers: dict[str, str], routes: Any) -> list[Any]:
    """Return all that alice is answered."""
    alice = session(PROXY, "alice")
    return [shape(ask(alice, guarded, route, hers), hers) for route in asked(routes, ("GET",))]


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str, str, bool]]:
    return [route for route in walked(tmp_path_factory.mktemp("walk")) if not route[3]]


def test_a_neighbour_is_told_of_her_things_what_he_is_told_of_what_never_was(
    guarded: Suite, hers: dict[str, str], routes: list[tuple[str, str, str, bool]]
) -> None:
    bob, alice = session(PROXY, "bob"), session(PROXY, "alice")
    before, hidden = of_alice(guarded, hers, routes), 0
    for methods in (READS, CHANGES):
        for route in asked(routes, methods):
            if route[2].startswith(SHARED) and methods is READS:
                continue
            found, ghost = ask(bob, guarded, route, hers), ask(bob, guarded, route, GHOSTS)
            if route[2].startswith("/archive/") and route[1] in ("PUT", "PATCH") and found.status_code == 403:
                assert found.json()["message"] == "this id is taken"  # numbers are their clients' choice, not a secret
            else:
                assert shape(found, hers) == shape(ghost, GHOSTS), route
            assert b"alice" not in found.content, route
            assert found.status_code < 500 or found.status_code == 501, (route, found.text)
            if methods is READS and ask(alice, guarded, route, hers).status_code in (200, 204):
                hidden += found.status_code == 404
    assert hidden > 10
    assert of_alice(guarded, hers, routes) == before


def test_nobody_is_told_anything_and_an_administrator_is_never_turned_away(
    guarded: Suite, hers: dict[str, str], routes: list[tuple[str, str, str, bool]]
) -> None:
    nobody, root, alice = session(PROXY), session(PROXY, "root"), session(PROXY, "alice")
    for route in asked(routes, READS + CHANGES):
        assert ask(nobody, guarded, route, hers).status_code == 401, route
        if route[1] in ("GET", "HEAD"):
            own = ask(alice, guarded, route, hers).status_code
            seen = ask(root, guarded, route, hers).status_code
            assert seen not in (401, 403, 500), route
            if own == 200:
                assert seen == 200, route
