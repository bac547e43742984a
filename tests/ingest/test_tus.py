"""tus 1.0 as the specification has it, asked by a client that has no mercy."""

import base64
import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
import requests

from pacifica.common.volume import BLOCK
from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.suite import TAKING_IN, Suite, until

TUS = {"Tus-Resumable": "1.0.0"}
PART = {"Content-Type": "application/offset+octet-stream"}
MOST = 32 << 20  # bytes of one bundle; an open upload takes its length from the disk
FILES = {"a.txt": b"alpha", "b.dat": os.urandom(2 << 20)}


@pytest.fixture(scope="module")
def suite(new_suite: Callable[..., Suite], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """A suite with room for 32 MiB a bundle and three of them a user, where uploads are remembered for a while."""
    suite = new_suite(
        tmp_path_factory.mktemp("tus") / "data",
        {
            "PACIFICA_INGEST_MAX_BYTES": str(MOST),
            "PACIFICA_INGEST_MAX_UNFINISHED_BYTES": str(3 * MOST),
            "PACIFICA_AUTH_MODE": "proxy",
            "PACIFICA_AUTH_ADMINISTRATORS": "root",
        },
    )
    suite.services = TAKING_IN
    try:
        yield suite.start()
    finally:
        suite.kill()


class Client:
    """Speaks raw tus as one user."""

    def __init__(self, suite: Suite, user: str = "ada") -> None:
        self.suite, self.session = suite, requests.Session()
        self.session.headers.update({"X-Http-Authed-User": user, **TUS})
        self.root = f"{suite.urls['ingest']}/files/"

    def ask(self, method: str, url: str, **options: Any) -> requests.Response:
        return self.session.request(method, url, timeout=60, **options)

    def create(self, length: int, data: bytes | None = None, **headers: str) -> requests.Response:
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        media = PART if data is not None else {}
        return self.ask("POST", self.root, data=data, headers={"Upload-Length": str(length), **media, **more})

    def open(self, length: int, **headers: str) -> str:
        answer = self.create(length, **headers)
        assert answer.status_code == 201, answer.text
        return urljoin(answer.url, answer.headers["Location"])

    def patch(self, url: str, offset: int, data: bytes, **headers: str) -> requests.Response:
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("PATCH", url, data=data, headers={"Upload-Offset": str(offset), **PART, **more})

    def offset(self, url: str) -> int:
        answer = self.ask("HEAD", url)
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "no-store"
        return int(answer.headers["Upload-Offset"])

    def state(self, job: str) -> dict[str, Any]:
        return dict(self.ask("GET", f"{self.suite.urls['ingest']}/get_state?job_id={job}").json())

    def archived(self, job: str) -> dict[str, Any]:
        return until(lambda: (state := self.state(job))["complete"] and state, 60, "the end of the job")


@pytest.fixture
def client(suite: Suite) -> Client:
    return Client(suite)


def checksum(data: bytes, algorithm: str = "sha1") -> str:
    return f"{algorithm} {base64.b64encode(hashlib.new(algorithm, data).digest()).decode()}"


def test_options_tell_what_is_spoken(client: Client) -> None:
    answer = client.ask("OPTIONS", client.root, headers={"Tus-Resumable": ""})
    assert answer.status_code == 204
    assert answer.headers["Tus-Version"] == "1.0.0"
    assert answer.headers["Tus-Max-Size"] == str(MOST)
    extensions = set(answer.headers["Tus-Extension"].split(","))
    assert extensions == {"creation", "creation-with-upload", "checksum", "expiration", "termination"}
    assert "sha1" in answer.headers["Tus-Checksum-Algorithm"].split(",")


def test_an_upload_in_parts_becomes_a_job_and_says_which(client: Client, suite: Suite) -> None:
    posted = bundle(FILES)
    url = client.open(len(posted), Upload_Metadata="filename YS50YXI=,empty")
    head = client.ask("HEAD", url)
    assert (head.headers["Upload-Offset"], head.headers["Upload-Length"]) == ("0", str(len(posted)))
    assert head.headers["Upload-Metadata"] == "filename YS50YXI=,empty"
    assert head.headers["Upload-Expires"].endswith("GMT")
    middle = client.patch(url, 0, posted[:1_000_001])
    assert (middle.status_code, middle.headers["Upload-Offset"]) == (204, "1000001")
    assert "Upload-Expires" in middle.headers
    assert client.offset(url) == 1_000_001
    last = client.patch(url, 1_000_001, posted[1_000_001:])
    assert last.status_code == 204
    job = last.headers["X-Pacifica-Job-Id"]
    assert urlsplit(urljoin(last.url, last.headers["Location"])).path == f"/jobs/{job}"
    assert client.archived(job)["state"] == "OK"
    assert suite.query("SELECT owner, attempt FROM job WHERE id = ?", int(job)) == [("ada", 1)]
    assert client.ask("HEAD", url).headers["X-Pacifica-Job-Id"] == job


def test_a_last_part_sent_again_finds_the_job_and_makes_no_other(client: Client, suite: Suite) -> None:
    posted = bundle({"a": b"a"})
    url = client.open(len(posted))
    job = client.patch(url, 0, posted).headers["X-Pacifica-Job-Id"]
    before = suite.query("SELECT count(*) FROM job")
    again = client.patch(url, 0, posted)
    assert (again.status_code, again.json()["code"], again.json()["job_id"]) == (409, "wrong_offset", int(job))
    assert (again.headers["Upload-Offset"], again.headers["X-Pacifica-Job-Id"]) == (str(len(posted)), job)
    empty = client.patch(url, len(posted), b"")
    assert (empty.status_code, empty.headers["X-Pacifica-Job-Id"]) == (204, job)
    assert suite.query("SELECT count(*) FROM job") == before


def test_two_that_finish_at_once_make_one_job(client: Client, suite: Suite) -> None:
    posted = bundle({"twin": os.urandom(100_000)})
    url = client.open(len(posted))
    assert client.patch(url, 0, posted[:-1]).status_code == 204
    before = suite.query("SELECT count(*) FROM job")[0][0]
    barrier, answers = threading.Barrier(6), []

    def finish() -> None:
        mine = Client(suite)
        barrier.wait()
        answers.append(mine.patch(url, len(posted) - 1, posted[-1:]).status_code)

    threads = [threading.Thread(target=finish) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) <= {204, 409}
    job = client.ask("HEAD", url).headers["X-Pacifica-Job-Id"]
    assert client.archived(job)["state"] == "OK"
    assert suite.query("SELECT count(*) FROM job")[0][0] == before + 1


def test_creation_takes_bytes_at_once_and_finishes_when_these_are_all(client: Client) -> None:
    posted = bundle({"a": b"a"})
    some = client.create(len(posted), posted[:100])
    assert (some.status_code, some.headers["Upload-Offset"]) == (201, "100")
    whole = client.create(len(posted), posted, Upload_Checksum=checksum(posted))
    assert (whole.status_code, whole.headers["Upload-Offset"]) == (201, str(len(posted)))
    assert client.archived(whole.headers["X-Pacifica-Job-Id"])["state"] == "OK"
    nothing = client.create(0)
    assert client.archived(nothing.headers["X-Pacifica-Job-Id"])["state"] == "FAILED"


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512", "md5"])
def test_a_part_that_does_not_match_its_checksum_does_not_count(client: Client, algorithm: str) -> None:
    posted = bundle({"a": b"a"})
    url = client.open(len(posted))
    assert client.patch(url, 0, posted[:700], Upload_Checksum=checksum(posted[:700], algorithm)).status_code == 204
    wrong = client.patch(url, 700, posted[700:], Upload_Checksum=checksum(b"other", algorithm))
    assert (wrong.status_code, wrong.json()["code"]) == (460, "upload_checksum_mismatch")
    assert wrong.headers["Upload-Offset"] == "700"
    assert client.offset(url) == 700
    right = client.patch(url, 700, posted[700:], Upload_Checksum=checksum(posted[700:], algorithm))
    assert client.archived(right.headers["X-Pacifica-Job-Id"])["state"] == "OK"


def test_a_part_with_a_digest_of_rfc_9530_is_held_to_it(client: Client) -> None:
    url = client.open(10)
    digest = base64.b64encode(hashlib.sha256(b"01234").digest()).decode()
    wrong = client.patch(url, 0, b"0123X", Content_Digest=f"sha-256=:{digest}:")
    assert (wrong.status_code, wrong.json()["code"]) == (422, "checksum_mismatch")
    assert client.offset(url) == 0
    assert client.patch(url, 0, b"01234", Content_Digest=f"sha-256=:{digest}:").status_code == 204
    assert client.offset(url) == 5


def test_a_creation_whose_bytes_are_wrong_leaves_no_upload(client: Client, suite: Suite) -> None:
    before = suite.spooled()
    answer = client.create(100, b"abc", Upload_Checksum=checksum(b"abd"))
    assert answer.status_code == 460
    assert set(suite.spooled()) <= set(before)


def test_terminating_frees_the_room_and_leaves_410(client: Client, suite: Suite) -> None:
    before = suite.spooled()
    url = client.open(1 << 20)
    client.patch(url, 0, b"x" * 1000)
    (own,) = set(suite.spooled()) - set(before)  # what others left goes in its own time
    assert client.ask("DELETE", url).status_code == 204
    assert own not in suite.spooled()
    for method in ("HEAD", "DELETE"):
        assert client.ask(method, url).status_code == 410
    gone = client.patch(url, 1000, b"x")
    assert (gone.status_code, gone.json()["code"]) == (410, "gone")


def test_a_finished_upload_cannot_be_terminated(client: Client) -> None:
    posted = bundle({"a": b"a"})
    url = client.open(len(posted))
    job = client.patch(url, 0, posted).headers["X-Pacifica-Job-Id"]
    answer = client.ask("DELETE", url)
    assert (answer.status_code, answer.json()["job_id"]) == (409, int(job))
    assert client.archived(job)["state"] == "OK"


def test_room_for_an_upload_is_kept_from_its_creation_on(client: Client, suite: Suite) -> None:
    url = client.open(32 << 20)
    name = url.rpartition("/")[2]
    file = suite.archive / "spool" / name
    assert file.stat().st_size == 0
    assert file.stat().st_blocks * 512 >= 32 << 20
    client.patch(url, 0, b"x", Upload_Checksum=checksum(b"y"))  # what is cut off is kept again
    assert (file.stat().st_size, file.stat().st_blocks * 512 >= 32 << 20) == (0, True)
    client.ask("DELETE", url)


def test_another_users_upload_does_not_exist(client: Client, suite: Suite) -> None:
    url = client.open(10)
    stranger = Client(suite, "eve")
    for method in ("HEAD", "DELETE"):
        assert stranger.ask(method, url).status_code == 404
    assert stranger.patch(url, 0, b"x").status_code == 404
    assert client.offset(url) == 0
    assert Client(suite, "root").ask("HEAD", url).status_code == 200


@pytest.mark.parametrize(
    ("method", "headers", "status", "code"),
    [
        ("POST", {"Tus-Resumable": "0.2.2"}, 412, "unknown_tus_version"),
        ("POST", {"Tus-Resumable": ""}, 412, "unknown_tus_version"),
        ("HEAD", {"Tus-Resumable": "2.0.0"}, 412, ""),
        ("POST", {}, 400, "bad_request"),
        ("POST", {"Upload-Length": "-1"}, 400, "bad_request"),
        ("POST", {"Upload-Length": "1_0"}, 400, "bad_request"),
        ("POST", {"Upload-Defer-Length": "1"}, 400, "bad_request"),
        ("POST", {"Upload-Length": str(MOST + 1)}, 413, "too_large"),
        ("POST", {"Upload-Length": "5", "Upload-Metadata": "key !"}, 400, "bad_request"),
        ("POST", {"Upload-Length": "5", "Upload-Metadata": "a YQ==,a YQ=="}, 400, "bad_request"),
        ("PATCH", {}, 400, "bad_request"),
        ("PATCH", {"Upload-Offset": "x"}, 400, "bad_request"),
        ("PATCH", {"Upload-Offset": "5"}, 409, "wrong_offset"),
        ("PATCH", {"Upload-Offset": "0", "Content-Type": "text/plain"}, 415, "unsupported_type"),
        ("PATCH", {"Upload-Offset": "0", "Content-Length": "11"}, 413, "too_large"),
        ("PATCH", {"Upload-Offset": "0", "Upload-Checksum": "crc32 AAAA"}, 400, "bad_request"),
        ("PATCH", {"Upload-Offset": "0", "Upload-Checksum": "sha1 AAAA"}, 400, "bad_request"),
        ("PATCH", {"Upload-Offset": "0", "Content-Digest": "sha-256=1"}, 400, "bad_request"),
    ],
)
def test_what_is_not_tus_is_refused(
    client: Client, method: str, headers: dict[str, str], status: int, code: str
) -> None:
    url = client.root if method == "POST" else client.open(10)
    media = PART if method == "PATCH" else {}
    body = b"12345678901" if headers.get("Content-Length") else b"1" if method == "PATCH" else None
    answer = client.ask(method, url, data=body, headers={**media, **headers})
    assert (answer.status_code, answer.headers["Tus-Resumable"]) == (status, "1.0.0")
    if method != "HEAD":
        assert answer.json()["code"] == code
    if status == 412:
        assert answer.headers["Tus-Version"] == "1.0.0"
    if method == "PATCH":
        assert client.offset(url) == 0


@pytest.mark.parametrize("id", ["0" * 32, "x", "..%2F..%2Fetc", "A" * 32])
def test_an_unknown_upload_is_404(client: Client, id: str) -> None:
    assert client.ask("HEAD", client.root + id).status_code == 404


def test_a_method_may_be_named_in_a_header(client: Client) -> None:
    url = client.open(10)
    head = client.ask("POST", url, headers={"X-HTTP-Method-Override": "HEAD"})
    assert (head.status_code, head.headers["Upload-Offset"]) == (200, "0")
    headers = {"X-HTTP-Method-Override": "PATCH", "Upload-Offset": "0", **PART}
    assert client.ask("POST", url, data=b"abc", headers=headers).status_code == 204
    assert client.ask("POST", url, headers={"X-HTTP-Method-Override": "DELETE"}).status_code == 204
    assert client.ask("POST", url, headers={"X-HTTP-Method-Override": "PUT"}).status_code == 405
    assert client.ask("POST", url).status_code == 405


def test_a_chunked_part_counts_too_but_not_beyond_the_length(client: Client) -> None:
    url = client.open(10)
    assert client.ask("PATCH", url, data=iter([b"abc", b"de"]), headers={"Upload-Offset": "0", **PART}).ok
    assert client.offset(url) == 5
    more = client.ask("PATCH", url, data=iter([b"abc", b"def"]), headers={"Upload-Offset": "5", **PART})
    assert more.status_code == 413
    assert client.offset(url) <= 10


# ---- who is the newest request -------------------------------------------------------------------------------------


class HalfOpen:
    """A PATCH over a raw socket that announces ``length`` bytes and sends what it likes."""

    def __init__(self, url: str, offset: int, length: int, **headers: str) -> None:
        where = urlsplit(url)
        self.socket = socket.create_connection((where.hostname, where.port), timeout=30)
        lines = {"Host": where.netloc, "X-Http-Authed-User": "ada", "Content-Length": str(length), **TUS, **PART}
        lines |= {"Upload-Offset": str(offset), **{name.replace("_", "-"): value for name, value in headers.items()}}
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.socket.sendall(f"PATCH {where.path} HTTP/1.1\r\n{text}\r\n".encode())

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def status(self) -> int:
        """Return the status of the answer, 0 when the connection ended without one."""
        line = self.socket.makefile("rb").readline()
        return int(line.split()[1]) if line else 0


PIECE = 256 << 10  # uWSGI hands out no less while more is to come


def size_of(suite: Suite, url: str) -> int:
    return (suite.archive / "spool" / url.rpartition("/")[2]).stat().st_size


def test_a_newer_request_does_not_wait_for_a_half_open_one_which_writes_no_more(client: Client, suite: Suite) -> None:
    posted = bundle({"half": os.urandom(2_000_000)})
    url = client.open(len(posted))
    old = HalfOpen(url, 0, len(posted))
    old.send(posted[: PIECE + 1000])
    until(lambda: size_of(suite, url) >= PIECE, 30, "the first bytes of the old request")
    offset = client.offset(url)
    assert PIECE <= offset <= PIECE + 1000
    new = client.patch(url, offset, posted[offset:1_000_000])
    assert new.status_code == 204
    old.send(b"\0" * (len(posted) - PIECE - 1000))
    assert old.status() == 409
    assert client.offset(url) == 1_000_000
    last = client.patch(url, 1_000_000, posted[1_000_000:])
    assert client.archived(last.headers["X-Pacifica-Job-Id"])["state"] == "OK"


def test_a_newer_part_takes_over_without_asking_first(client: Client, suite: Suite) -> None:
    url = client.open(10 * PIECE)
    old = HalfOpen(url, 0, 10 * PIECE)
    begun = "SELECT attempt FROM upload WHERE id = ?"  # else uWSGI might read a part of the body with the head
    until(lambda: suite.query(begun, url.rpartition("/")[2]) == [(1,)], 30, "the old request")
    old.send(b"a" * BLOCK)  # less may wait in memory for its block to fill
    until(lambda: size_of(suite, url) == BLOCK, 30, "the first bytes of the old request")
    assert client.patch(url, BLOCK, b"b" * 500).status_code == 204
    old.send(b"c" * (10 * PIECE - BLOCK))
    assert old.status() == 409
    assert client.offset(url) == BLOCK + 500


def test_bytes_whose_checksum_was_never_compared_do_not_count(client: Client, suite: Suite) -> None:
    url = client.open(10 * PIECE)
    assert client.patch(url, 0, b"a" * 100).status_code == 204
    old = HalfOpen(url, 100, 4 * PIECE, Upload_Checksum=checksum(b"b" * 4 * PIECE))
    old.send(b"b" * 2 * PIECE)
    until(lambda: size_of(suite, url) > 100, 30, "the first bytes of the old request")
    assert client.offset(url) == 100
    old.socket.close()
    assert client.patch(url, 100, b"c" * 100).status_code == 204
    assert client.offset(url) == 200


def test_what_came_before_the_client_went_away_counts(client: Client, suite: Suite) -> None:
    url = client.open(10 * PIECE)
    old = HalfOpen(url, 0, 10 * PIECE)
    old.send(b"a" * (2 * PIECE + 4321))
    old.socket.close()
    until(lambda: size_of(suite, url) >= 2 * PIECE, 30, "the end of the old request")
    assert 2 * PIECE <= client.offset(url) <= 2 * PIECE + 4321


# ---- time, and the end of a process --------------------------------------------------------------------------------


def brief(suite: Suite, seconds: int) -> Suite:
    """Start a suite where uploads expire after ``seconds``."""
    suite.environment |= {"PACIFICA_INGEST_TUS_EXPIRE_SECONDS": str(seconds), "PACIFICA_AUTH_MODE": "proxy"}
    return suite.start()


def test_an_upload_that_nobody_goes_on_with_expires(own_suite: Suite) -> None:
    suite = brief(own_suite, 1)
    client = Client(suite)
    url = client.open(1000)
    client.patch(url, 0, b"x" * 10)
    until(lambda: suite.spooled() == [], 30, "the reaper")
    assert client.ask("HEAD", url).status_code == 410
    assert client.patch(url, 10, b"x").status_code == 410


def test_the_upload_that_was_complete_when_its_server_died_becomes_a_job(own_suite: Suite) -> None:
    suite = brief(own_suite, 6)  # long enough for it to be killed before
    client = Client(suite)
    posted = bundle({"a": b"a"})
    name = client.open(len(posted)).rpartition("/")[2]
    suite.kill()
    with (suite.archive / "spool" / name).open("ab") as file:  # as if killed between the last byte and the commit
        file.write(posted)
    suite.start()
    client = Client(suite)
    until(lambda: suite.query("SELECT 1 FROM job WHERE state = 'ARCHIVED'"), 60, "the job")
    assert client.ask("HEAD", client.root + name).headers["X-Pacifica-Job-Id"] == "1"


def test_an_upload_goes_on_after_a_restart(own_suite: Suite) -> None:
    own_suite.environment |= {"PACIFICA_AUTH_MODE": "proxy"}
    own_suite.start()
    client, posted = Client(own_suite), bundle(FILES)
    name = client.open(len(posted)).rpartition("/")[2]
    assert client.patch(client.root + name, 0, posted[:999_999]).status_code == 204
    own_suite.kill()
    own_suite.start()
    client = Client(own_suite)
    assert client.offset(client.root + name) == 999_999
    last = client.patch(client.root + name, 999_999, posted[999_999:])
    assert client.archived(last.headers["X-Pacifica-Job-Id"])["state"] == "OK"


def test_one_user_keeps_no_more_room_than_one_user_may(suite: Suite) -> None:
    greedy, other = Client(suite, "greedy"), Client(suite, "modest")
    urls = [greedy.open(MOST) for _ in range(3)]
    refused = greedy.create(1)
    assert (refused.status_code, refused.json()["code"]) == (429, "too_much_unfinished")
    assert int(refused.headers["Retry-After"]) > 0
    posted = {"X-Http-Authed-User": "greedy", "Idempotency-Key": '"one"'}
    upload = f"{suite.urls['ingest']}/upload"
    answer = requests.post(upload, data=bundle(FILES), headers=posted, timeout=60)
    assert (answer.status_code, answer.json()["code"]) == (429, "too_much_unfinished")
    assert other.ask("DELETE", other.open(MOST)).status_code == 204
    for url in urls:
        assert greedy.ask("DELETE", url).status_code == 204
    answer = requests.post(upload, data=bundle(FILES), headers=posted, timeout=60)
    assert answer.status_code == 200, answer.text


def test_of_eight_uploads_that_one_user_opens_at_once_as_many_are_open_as_may_be(suite: Suite) -> None:
    together, clients = threading.Barrier(8), [Client(suite, "eager") for _ in range(8)]

    def opened(client: Client) -> requests.Response:
        client.ask("OPTIONS", client.root)  # the connection stands
        together.wait(30)
        return client.create(MOST)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(opened, clients))
    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [429] * 5
    assert {answer.json()["code"] for answer in answers if answer.status_code == 429} == {"too_much_unfinished"}
    for answer in answers:
        if answer.status_code == 201:
            assert clients[0].ask("DELETE", urljoin(answer.url, answer.headers["Location"])).status_code == 204


