"""Bad bundles and bad clients over real HTTP: each is told which file and what, and leaves nothing behind."""

import hashlib
import json
import re
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from pacifica.tests.ingest.samples import BAD_METADATA, BAD_TARS, BLOCK, END, FILES, GOOD, declared, listed, member, pax
from pacifica.tests.ingest.samples import bundle as raw_bundle
from pacifica.tests.system.bundles import TRANSACTION, bundle, entry
from pacifica.tests.system.scaled import Scaled
from pacifica.tests.system.suite import TAKING_IN, Suite, until

HIDDEN = re.compile(r"Traceback|File \"|\.py\b|/spool|/packs|site-packages|0x[0-9a-f]{6}|sqlite|peewee|msgspec")
PLACE = re.compile(r"^(\S.*|entry \d+|offset \d+): ", re.DOTALL)
PLACELESS = {  # what is wrong with the bundle as a whole, in no one place
    "empty_body", "not_a_tar", "compressed", "metadata_missing", "bad_metadata_json", "transaction_missing", "no_files",
    "too_many_members", "truncated",
}  # fmt: skip


def is_clean(deployment: Suite) -> bool:
    """Tell whether the spool is empty and no pack is in the making."""
    return not deployment.spooled() and not deployment.query("SELECT 1 FROM pack WHERE NOT published")


def refused(deployment: Suite, posted: bytes, **options: Any) -> tuple[str, str]:
    """Upload what is to be refused, see that nothing of it stays, and return (code, what the client reads)."""
    before = deployment.packs()
    answer = requests.post(f"{deployment.urls['ingest']}/upload", data=posted, timeout=60, **options)
    assert answer.status_code == 200, answer.text
    return failed(deployment, answer.json()["job_id"], before)


def failed(deployment: Suite, job_id: int, before: list[str]) -> tuple[str, str]:
    """See job ``job_id`` fail and leave nothing behind; ``before`` are the packs that were there."""
    state = deployment.finished(job_id)
    assert (state["state"], state["complete"]) == ("FAILED", True)
    until(lambda: is_clean(deployment), 30, "a clean archive")
    assert deployment.packs() == before
    assert deployment.files(job_id) == []
    assert not deployment.query('SELECT 1 FROM archivedfile WHERE "transaction" = ?', job_id)
    assert not deployment.query('SELECT 1 FROM "transaction" WHERE id = ?', job_id)
    assert not HIDDEN.search(state["exception"]), state["exception"]
    ((code, faults),) = deployment.query("SELECT code, faults FROM job WHERE id = ?", job_id)
    assert f"[{code}]" in state["exception"]
    assert json.loads(faults)[0]["code"] == code
    assert deployment.log_of(job_id)[-1] == "FAILED"
    sql = "SELECT reason FROM statechange WHERE kind = 'job' AND \"row\" = ? ORDER BY id"
    events = deployment.query(sql, str(job_id))
    assert events[-1][0]
    return code, state["exception"]


def still_works(deployment: Suite) -> None:
    """See a good bundle archived."""
    assert deployment.finished(deployment.upload(GOOD)["job_id"])["state"] == "OK"


# ---- bad bundles ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*BAD_TARS, *BAD_METADATA])
def test_a_bad_bundle_fails_with_its_code_and_place(deployment: Suite, kind: str) -> None:
    expected, posted = kind.partition("-")[0], (BAD_TARS | BAD_METADATA)[kind]
    # an announced length lets a cut be seen at the member that it cuts, before the end has come
    code, told = refused(deployment, iter([posted]) if expected in ("truncated", "no_end_marker") else posted)
    assert code == expected
    assert PLACE.search(told) or code in PLACELESS, told


def test_a_bundle_that_is_cut_off_anywhere_is_refused(deployment: Suite) -> None:
    assert GOOD.endswith(END)
    for cut in range(0, len(GOOD), BLOCK):
        code, _ = refused(deployment, GOOD[:cut])
        assert code in ("empty_body", "truncated", "no_end_marker", "metadata_missing", "size_beyond_body"), cut
    still_works(deployment)


def test_a_bundle_that_is_cut_off_anywhere_is_refused_in_chunks_too(deployment: Suite) -> None:
    for cut in range(0, len(GOOD), BLOCK):
        code, _ = refused(deployment, iter([GOOD[:cut]]) if cut else iter([]))
        assert code in ("empty_body", "truncated", "no_end_marker", "metadata_missing"), cut


