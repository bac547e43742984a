"""Ranges, preconditions and names in headers; over the wire under both servers."""

import re
import socket
from typing import Any

import pytest
import requests
from hypothesis import example, given
from hypothesis import strategies as st

from pacifica.common.errors import RangeNotSatisfiable
from pacifica.common.ranges import content_disposition, header_text, parse_range

SIZE = 3_000_000
MODIFIED = "Sun, 09 Sep 2001 01:46:40 GMT"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("bytes=0-0", (0, 1)),
        ("bytes=5-9", (5, 10)),
        ("bytes=90-", (90, 100)),
        ("bytes=90-1000", (90, 100)),
        ("bytes=-10", (90, 100)),
        ("bytes=-1000", (0, 100)),
        ("BYTES = 5 - 9 ", (5, 10)),
        ("bytes=0-1,5-6", None),
        ("bytes=0-1,", None),
        ("bytes=9-5", None),
        ("bytes=-", None),
        ("bytes=", None),
        ("bytes=a-b", None),
        ("bytes=+1-2", None),
        ("bytes=1-2-3", None),
        ("lines=1-2", None),
        ("bytes=\u0661-\u0662", None),
        ("bytes=0-" + "9" * 5000, None),
    ],
)
def test_one_range_is_served_and_everything_else_ignored(header, expected):
    assert parse_range(header, 100) == expected


@pytest.mark.parametrize(
    ("header", "size"), [("bytes=100-", 100), ("bytes=100-200", 100), ("bytes=-0", 100), ("bytes=0-", 0)]
)
def test_a_range_without_a_byte_is_416(header, size):
    with pytest.raises(RangeNotSatisfiable) as refused:
        parse_range(header, size)
    assert refused.value.headers == {"Content-Range": f"bytes */{size}"}


def test_the_end_of_nothing_is_nothing_but_no_error():
    assert parse_range("bytes=-5", 0) is None


@given(st.integers(0, 1000), st.integers(0, 1200), st.integers(0, 1200))
def test_a_range_lies_within_the_representation(size, first, last):
    try:
        part = parse_range(f"bytes={first}-{last}", size)
    except RangeNotSatisfiable:
        assert first >= size
        return
    if part is None:
        assert last < first
    else:
        assert 0 <= first == part[0] < part[1] == min(last + 1, size)


# ---- over the wire -----------------------------------------------------------------------------------------------


def get(served: Any, path: str = f"/download?size={SIZE}", method: str = "GET", **headers: str) -> requests.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.request(method, served.url + path, headers=names, timeout=10)


def test_everything_has_exact_length_tag_date_and_harmless_headers(served, wire):
    answer = get(served)
    assert answer.content == wire.pattern(0, SIZE)
    headers = answer.headers
    assert (headers["Content-Length"], headers["ETag"], headers["Last-Modified"]) == (str(SIZE), '"abc"', MODIFIED)
    assert (headers["Accept-Ranges"], headers["X-Content-Type-Options"]) == ("bytes", "nosniff")
    assert headers["Content-Security-Policy"].startswith("sandbox")
    assert headers["Content-Disposition"] == "attachment; filename=\"_ b.tar\"; filename*=UTF-8''%C3%A4%20b.tar"
    assert served.seen(lambda said: len(said) == 2) == [f"opened 0 {SIZE}", "closed"]


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        ("bytes=5-9", 5, 10),
        ("bytes=2999990-", 2999990, SIZE),
        ("bytes=-7", SIZE - 7, SIZE),
        ("bytes=1000000-2500000", 1000000, 2500001),
    ],
)
def test_a_range_is_206_with_its_bytes(served, wire, header, start, stop):
    answer = get(served, Range=header)
    assert (answer.status_code, answer.content) == (206, wire.pattern(start, stop))
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{SIZE}"


@pytest.mark.parametrize(
    "headers", [{"Range": "bytes=0-1,5-6"}, {"Range": "nonsense"}, {"Range": "bytes=5-9", "If-Range": '"old"'}]
)
def test_what_cannot_be_partial_is_sent_whole(served, headers):
    answer = get(served, **headers)
    assert (answer.status_code, len(answer.content)) == (200, SIZE)


def test_an_unsatisfiable_range_is_416_and_says_the_size(served):
    answer = get(served, Range=f"bytes={SIZE}-")
    assert (answer.status_code, answer.headers["Content-Range"]) == (416, f"bytes */{SIZE}")
    assert answer.json()["code"] == "range_not_satisfiable"
    assert "ETag" not in answer.headers


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        ({"If-Range": '"abc"'}, 206),
        ({"If-Range": MODIFIED}, 206),
        ({"If-Range": 'W/"abc"'}, 200),
        ({"If-Range": "Sun, 09 Sep 2001 01:46:41 GMT"}, 200),
        ({"If-Range": "gibberish"}, 200),
        ({"If-None-Match": '"abc"'}, 304),
        ({"If-None-Match": '"x", W/"abc"'}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"x"', "If-Modified-Since": MODIFIED}, 206),
        ({"If-Modified-Since": MODIFIED}, 304),
        ({"If-Modified-Since": "Sun, 09 Sep 2001 01:46:39 GMT"}, 206),
        ({"If-Match": '"abc"'}, 206),
        ({"If-Match": '"x"'}, 412),
        ({"If-Match": 'W/"abc"'}, 412),
        ({"If-Unmodified-Since": MODIFIED}, 206),
        ({"If-Unmodified-Since": "Sun, 09 Sep 2001 01:46:39 GMT"}, 412),
    ],
)
def test_preconditions_are_judged_as_rfc_9110_orders_them(cheroot, condition, status):
    answer = get(cheroot, Range="bytes=0-9", **condition)
    assert answer.status_code == status
    if status == 304:
        assert (answer.content, answer.headers["ETag"]) == (b"", '"abc"')


