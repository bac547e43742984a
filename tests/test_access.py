"""Who may do what, asked of the running suite: strangers learn nothing, neighbours see nothing of each other."""

import itertools
import os
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.people import PROXY, Person, session, walked
from pacifica.tests.system.suite import Suite, until

STRANGER = "127.0.0.3"  # as PROXY is one of this machine's addresses
PUBLIC = {  # routes that nobody has to name himself for
    ("cartd", "/", "GET"),
    ("cartd", "/healthz", "GET"),
    ("cartd", "/readyz", "GET"),
    ("datasafe", "/", "GET"),
    ("datasafe", "/healthz", "GET"),
    ("datasafe", "/heartbeat", "GET"),
    ("datasafe", "/readyz", "GET"),
    ("flow", "/", "GET"),
    ("flow", "/healthz", "GET"),
    ("flow", "/readyz", "GET"),
    ("ingest", "/", "GET"),
    ("ingest", "/healthz", "GET"),
    ("ingest", "/readyz", "GET"),
}


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str, str, bool]]:
    """(service, path, method, public) of every route of the suite."""
    return walked(tmp_path_factory.mktemp("walk"))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """A suite behind a proxy."""
    suite = Suite(
        tmp_path_factory.mktemp("guarded") / "data",
        {
            "PACIFICA_AUTH_MODE": "proxy",
            "PACIFICA_AUTH_PROXIES": PROXY,
            "PACIFICA_AUTH_ADMINISTRATORS": "root, admin",
            "PACIFICA_AUTH_SERVICES": "archiver",
        },
    )
    try:
        yield suite.start()
    finally:
        suite.kill()


@pytest.fixture(scope="module")
def alice(guarded: Suite) -> Person:
    return Person(guarded, "alice")


@pytest.fixture(scope="module")
def bob(guarded: Suite) -> Person:
    return Person(guarded, "bob")


@pytest.fixture(scope="module")
def hers(alice: Person) -> int:
    """A transaction of alice."""
    return alice.upload({"secret": b"of alice", "more": b"of hers"})


# ---- strangers -----------------------------------------------------------------------------------------------------


def test_the_public_routes_are_these_and_no_others(routes: list[Any]) -> None:
    assert {(service, path, method) for service, path, method, public in routes if public} == PUBLIC


def test_every_other_route_wants_a_principal(guarded: Suite, routes: list[Any]) -> None:
    nobody, asked = session(PROXY), 0
    for service, path, method, public in routes:
        for more in ("", "/1", "/1/files"):
            url = guarded.urls[service] + path.rstrip("/") + more
            status = nobody.request(method, url or "/", timeout=10).status_code
            if public and not more:
                assert status in (200, 503), (method, url)
            else:
                assert status == 401, (method, url)
            asked += 1
    assert asked > 20


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"])
@pytest.mark.parametrize("path", ["/nowhere", "/upload/x", "/get_state", "/__class__", "/upload/volume", "/healthz/x"])
def test_a_stranger_does_not_learn_which_routes_there_are(guarded: Suite, method: str, path: str) -> None:
    statuses = {session(PROXY).request(method, guarded.urls[s] + path, timeout=10).status_code for s in guarded.urls}
    assert statuses == {401}


@pytest.mark.parametrize("user", ["root", "admin", "alice", "archiver"])
def test_a_name_that_no_trusted_proxy_says_is_not_believed(guarded: Suite, hers: int, user: str) -> None:
    for peer, forwarded in itertools.product((STRANGER, "127.0.0.1"), (None, PROXY)):
        client = session(peer, user)
        if forwarded:
            client.headers.update(
                {"X-Forwarded-For": forwarded, "Forwarded": f"for={forwarded}", "X-Real-Ip": forwarded}
            )
        for url in (f"{guarded.urls['ingest']}/get_state?job_id={hers}", f"{guarded.urls['archive']}/1"):
            answer = client.get(url, timeout=10)
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        posted = client.post(f"{guarded.urls['ingest']}/upload", data=b"x" * 2048, timeout=10)
        assert posted.status_code == 403


@pytest.mark.parametrize("name", ["", "alice,root", "alice, bob", "a\tb", "x" * 256, "caf\xe9"])
def test_a_name_that_is_none_is_not_believed(guarded: Suite, hers: int, name: str) -> None:
    url = f"{guarded.urls['ingest']}/get_state?job_id={hers}"
    headers = {"X-Http-Authed-User": name.encode("latin-1")}
    assert session(PROXY).get(url, headers=headers, timeout=10).status_code in (400, 401)


def test_a_header_that_only_looks_like_the_proxys_is_not_believed(guarded: Suite, hers: int) -> None:
    url = f"{guarded.urls['ingest']}/get_state?job_id={hers}"
    for header in ("X_Http_Authed_User", "X-Http_Authed-User", "Remote-User", "X-Remote-User", "Authorization"):
        assert session(PROXY).get(url, headers={header: "alice"}, timeout=10).status_code == 401


def test_names_beyond_ascii_are_names(guarded: Suite) -> None:
    url = f"{guarded.urls['ingest']}/upload"
    headers = {"X-Http-Authed-User": "zoë".encode()}
    job = session(PROXY).post(url, data=bundle({"x": b"x"}), headers=headers, timeout=30).json()["job_id"]
    assert guarded.query("SELECT owner FROM job WHERE id = ?", job) == [("zoë",)]