def test_a_bundle_without_its_end_marker_is_told_so_at_once(deployment: Suite) -> None:
    for missing in (BLOCK, 2 * BLOCK):
        code, told = refused(deployment, GOOD[:-missing])
        assert (code, told.partition(":")[0]) == ("no_end_marker", "metadata.txt")


def test_of_several_faults_each_is_told(deployment: Suite) -> None:
    contents = {f"f{number}": b"%d" % number for number in range(15)}
    said = [*TRANSACTION, *(entry(path, content, hashsum="0" * 40) for path, content in contents.items())]
    code, told = refused(deployment, bundle(contents, said))
    assert code == "checksum_mismatch"
    assert all(f"data/f{number}: " in told for number in range(10))
    assert told.endswith("... and 5 more")


def test_one_bad_file_among_many_keeps_all_of_them_out(deployment: Suite) -> None:
    contents = {f"f{number}": b"%d" % number for number in range(2000)}
    said = [*TRANSACTION, *(entry(path, content) for path, content in contents.items())]
    said[-1]["hashsum"] = "0" * 40
    code, told = refused(deployment, bundle(contents, said))
    assert (code, told.count("\n")) == ("checksum_mismatch", 0)
    assert told.startswith("data/f1999: ")


def test_a_client_cannot_choose_the_id_of_a_file(deployment: Suite) -> None:
    first = deployment.finished(deployment.upload(bundle({"x": b"mine"}))["job_id"])
    (held,) = deployment.files(first["job_id"])
    posted = bundle({"x": b"evil"}, [*TRANSACTION, entry("x", b"evil", _id=held["_id"], transaction_id=held["_id"])])
    second = deployment.finished(deployment.upload(posted)["job_id"])
    (given,) = deployment.files(second["job_id"])
    assert given["_id"] not in (held["_id"], None)
    assert deployment.content(held["_id"]) == b"mine"


def test_a_very_large_metadata_is_refused_in_bounded_time(deployment: Suite) -> None:
    entries = declared(FILES) + [{"destinationTable": "Files", "name": "x"}] * 300_000
    code, told = refused(deployment, raw_bundle(FILES, entries))
    assert code == "file_missing"
    assert told.endswith("... and 90 more")


def test_two_names_that_differ_in_case_only_are_two_files(deployment: Suite) -> None:
    contents = {"A": b"upper", "a": b"lower", "caf\u00e9": b"composed", "cafe\u0301": b"decomposed"}
    job = deployment.finished(deployment.upload(bundle(contents))["job_id"])
    assert {f["name"]: deployment.content(f["_id"]) for f in deployment.files(job["job_id"])} == contents


def test_folders_and_unknown_attributes_are_passed_by(deployment: Suite) -> None:
    posted = raw_bundle(
        {},
        [*TRANSACTION, listed("d/x", b"alpha")],
        member(b"./", flag=b"5"),
        member(b"./data/", flag=b"5"),
        member(b"data/d/", flag=b"5"),
        pax((b"SCHILY.xattr.user.x", b"\0\xff"), (b"comment", b"hello")),
        member(b"data/d/x", b"alpha"),
        member(b"data/d/", flag=b"5"),
    )
    job = deployment.finished(deployment.upload(posted)["job_id"])
    (file,) = deployment.files(job["job_id"])
    assert (file["subdir"], file["name"], deployment.content(file["_id"])) == ("d", "x", b"alpha")


# ---- bad clients ---------------------------------------------------------------------------------------------------


def raw(deployment: Suite) -> socket.socket:
    """Open a connection to ingest."""
    host, port = deployment.urls["ingest"].removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def head_of(*headers: str) -> bytes:
    """Return the head of an upload."""
    return "\r\n".join(["POST /upload HTTP/1.1", "Host: x", *headers, "", ""]).encode()


def newest_job(deployment: Suite) -> int:
    """Return the id of the job that was begun last, 0 when there is none."""
    return int(deployment.query("SELECT coalesce(max(id), 0) FROM job")[0][0])


