"""Idempotency-Key and integrity headers of POST, over real HTTP."""

import base64
import hashlib
import io
import os
import socket
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from pacifica.common.idempotency import parse
from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.suite import TAKING_IN, Suite, until

POSTED = bundle({"a.txt": b"alpha", "b.dat": os.urandom(1 << 20)})
OTHER = bundle({"a.txt": b"gamma", "b.dat": bytes(1 << 20)})
DIED = """
import os, sys
from pacifica.common.cli import main
from pacifica.ingest import rest
rest.state_object = lambda *_: os._exit(137)
sys.exit(main())
"""


@pytest.fixture(scope="module")
def suite(new_suite: Callable[..., Suite], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    suite = new_suite(tmp_path_factory.mktemp("keys") / "data", {"PACIFICA_AUTH_MODE": "proxy"})
    suite.services = TAKING_IN
    try:
        yield suite.start()
    finally:
        suite.kill()


def post(suite: Suite, data: Any, key: str | None = None, route: str = "upload", **headers: str) -> requests.Response:
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    more |= {"X-Http-Authed-User": "ada"} if "X-Http-Authed-User" not in more else {}
    more |= {"Idempotency-Key": key} if key is not None else {}
    return requests.post(f"{suite.urls['ingest']}/{route}", data=data, headers=more, timeout=60)


def digest(data: bytes, algorithm: str = "sha-256") -> str:
    hashed = hashlib.new(algorithm.replace("-", ""), data).digest()
    return f"{algorithm}=:{base64.b64encode(hashed).decode()}:"


def jobs(suite: Suite) -> int:
    return int(suite.query("SELECT count(*) FROM job")[0][0])


def fresh() -> str:
    return f'"{os.urandom(8).hex()}"'


@contextmanager
def open_upload(suite: Suite) -> Iterator[int]:
    """Begin an upload that stands still, and yield its job."""
    where, before = urlsplit(suite.urls["ingest"]), jobs(suite)
    with socket.create_connection((where.hostname, where.port), timeout=30) as connection:
        lines = f"Host: {where.netloc}\r\nX-Http-Authed-User: ada\r\nContent-Length: {len(POSTED)}"
        connection.sendall(f"POST /upload HTTP/1.1\r\n{lines}\r\n\r\n".encode() + POSTED[:1000])
        until(lambda: jobs(suite) > before, 30, "the job")
        yield int(suite.query("SELECT max(id) FROM job")[0][0])


# ---- keys ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("declare", [True, False], ids=["declared", "undeclared"])
def test_the_same_body_under_the_same_key_is_the_same_job(suite: Suite, declare: bool) -> None:
    key, before = fresh(), jobs(suite)
    headers = {"Content_Digest": digest(POSTED)} if declare else {}
    first, second = post(suite, POSTED, key, **headers), post(suite, POSTED, key, **headers)
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json()["job_id"] == second.json()["job_id"]
    assert jobs(suite) == before + 1
    assert post(suite, POSTED, key, "ingest", **headers).json()["job_id"] == first.json()["job_id"]


def test_the_key_in_quotes_is_the_bare_one_and_belongs_to_its_principal(suite: Suite) -> None:
    first = post(suite, POSTED, '"abc-1"').json()["job_id"]
    assert post(suite, POSTED, "abc-1").json()["job_id"] == first
    assert post(suite, OTHER, "abc-1", X_Http_Authed_User="eve").json()["job_id"] != first


def test_a_known_body_is_not_even_asked_for(suite: Suite) -> None:
    key = fresh()
    job = post(suite, POSTED, key, Content_Digest=digest(POSTED)).json()["job_id"]
    where = urlsplit(suite.urls["ingest"])
    with socket.create_connection((where.hostname, where.port), timeout=30) as connection:
        lines = f"Content-Length: {len(POSTED)}\r\nContent-Digest: {digest(POSTED)}\r\nIdempotency-Key: {key}\r\n"
        head = f"POST /upload HTTP/1.1\r\nHost: {where.netloc}\r\nX-Http-Authed-User: ada\r\n"
        connection.sendall(f"{head}{lines}Expect: 100-continue\r\n\r\n".encode())
        answer = connection.makefile("rb").read().decode()
    assert answer.startswith("HTTP/1.1 200 ")
    assert f'"job_id": {job}' in answer


@pytest.mark.parametrize("declare", [True, False], ids=["declared", "undeclared"])
def test_another_body_is_refused(suite: Suite, declare: bool) -> None:
    key, before = fresh(), jobs(suite)
    assert len(POSTED) == len(OTHER)
    for data, status in ((POSTED, 200), (OTHER, 422), (POSTED + bytes(512), 422), (b"no tar", 422), (POSTED, 200)):
        answer = post(suite, data, key, **({"Content_Digest": digest(data)} if declare else {}))
        assert answer.status_code == status, answer.text
        if status == 422:
            assert answer.json()["code"] == "key_reused"
    assert jobs(suite) == before + 1


def test_a_chunked_body_is_judged_by_its_members(suite: Suite) -> None:
    key = fresh()
    first = post(suite, iter([POSTED[:1000], POSTED[1000:]]), key)
    assert post(suite, iter([POSTED]), key).json()["job_id"] == first.json()["job_id"]
    assert post(suite, POSTED, key).json()["job_id"] == first.json()["job_id"]
    assert post(suite, iter([OTHER]), key).status_code == 422


def test_a_tar_that_was_made_anew_of_the_same_members_is_the_same_body(suite: Suite) -> None:
    key = fresh()
    first = post(suite, POSTED, key).json()["job_id"]
    with (
        tarfile.open(fileobj=io.BytesIO(POSTED)) as tar,
        tarfile.open(fileobj=(again := io.BytesIO()), mode="w") as new,
    ):
        for member in tar:
            content = tar.extractfile(member)
            member.mtime, member.uname, member.pax_headers = 1_000_000_000, "somebody", {}
            new.addfile(member, content)
    assert again.getvalue() != POSTED
    assert post(suite, again.getvalue(), key).json()["job_id"] == first


def test_a_bad_bundle_stays_the_same_failed_job(suite: Suite) -> None:
    key, bad = fresh(), b"X" + POSTED[1:]
    first = post(suite, bad, key).json()
    assert (first["state"], first["complete"]) == ("FAILED", True)
    assert post(suite, bad, key).json() == first
    assert post(suite, POSTED, key).status_code == 422


def test_a_body_that_did_not_arrive_leaves_the_key_free(suite: Suite) -> None:
    key = fresh()
    wrong = post(suite, POSTED, key, Content_Digest=digest(OTHER))
    assert (wrong.status_code, wrong.json()["code"]) == (422, "checksum_mismatch")
    right = post(suite, POSTED, key, Content_Digest=digest(POSTED))
    assert right.status_code == 200
    assert right.json()["job_id"] != wrong.json()["job_id"]


def test_while_the_first_is_under_way_the_second_hears_when_to_come_again(suite: Suite) -> None:
    key, gate = fresh(), threading.Event()

    def slowly() -> Iterator[bytes]:
        yield POSTED[:1000]
        gate.wait(60)
        yield POSTED[1000:]

    answers: list[requests.Response] = []
    before = jobs(suite)
    thread = threading.Thread(target=lambda: answers.append(post(suite, slowly(), key)))
    thread.start()
    until(lambda: jobs(suite) > before, 30, "the first request")
    busy = post(suite, POSTED, key)
    gate.set()
    thread.join()
    assert (busy.status_code, busy.json()["code"]) == (409, "key_in_use")
    assert int(busy.headers["Retry-After"]) >= 1
    assert post(suite, POSTED, key).json()["job_id"] == answers[0].json()["job_id"]


def test_of_many_at_once_one_makes_the_job(suite: Suite) -> None:
    key, before, barrier = fresh(), jobs(suite), threading.Barrier(8)
    answers: list[requests.Response] = []

    def send() -> None:
        barrier.wait()
        answers.append(post(suite, POSTED, key))

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert len({answer.json()["job_id"] for answer in answers if answer.status_code == 200}) == 1
    assert jobs(suite) == before + 1


def test_a_server_that_died_before_its_answer_has_made_one_job(tmp_path: Path) -> None:
    suite = Suite(tmp_path / "data")
    try:
        suite.start(DIED)
        with pytest.raises(requests.ConnectionError):
            requests.post(f"{suite.urls['ingest']}/upload", data=POSTED, headers={"Idempotency-Key": "k"}, timeout=60)
        assert suite.stop() == 137
        suite.start()
        state = suite.upload(POSTED, headers={"Idempotency-Key": "k"})
        assert (state["job_id"], jobs(suite)) == (1, 1)
        assert suite.finished(1, 60)["state"] == "OK"
    finally:
        suite.kill()


def test_a_server_that_died_in_the_middle_frees_the_key_when_its_lease_is_over(own_suite: Suite) -> None:
    own_suite.start()
    where = urlsplit(own_suite.urls["ingest"])
    with socket.create_connection((where.hostname, where.port), timeout=30) as connection:
        head = f"POST /upload HTTP/1.1\r\nHost: {where.netloc}\r\nIdempotency-Key: k\r\nContent-Length: {len(POSTED)}"
        connection.sendall(f"{head}\r\n\r\n".encode() + POSTED[:1000])
        until(lambda: jobs(own_suite), 30, "the first request")
        own_suite.kill()
    own_suite.start()

    def again() -> requests.Response | None:
        answer = requests.post(
            f"{own_suite.urls['ingest']}/upload", data=POSTED, headers={"Idempotency-Key": "k"}, timeout=60
        )
        assert answer.status_code in (200, 409), answer.text
        return answer if answer.status_code == 200 else None

    answer = until(again, 60, "a free key")
    assert answer is not None
    assert own_suite.finished(answer.json()["job_id"], 60)["state"] == "OK"
    assert own_suite.query("SELECT state FROM job ORDER BY id") == [("FAILED",), ("ARCHIVED",)]


def test_a_resumable_upload_is_opened_once_under_its_key(suite: Suite) -> None:
    headers = {"Tus_Resumable": "1.0.0", "Upload_Length": "1000"}
    key = fresh()
    first = post(suite, None, key, "files/", **headers)
    assert (first.status_code, post(suite, None, key, "files/", **headers).headers["Location"]) == (
        201,
        first.headers["Location"],
    )
    other = post(suite, None, key, "files/", **headers | {"Upload_Length": "1001"})
    assert (other.status_code, other.json()["code"]) == (422, "key_reused")
    assert post(suite, POSTED, key).status_code == 422  # the same key for another route


def test_a_cancellation_that_comes_again_under_its_key_is_answered_again(suite: Suite) -> None:
    job, key = post(suite, POSTED[:2000]).json()["job_id"], fresh()
    assert post(suite, b"", None, f"jobs/{job}/cancel").status_code == 409  # it has failed
    with open_upload(suite) as begun:
        first = post(suite, b"", key, f"jobs/{begun}/cancel")
        again = post(suite, b"", key, f"jobs/{begun}/cancel")
        assert [(answer.status_code, answer.json()["state"]) for answer in (first, again)] == [(200, "CANCELLED")] * 2
        assert post(suite, b"", None, f"jobs/{begun}/cancel").status_code == 409
        assert post(suite, b"", key, f"jobs/{job}/cancel").json()["code"] == "key_reused"


def test_old_keys_are_forgotten(own_suite: Suite) -> None:
    own_suite.environment["PACIFICA_INGEST_REMEMBER_DAYS"] = "0.00001"
    own_suite.start()
    own_suite.upload(POSTED, headers={"Idempotency-Key": "k"})
    until(lambda: not own_suite.query("SELECT 1 FROM idempotencykey"), 30, "the sweeper")


@pytest.mark.parametrize("text", ["", '"', "a b", '"' + "k" * 256 + '"', "\N{LATIN SMALL LETTER E WITH ACUTE}"])
def test_what_is_no_key_is_refused(suite: Suite, text: str) -> None:
    answer = post(suite, POSTED, text.encode("latin-1"))  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


def test_a_key_is_a_string_or_bare() -> None:
    assert parse(None) is None
    assert parse(' "a b" ') == "a b"
    assert parse("8e03978e-40d5-43dd") == "8e03978e-40d5-43dd"


# ---- digests -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Content_Digest": digest(POSTED)},
        {"Repr_Digest": digest(POSTED, "sha-512")},
        {"Content_Digest": f"{digest(POSTED)}, {digest(POSTED, 'sha-512')}, crc32c=:AAAAAA==:"},
        {"Content_MD5": base64.b64encode(hashlib.md5(POSTED).digest()).decode()},
    ],
)
def test_a_body_that_is_what_was_declared_is_taken(suite: Suite, headers: dict[str, str]) -> None:
    job = post(suite, POSTED, **headers).json()["job_id"]
    until(lambda: suite.query("SELECT 1 FROM job WHERE id = ? AND state = 'ARCHIVED'", job), 60, "the end of the job")


@pytest.mark.parametrize("data", [OTHER, b"X" + POSTED[1:]], ids=["a good bundle", "a broken bundle"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Content_Digest": digest(POSTED)},
        {"Repr_Digest": digest(POSTED, "sha-512")},
        {"Content_MD5": base64.b64encode(hashlib.md5(POSTED).digest()).decode()},
    ],
)
def test_a_body_that_is_not_what_was_declared_is_refused_and_nothing_stays(
    suite: Suite, headers: dict[str, str], data: bytes
) -> None:
    answer = post(suite, data, **headers)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "checksum_mismatch")
    assert problem["header"] == next(iter(headers)).replace("_", "-")
    row = suite.query("SELECT state, code, spool FROM job WHERE id = ?", problem["job_id"])[0]
    assert row[:2] == ("FAILED", "checksum_mismatch")
    assert row[2] not in suite.spooled()


@pytest.mark.parametrize("header", ["Content-Digest", "Repr-Digest", "Content-MD5"])
def test_a_header_that_cannot_be_read_is_refused_before_the_body(suite: Suite, header: str) -> None:
    before = jobs(suite)
    answer = post(suite, POSTED, **{header: "sha-256=?"})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert jobs(suite) == before