def test_bodies_in_chunks_are_held_to_the_same_while_they_grow(suite: Suite) -> None:
    count, posted = 8, bundle({"large": bytes(MOST - (1 << 20))})
    settled, changed = set[int](), threading.Condition()  # whose body is there but for its end, or who has an answer
    url, headers = f"{suite.urls['ingest']}/upload", {"X-Http-Authed-User": "growing"}

    def pieces(end: Callable[[], object]) -> Iterator[bytes]:
        for at in range(0, len(posted), 1 << 19):
            if at + (1 << 19) >= len(posted):
                end()
            yield posted[at : at + (1 << 19)]

    def settle(number: int) -> None:
        with changed:
            settled.add(number)
            changed.notify_all()

    def meet(number: int) -> None:
        settle(number)
        with changed:  # so that no body ends while another still grows
            assert changed.wait_for(lambda: len(settled) == count, 60)

    def sent(number: int) -> requests.Response:
        try:
            return requests.post(url, data=pieces(lambda: meet(number)), headers=headers, timeout=120)
        finally:
            settle(number)

    with ThreadPoolExecutor(count) as pool:
        answers = list(pool.map(sent, range(count)))
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 429} and 1 <= statuses.count(200) <= 3
    for answer in answers:
        told = answer.json()
        state = Client(suite, "growing").archived(str(told["job_id"]))
        assert state["state"] == ("OK" if answer.status_code == 200 else "FAILED")
        assert answer.status_code == 200 or told["code"] == "too_much_unfinished"
    alone = requests.post(url, data=pieces(lambda: None), headers=headers, timeout=60)
    assert alone.status_code == 200  # nothing stays held