def answer_on(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """Read one answer to its end."""
    with connection.makefile("rb") as file:
        status = int(file.readline().split()[1])
        length = 0
        while (line := file.readline()) not in (b"\r\n", b""):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        return status, json.loads(file.read(length))


LARGE = bundle({"x": hashlib.shake_128(b"x").digest(3 << 20)})


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("sent", [0, 1, 700, 1 << 20, (2 << 20) + 77])
@pytest.mark.parametrize("reset", [False, True])
def test_a_client_that_vanishes_in_its_body_leaves_a_failed_job(
    deployment: Suite, framing: str, sent: int, reset: bool
) -> None:
    last, before = newest_job(deployment), deployment.packs()
    with raw(deployment) as connection:
        if framing == "length":
            connection.sendall(head_of(f"Content-Length: {len(LARGE)}") + LARGE[:sent])
        else:
            connection.sendall(head_of("Transfer-Encoding: chunked") + b"%x\r\n" % len(LARGE) + LARGE[:sent])
        until(lambda: newest_job(deployment) > last, 30, "the job")
        if reset:  # close() sends RST instead of FIN
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    code, _ = failed(deployment, last + 1, before)
    assert code == "client_aborted"


def test_a_body_that_ends_between_two_chunks_is_not_taken_for_whole(deployment: Suite) -> None:
    last, before = newest_job(deployment), deployment.packs()
    with raw(deployment) as connection:
        connection.sendall(head_of("Transfer-Encoding: chunked") + b"%x\r\n%b\r\n" % (len(GOOD), GOOD))
        until(lambda: newest_job(deployment) > last, 30, "the job")
        connection.shutdown(socket.SHUT_WR)
        status, told = answer_on(connection)
    assert (status, told["code"], told["job_id"]) == (400, "client_aborted", last + 1)
    failed(deployment, last + 1, before)


@pytest.mark.parametrize(
    "body", [b"zz\r\n", b"-5\r\n", b"5;x=y\r\nalphaX\r\n", b"ffffffffffffffffffff\r\n", b"5\nalpha\n0\n\n", b"\r\n"]
)
def test_malformed_chunks_are_refused(deployment: Suite, body: bytes) -> None:
    last, before = newest_job(deployment), deployment.packs()
    with raw(deployment) as connection:
        connection.sendall(head_of("Transfer-Encoding: chunked") + body)
        status, told = answer_on(connection)
    if isinstance(deployment, Scaled) and status == 200:  # to uWSGI what is no size is the end (docs/errors.md)
        assert failed(deployment, told["job_id"], before)[0] == "empty_body"
        return
    assert (status, told["code"]) == (400, "bad_request")
    assert not HIDDEN.search(json.dumps(told))
    failed(deployment, last + 1, before)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([], 411),
        (["Content-Length: -1"], 400),
        (["Content-Length: 1_0"], 400),
        (["Content-Length: +5"], 400),
        (["Content-Length: 5", "Content-Length: 6"], 400),
        (["Content-Length: 5", "Transfer-Encoding: chunked"], 400),
        (["Transfer-Encoding: gzip, chunked"], 501),
        (["Transfer-Encoding: identity"], 501),
        ([f"Content-Length: {'9' * 30}"], 413),
    ],
)
def test_a_body_without_a_clear_end_makes_no_job(deployment: Suite, headers: list[str], status: int) -> None:
    last = newest_job(deployment)
    with raw(deployment) as connection:
        connection.sendall(head_of(*headers))
        found, told = answer_on(connection)
    assert (found, told["traceback"]) == (status, "")
    assert newest_job(deployment) == last


def test_a_head_that_is_too_large_makes_no_job(deployment: Suite) -> None:
    last = newest_job(deployment)
    with raw(deployment) as connection:
        connection.sendall(head_of(f"X-Much: {'x' * 100_000}"))
        if isinstance(deployment, Scaled):  # uWSGI hangs up
            with suppress(ConnectionResetError):
                assert connection.recv(1) == b""
        else:
            assert answer_on(connection)[0] == 413
    assert newest_job(deployment) == last