def test_without_authentication_nothing_that_was_forwarded_is_answered(deployment: Suite, routes: list[Any]) -> None:
    for service, path, method, public in routes:
        if service not in deployment.urls:  # the scaled one has those that it was started with
            continue
        for header in ({"X-Forwarded-For": "10.1.2.3"}, {"Forwarded": "for=10.1.2.3"}, {"X-Forwarded-Host": "x"}):
            answer = requests.request(method, deployment.urls[service] + path, headers=header, timeout=10)
            assert (answer.status_code == 403) == (not public), (method, path)


# ---- neighbours ----------------------------------------------------------------------------------------------------


def test_a_job_is_its_owners(alice: Person, bob: Person, hers: int) -> None:
    assert alice.state(hers).status_code == 200
    unknown, forbidden = bob.state(999_999), bob.state(hers)
    assert unknown.status_code == forbidden.status_code == 404
    # word for word what is said of a job that never was
    assert forbidden.json()["message"] == unknown.json()["message"].replace("999999", str(hers))


def test_files_are_their_owners(alice: Person, bob: Person, hers: int) -> None:
    listed = alice.files(hers)
    assert [file["name"] for file in listed] == ["secret", "more"]
    assert bob.files(hers) == []
    for file in listed:
        assert alice.file("GET", file["_id"]).status_code == alice.file("HEAD", file["_id"]).status_code - 4 == 200
        for method in ("GET", "HEAD"):
            assert bob.file(method, file["_id"]).status_code == 404
            assert bob.file(method, file["_id"]).headers.keys() == bob.file(method, 999_999).headers.keys()


def test_a_cart_is_its_owners(alice: Person, bob: Person, hers: int) -> None:
    alice.fill("hers", alice.files(hers))
    for method, path in itertools.product(("GET", "HEAD", "DELETE"), ("", "/files", "/files/secret")):
        answer = bob.cart(method, "hers", path)
        assert answer.status_code in (404, 405), (method, path)
        assert b"alice" not in answer.content
    assert alice.cart("GET", "hers").status_code == 200
    assert alice.cart("GET", "hers", "/files/secret").content == b"of alice"


def test_a_cart_of_files_that_are_not_ones_own_is_in_error(alice: Person, bob: Person, hers: int) -> None:
    bob.fill("stolen", alice.files(hers))
    assert bob.cart("HEAD", "stolen").headers["X-Pacifica-Status"] == "error"
    answer = bob.cart("GET", "stolen")
    assert answer.status_code == 500
    assert b"of alice" not in answer.content
    # and as it would be for a file that never was: nothing is learnt from it
    missing = [file | {"_id": 999_999} for file in alice.files(hers)]
    bob.fill("missing", missing)
    said = [bob.cart("HEAD", uid).headers["X-Pacifica-Message"] for uid in ("stolen", "missing")]
    assert said[0] == said[1].replace("999999", str(alice.files(hers)[0]["_id"]))


def test_two_people_may_have_carts_of_one_name(alice: Person, bob: Person, hers: int) -> None:
    his = bob.upload({"his": b"of bob"})
    alice.fill("common", alice.files(hers))
    bob.fill("common", bob.files(his))
    assert bob.cart("GET", "common", "/files/his").content == b"of bob"
    assert alice.cart("GET", "common", "/files/secret").content == b"of alice"
    assert bob.cart("DELETE", "common").status_code == 200
    assert bob.cart("GET", "common").status_code == 404
    assert alice.cart("GET", "common").status_code == 200


def test_an_administrator_sees_everything(guarded: Suite, alice: Person, hers: int) -> None:
    admin = Person(guarded, "admin")
    alice.fill("seen", alice.files(hers))
    assert admin.state(hers).status_code == 200
    assert admin.files(hers) == alice.files(hers)
    assert admin.file("GET", alice.files(hers)[0]["_id"]).content == b"of alice"
    assert admin.cart("GET", "seen", "/files/secret").content == b"of alice"


def test_a_service_reads_files_and_nothing_else(guarded: Suite, alice: Person, hers: int) -> None:
    service = Person(guarded, "archiver")
    alice.fill("unseen", alice.files(hers))
    assert service.file("GET", alice.files(hers)[0]["_id"]).content == b"of alice"
    assert service.state(hers).status_code == 404
    assert service.cart("GET", "unseen").status_code == 404


def test_the_submitter_that_the_metadata_names_reads_it(guarded: Suite, bob: Person) -> None:
    his = bob.upload({"x": b"for user 10"})
    named = Person(guarded, "10")
    assert [file["name"] for file in named.files(his)] == ["x"]
    assert named.file("GET", named.files(his)[0]["_id"]).content == b"for user 10"
    assert named.state(his).status_code == 404


def test_the_catalogue_finds_for_each_what_he_may_read(guarded: Suite, alice: Person, bob: Person, hers: int) -> None:
    root = Person(guarded, "root")

    def found(person: Person, **query: Any) -> list[dict[str, Any]]:
        answer = person.http.get(guarded.urls["catalog"], params=query, timeout=30)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["found"])

    def pending() -> int:
        return int(root.http.get(guarded.urls["catalog"], params={"limit": 1}, timeout=30).json()["pending"])

    until(lambda: not pending(), 60, "the catalogue's index")
    (file,) = found(alice, kind="file", name="secret", transaction=hers)
    queries = ({"transaction": hers}, {"name": "secret"}, {"text": "secret"}, {"checksum": file["hashsum"]}, {})
    for query in queries:
        assert file in found(alice, kind="file", **query) and file in found(root, kind="file", **query)
        assert all(one["transaction"] != hers for one in found(bob, **query, limit=1000) if one["kind"] != "dataset")
    job = bob.upload({"copy": b"of alice", "own": os.urandom(9)})
    told = bob.http.get(f"{guarded.urls['ingest']}/jobs/{job}", timeout=30).json()
    assert told["same_content"] == {"files": 0, "examples": []}
