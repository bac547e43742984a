"""Bodies over the wire, under the built-in server and under real uWSGI."""

import hashlib
import io
import json
import re
import select
import socket
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from pacifica.common import documents, streams, transport
from pacifica.common.config import Server
from pacifica.common.connection import BodyTooSlow, Connection
from pacifica.common.errors import BadJson, BadRequest, ClientAborted, LengthRequired, TooLarge
from pacifica.common.streams import Body

HOST = b" HTTP/1.1\r\nHost: x\r\n"
NEXT = b"GET /item/next" + HOST + b"\r\n"


@pytest.fixture(scope="session")
def payload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("payload") / "5m"
    path.write_bytes(bytes(range(251)) * 20_000)
    return path


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "50m"
    with path.open("wb") as file:
        file.truncate(50_000_000)
    return path


def exchange(port: int, data: bytes, answers: int = 1) -> bytes:
    """Send ``data`` raw and return all that comes back until the server closes, or is silent for half a second.

    For so many ``answers`` as are due it may take its time.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(data)
        answer = b""
        try:
            while piece := connection.recv(65536):
                answer += piece
                connection.settimeout(0.5 if whole(answer) >= answers else 30)
        except TimeoutError:
            return answer + b"<silence>"
        return answer + b"<closed>"


def whole(answer: bytes) -> int:
    """Return how many answers with a length have come to their end."""
    count = 0
    while (split := answer.partition(b"\r\n\r\n"))[1]:
        length = re.search(rb"(?i)^content-length: *(\d+)", split[0], re.MULTILINE)
        if length is None or len(split[2]) < int(length[1]):
            break
        answer, count = split[2][int(length[1]) :], count + 1
    return count


def statuses(answer: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"^(?:.*})?HTTP/1\.[01] (\d{3}) ", answer, re.MULTILINE)]


def sha1(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


# ---- whole bodies ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
@pytest.mark.parametrize("content_type", ["", "multipart/form-data; boundary=x", "text/xml", "nonsense;;="])
def test_any_content_type_gives_the_raw_body_curls_form_type_included(served, payload, method, content_type):
    header = ["-H", f"Content-Type: {content_type}"] if content_type else []
    done = served.curl("/upload", "-X", method, "--data-binary", f"@{payload}", *header)
    assert json.loads(done.stdout) == {"received": 5_020_000, "length": 5_020_000, "sha1": sha1(payload)}


def test_a_chunked_body_arrives_whole(served, payload):
    done = served.curl("/upload", "-T", payload, "-H", "Transfer-Encoding: chunked")
    assert json.loads(done.stdout) == {"received": 5_020_000, "length": None, "sha1": sha1(payload)}


@pytest.mark.parametrize("coding", [(), ("-H", "Transfer-Encoding: chunked")])
def test_expect_100_continue_is_answered_at_once(served, payload, coding):
    patient = ("--expect100-timeout", "60")  # it gives up waiting, and sends, after a second else; after 20 it ends
    done = served.curl("/upload", "-T", payload, "-H", "Expect: 100-continue", *coding, *patient)
    assert json.loads(done.stdout)["received"] == 5_020_000


def test_an_empty_body_is_a_body(served):
    assert requests.put(f"{served.url}/upload", data=b"", timeout=5).json()["received"] == 0


def test_a_body_of_unknown_end_is_refused_with_411(served):
    assert statuses(exchange(served.port, b"PUT /upload" + HOST + b"\r\n")) == [411]


# ---- refused bodies ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("expect", ["Expect:", "Expect: 100-continue"])
@pytest.mark.parametrize("coding", [(), ("-H", "Transfer-Encoding: chunked")], ids=["length", "chunked"])
@pytest.mark.parametrize("path", ["/upload?max_bytes=1000", "/nowhere", "/broken"])
def test_a_client_that_still_sends_50_mb_sees_our_answer_and_no_reset(served, large, path, coding, expect):
    done = served.curl(path, "-T", large, "-H", expect, *coding, "-w", "\n%{http_code}")
    body, status = done.stdout.rsplit(b"\n", 1)
    assert (done.returncode, int(status)) == (0, {"/nowhere": 404, "/broken": 409}.get(path, 413))
    assert json.loads(body)["traceback"] == ""


def test_a_client_that_sends_all_before_it_reads_sees_our_answer_too(served, large):
    with large.open("rb") as body:
        assert requests.put(f"{served.url}/upload?max_bytes=1000", data=body, timeout=10).status_code == 413


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5\r\nContent-Length: 5\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: -5\r\n",
        b"Content-Length: 5_0\r\n",
        b"Content-Length: 0x5\r\n",
        b"Transfer-Encoding: chunked, gzip\r\n",
        b"Transfer-Encoding: xchunked\r\n",
    ],
)
def test_framing_that_two_readers_read_differently_ends_the_connection(served, head):
    answer = exchange(served.port, b"PUT /upload" + HOST + head + b"\r\n0\r\n\r\n" + NEXT)
    assert re.search(rb"\b(400 Bad Request|501 Not Implemented)\b", answer)
    assert b'"name": "next"' not in answer
    assert answer.endswith(b"<closed>")


@pytest.mark.parametrize(
    "chunks",
    [b"zz\r\nhello\r\n0\r\n\r\n", b"5\r\nhelloXX\r\n0\r\n\r\n", b"5\nhello\r\n0\r\n\r\n", b"-5\r\nhello\r\n", b"\r\n"],
)
def test_a_malformed_chunk_is_400_and_never_desynchronises_the_connection(served, chunks):
    answer = exchange(served.port, b"PUT /upload" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + NEXT)
    if served.kind == "cheroot":
        assert statuses(answer) == [400]
    assert b'"name": "next"' not in answer
    assert answer.endswith(b"<closed>")


def test_a_chunked_body_with_extensions_and_trailers_leaves_the_next_request_intact(cheroot):
    chunks = b"5;a=b\r\nhello\r\n3 \r\nyou\r\n0\r\nX-Sum: 1\r\n\r\n"
    answer = exchange(cheroot.port, b"PUT /upload" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + NEXT, 2)
    assert statuses(answer) == [200, 200]
    assert hashlib.sha1(b"helloyou").hexdigest().encode() in answer


def test_a_small_unread_body_does_not_cost_the_connection(cheroot):
    answer = exchange(cheroot.port, b"PUT /broken" + HOST + b"Content-Length: 5\r\n\r\nhello" + NEXT, 2)
    assert statuses(answer) == [409, 200]


def test_an_answer_says_when_its_connection_ends(served):
    answer = exchange(served.port, NEXT)
    assert answer.endswith(b"<closed>") == (served.kind == "--http-socket")
    assert (b"\r\nConnection: close\r\n" in answer) == answer.endswith(b"<closed>")


def test_an_unread_chunked_body_is_never_taken_for_a_request(served):
    smuggled = b"PUT /broken" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + NEXT
    answer = exchange(served.port, smuggled + NEXT)
    assert statuses(answer)[:1] == [409]
    assert b'"name": "next"' not in answer


# ---- clients that vanish or linger -------------------------------------------------------------------------------


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize(
    "start",
    [
        b"Content-Length: 500\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\nff\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_a_client_that_vanishes_is_client_aborted(served, start, hard):
    with socket.create_connection(("127.0.0.1", served.port), timeout=5) as connection:
        connection.sendall(b"PUT /upload" + HOST + start)
        if not hard:
            connection.shutdown(socket.SHUT_WR)
            assert b'"code": "client_aborted"' in _until_closed(connection)
    assert served.seen(bool) == ["client_aborted"]


@pytest.mark.parametrize(
    "start", [b"Content-Length: 70000\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\nff\r\nhello"]
)
def test_a_body_that_comes_to_a_halt_is_given_up_with_408(served, start):
    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as connection:
        connection.sendall(b"PUT /upload?idle=0.3" + HOST + start)
        answer = _until_closed(connection)
    assert statuses(answer) == [408]
    assert b'"code": "body_too_slow"' in answer


def test_uwsgi_waits_as_long_for_a_body_as_we_do(hasty):
    with socket.create_connection(("127.0.0.1", hasty.port), timeout=10) as connection:
        connection.sendall(b"PUT /upload?idle=8" + HOST + b"Content-Length: 70000\r\nConnection: close\r\n\r\n")
        for piece in (b"hel", b"x" * 69_000, b"y" * 990):
            assert not select.select([connection], [], [], 1.5)[0]  # longer than uWSGI's own patience
            connection.sendall(piece)
        connection.sendall(b"enough!")
        assert b'"received": 70000' in _until_closed(connection)


class Fed(Connection):
    """A connection that delivers what it was given, on a clock of its own."""

    def __init__(self, data: bytes, *, seconds: float = 0.0, piece: int = 1 << 20, **environ: Any) -> None:
        super().__init__({"REQUEST_METHOD": "PUT", "SERVER_PROTOCOL": "HTTP/1.1", **environ})
        self.data, self.seconds, self.piece = io.BytesIO(data), seconds, piece
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def readinto(self, view: memoryview) -> int:
        self.now += self.seconds
        piece = self.data.read(min(len(view), self.piece))
        view[: len(piece)] = piece
        return len(piece)


def test_a_body_below_the_lowest_rate_is_given_up_only_for_the_time_that_the_client_took(monkeypatch):
    slow = Fed(bytes(10_000), seconds=2.0, piece=100, CONTENT_LENGTH="10000")
    monkeypatch.setattr(streams, "time", slow)
    with pytest.raises(BodyTooSlow):
        Body(slow, None, Server(min_body_rate=1000)).drain(1 << 20)
    enough = Fed(bytes(10_000), seconds=2.0, piece=100, CONTENT_LENGTH="10000")
    monkeypatch.setattr(streams, "time", enough)
    Body(enough, None, Server(min_body_rate=50)).drain(1 << 20)


def test_after_an_error_every_read_raises_the_same_error():
    body = Body(Fed(b"short", CONTENT_LENGTH="10"), None, None)
    with pytest.raises(ClientAborted) as first:
        body.drain(100)
    with pytest.raises(ClientAborted) as second:
        body.readinto(memoryview(bytearray(10)))
    assert second.value is first.value
    assert first.value.detail == {"received": 5, "content_length": 10}
    assert not body.finished


def test_a_body_ends_at_its_length_whatever_follows():
    body = Body(Fed(b"hellomore", CONTENT_LENGTH="5"), None, None)
    assert body.read_all(5) == b"hello"
    assert (body.received, body.finished, body.readinto(memoryview(bytearray(9)))) == (5, True, 0)


@pytest.mark.parametrize(
    ("environ", "limit"), [({"CONTENT_LENGTH": "6"}, 5), ({"HTTP_TRANSFER_ENCODING": "chunked"}, 5)]
)
def test_a_body_beyond_the_limit_is_too_large_known_or_not(environ, limit):
    with pytest.raises(TooLarge):
        Body(Fed(b"sixsix", **environ), None, None).read_all(limit)
    with pytest.raises(TooLarge):
        Body(Fed(b"sixsix", **environ), limit, None).drain(100)


def _until_closed(connection: socket.socket) -> bytes:
    answer = b""
    while piece := connection.recv(65536):
        answer += piece
    return answer


def test_chunks_that_nginx_has_read_have_a_length_and_those_of_a_client_beside_one_are_refused():
    both = {"CONTENT_LENGTH": "5", "HTTP_TRANSFER_ENCODING": "chunked"}
    request = {"REQUEST_METHOD": "PUT", "SERVER_PROTOCOL": "HTTP/1.1", **both}
    proxied = transport.Uwsgi({**request, "REQUEST_SCHEME": "http", "REMOTE_PORT": "5000"})
    assert (proxied.fault, proxied.length, proxied.chunked) == (None, 5, False)
    for direct in ({}, {"UWSGI_ROUTER": "http", "REMOTE_PORT": "5000"}):
        assert isinstance(transport.Uwsgi({**request, **direct}).fault, BadRequest)


# ---- JSON --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason", "where"),
    [
        (b"", "Expecting value", "line 1 column 1"),
        (b'{"a": 1,\n}', "Expecting property name enclosed in double quotes", "line 2 column 1"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "key given twice", "$.b.c"),
        (b'[1, {"x": NaN}]', "NaN is not JSON", "$[1].x"),
        (b"-Infinity", "-Infinity is not JSON", "$"),
        (b"[1e999]", "number too large", "$[0]"),
        (b"[9223372036854775808]", "integer beyond 64 bits", "$[0]"),
        (b"[" + b"9" * 900 + b"]", "integer beyond 64 bits", "$[0]"),
        (b'{"a": ["\\ud800"]}', "lone surrogate", "$.a[0]"),
        (b'{"\\udfff": 1}', "lone surrogate in a key", "$"),
        (b'"\xff"', "not UTF-8", "byte 1"),
        (b"\xef\xbb\xbf{}", "Unexpected UTF-8 BOM (decode using utf-8-sig)", "line 1 column 1"),
        (b"[" * 65 + b"]" * 65, "nested deeper than 64", "$" + "[0]" * 64),
        (b"[" * 100_000, "nested deeper than 64", "$"),
        (b'{"a":' * 100_000, "nested deeper than 64", "$"),
    ],
)
def test_what_json_libraries_read_differently_is_refused_with_reason_and_place(text, reason, where):
    with pytest.raises(BadJson) as refused:
        documents.loads(text)
    assert refused.value.detail == {"reason": reason, "where": where}
    assert refused.value.message == "Invalid JSON document"


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_every_honest_document_survives(value):
    assert documents.loads(json.dumps(value).encode()) == value


@given(st.binary(max_size=200) | st.text(alphabet='[]{}",:0eE+-.\\u dN', max_size=40).map(str.encode))
def test_no_text_raises_anything_but_bad_json(data):
    try:
        documents.loads(data)
    except BadJson as error:
        assert set(error.detail) == {"reason", "where"}


def test_a_json_body_is_capped_by_bytes_and_types_over_the_wire(served):
    def post(data: bytes, path: str = "/json", **headers: str) -> requests.Response:
        return requests.post(served.url + path, data=data, headers=headers, timeout=5)

    assert post(b'{"a": [1]}').json() == {"got": {"a": [1]}}
    assert post(b"[" + b" " * 1000 + b"]").status_code == 413
    bad = post(b'{"a": 1, "a": 1}')
    assert (bad.status_code, bad.json()["message"], bad.json()["where"]) == (400, "Invalid JSON document", "$.a")
    assert post(b"[]", "/json?strict=1", **{"Content-Type": "text/plain"}).status_code == 415
    assert post(b"[]", "/json?strict=1", **{"Content-Type": "application/json; charset=utf-8"}).json() == {"got": []}


def test_other_servers_chunks_are_refused_unless_they_end_the_input_themselves():
    chunked = {"REQUEST_METHOD": "PUT", "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_TRANSFER_ENCODING": "chunked"}
    ended = Connection({**chunked, "wsgi.input": io.BytesIO(b"hello"), "wsgi.input_terminated": True})
    assert Body(ended, None, None).read_all(10) == b"hello"
    with pytest.raises(LengthRequired):
        Body(Connection({**chunked, "wsgi.input": io.BytesIO(b"")}), None, None).read_all(10)