# ---- limits --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def narrow(new_suite: Callable[..., Suite], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """A suite with small limits."""
    suite = new_suite(
        tmp_path_factory.mktemp("narrow") / "data",
        {
            "PACIFICA_INGEST_MAX_BYTES": "100000",
            "PACIFICA_INGEST_MAX_MEMBERS": "20",
            "PACIFICA_INGEST_MAX_NAME_BYTES": "60",
            "PACIFICA_INGEST_MAX_METADATA_BYTES": "8000",
            "PACIFICA_SERVER_BODY_TIMEOUT": "1",
            "PACIFICA_INGEST_HASHTYPE": "sha256",
        },
    )
    suite.services = TAKING_IN
    try:
        yield suite.start()
    finally:
        suite.kill()


@pytest.mark.parametrize("expect", [False, True])
def test_a_body_beyond_the_limit_is_refused_before_it_is_sent(narrow: Suite, expect: bool) -> None:
    last = newest_job(narrow)
    with raw(narrow) as connection:
        connection.sendall(head_of("Content-Length: 100001", *(["Expect: 100-continue"] if expect else [])))
        status, told = answer_on(connection)
    assert (status, told["code"], told["max_bytes"]) == (413, "too_large", 100_000)
    assert newest_job(narrow) == last


def test_a_body_beyond_the_limit_that_is_sent_all_the_same_reads_the_answer(narrow: Suite) -> None:
    answer = requests.post(f"{narrow.urls['ingest']}/upload", data=bytes(20 << 20), timeout=30)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_chunks_beyond_the_limit_fail_their_job(narrow: Suite) -> None:
    last, before = newest_job(narrow), narrow.packs()
    posted = bundle({"x": bytes(99_000)})
    answer = requests.post(f"{narrow.urls['ingest']}/upload", data=iter([posted[:50_000], posted[50_000:]]), timeout=30)
    told = answer.json()
    if answer.status_code == 200:  # the member's own size said so first
        assert told["job_id"] == last + 1
    else:
        assert (answer.status_code, told["code"], told["job_id"]) == (413, "too_large", last + 1)
    assert failed(narrow, last + 1, before)[0] in ("size_beyond_body", "too_large")
    endless = requests.post(f"{narrow.urls['ingest']}/upload", data=iter([GOOD, *[bytes(50_000)] * 5]), timeout=30)
    assert (endless.status_code, endless.json()["code"]) == (413, "too_large")
    assert failed(narrow, last + 2, before)[0] == "too_large"


@pytest.mark.parametrize(
    ("contents", "code"),
    [
        ({f"f{number}": b"" for number in range(21)}, "too_many_members"),
        ({"n" * 60: b""}, "name_too_long"),
        ({f"{'m' * 30}{number}": b"" for number in range(20)}, "metadata_too_large"),
    ],
)
def test_a_bundle_beyond_a_limit_fails(narrow: Suite, contents: dict[str, bytes], code: str) -> None:
    said = [*TRANSACTION, *(entry(path, content, more="y" * 300) for path, content in contents.items())]
    found, told = refused(narrow, bundle(contents, said))
    assert found == code, told


def test_digests_of_another_kind_than_the_configured_are_compared(narrow: Suite) -> None:
    posted = raw_bundle(FILES, declared(FILES, "sha512"))
    assert narrow.finished(narrow.upload(posted)["job_id"])["state"] == "OK"


@pytest.mark.parametrize("framing", ["Content-Length: 90000", "Transfer-Encoding: chunked"])
def test_a_body_that_comes_to_a_halt_is_given_up(narrow: Suite, framing: str) -> None:
    last, before = newest_job(narrow), narrow.packs()
    with raw(narrow) as connection:
        connection.sendall(head_of(framing) + (b"" if framing[0] == "C" else b"9000\r\n") + GOOD[:1000])
        status, told = answer_on(connection)
    assert (status, told["code"]) == (408, "body_too_slow")
    assert failed(narrow, last + 1, before)[0] == "body_too_slow"


def test_without_room_an_upload_is_refused_before_it_is_sent(new_suite: Callable[..., Suite], tmp_path: Path) -> None:
    suite = new_suite(tmp_path / "data", {"PACIFICA_ARCHIVE_MIN_FREE_BYTES": str(1 << 60)})
    suite.services = TAKING_IN
    try:
        suite.start()
        answer = requests.post(f"{suite.urls['ingest']}/upload", data=GOOD, timeout=30)
        assert (answer.status_code, answer.json()["code"]) == (507, "no_space")
        assert answer.headers["Retry-After"]
        assert newest_job(suite) == 0
        assert suite.spooled() == []
    finally:
        suite.kill()