def test_head_tells_the_length_and_never_runs_the_producer(served):
    answer = get(served, method="HEAD", Range="bytes=0-9")
    assert (answer.status_code, answer.headers["Content-Length"], answer.content) == (200, str(SIZE), b"")
    assert served.seen(lambda said: True) == []


def test_a_file_of_nothing_is_an_answer(served):
    answer = get(served, "/download?size=0")
    assert (answer.status_code, answer.headers["Content-Length"], answer.content) == (200, "0", b"")


@pytest.mark.parametrize("how", ["bad=2500000", "short=2500000", "bad=1048576"])
def test_a_failure_in_the_middle_breaks_the_connection_and_curl_notices(served, how, tmp_path):
    done = served.curl(f"/download?size={SIZE}&{how}", "-o", tmp_path / "got", "-w", "%{http_code}")
    assert (done.returncode, done.stdout) == (18, b"200")
    assert served.seen(lambda said: len(said) == 2)[-1] == "closed"


def test_a_failure_in_the_middle_of_a_chunked_answer_is_noticed_too(served):
    whole = served.curl("/stream")
    assert (whole.returncode, whole.stdout) == (0, b"a" * 1000)
    assert served.curl("/stream?bad=1").returncode == 18


def test_an_answer_of_unknown_length_ends_for_old_clients_too(served):
    whole = served.curl("/stream", "--http1.0")
    assert (whole.returncode, whole.stdout) == (0, b"a" * 1000)


def test_a_failure_before_the_first_byte_is_a_plain_error(served):
    answer = get(served, f"/download?size={SIZE}&bad=0")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "secret" not in answer.text
    assert get(served, "/stream?bad=first").status_code == 409
    assert get(served, "/download?size=10").content == bytes(range(10))


def test_a_client_that_goes_away_closes_the_producer(served):
    with socket.create_connection(("127.0.0.1", served.port), timeout=5) as connection:
        connection.sendall(b"GET /download?size=500000000 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(1000)
    assert served.seen(lambda said: len(said) == 2)[-1] == "closed"


# ---- names in headers --------------------------------------------------------------------------------------------

TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# RFC 6266 §4.1 with RFC 8187 §3.2.1, written down again from the grammar
PARAMETER = re.compile(
    rf"""[ \t]*;[ \t]*(?:
    (?P<extended>{TOKEN})\*=(?P<charset>[A-Za-z0-9-]+)'(?P<language>[A-Za-z0-9-]*)'(?P<encoded>(?:%[0-9A-F]{{2}}|[!#$&+.^_`|~0-9A-Za-z-])*)
    |(?P<plain>{TOKEN})=(?:(?P<token>{TOKEN})|"(?P<quoted>(?:[\t \x21\x23-\x5b\x5d-\x7e]|\\[\t \x21-\x7e])*)"))""",
    re.VERBOSE,
)


def strictly(value: str) -> dict[str, str]:
    """Parse a Content-Disposition value, or fail."""
    disposition = re.match(TOKEN, value)
    assert disposition
    found, place = {"": disposition[0]}, disposition.end()
    while place < len(value):
        parameter = PARAMETER.match(value, place)
        assert parameter, value[place:]
        name = (parameter["extended"] or parameter["plain"]).lower() + ("*" if parameter["extended"] else "")
        assert name not in found
        if parameter["extended"]:
            assert parameter["charset"] == "UTF-8"
            encoded = parameter["encoded"].encode()
            found[name] = re.sub(rb"%(..)", lambda m: bytes([int(m[1], 16)]), encoded).decode("utf-8")
        else:
            found[name] = parameter["token"] or re.sub(r"\\(.)", r"\1", parameter["quoted"])
        place = parameter.end()
    return found


@given(st.text(max_size=300))
@example('a"b\\c%22.tar')
@example("x\r\nSet-Cookie: a=b")
@example("../../etc/passwd")
@example("\x00")
@example("..")
@example("")
@example("\ud800")
@example("\u202egnp.exe")
@example("日本語 файл.tar")
def test_no_name_breaks_out_of_the_header_or_the_folder(name):
    value = content_disposition(name)
    assert value.isascii()
    assert value.isprintable()
    found = strictly(value)
    assert found[""] == "attachment"
    for shown in (found["filename"], found.get("filename*", found["filename"])):
        assert shown
        assert not set(shown) & set("/\\\r\n\x00\u202e")
        assert shown not in {".", ".."}


@given(st.text(alphabet=st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=255))
def test_an_honest_name_arrives_as_it_is(name):
    found = strictly(content_disposition(name))
    assert found.get("filename*", found["filename"]) == name


@given(st.text())
def test_header_text_is_one_printable_line(text):
    shown = header_text(text)
    assert shown.isascii()
    assert not shown or shown.isprintable()
    assert len(shown) == len(text)
