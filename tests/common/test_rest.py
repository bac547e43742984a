"""Dispatch, errors, traces and health of an application, called in this process; and over the wire where it matters."""

import io
import json
import logging
import re
import sys
from typing import Any

import cherrypy
import pytest
import requests

from pacifica.common import health, orm, rest, trace
from pacifica.common.auth import public
from pacifica.common.config import Auth
from pacifica.common.errors import BadConfiguration, DatabaseAway, NoSpace
from pacifica.common.version import VERSION
from pacifica.common.volume import Volume

TRACE = "0af7651916cd43dd8448eb211c80319c"


class Settings:
    auth = Auth()


def call(app: Any, path: str, method: str = "GET", query: str = "", body: bytes = b"", **environ: Any) -> Any:
    """Return (status, headers, body) of one request."""
    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SCRIPT_NAME": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "localhost",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.url_scheme": "http",
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        **environ,
    }
    told: list[Any] = []
    answer = app({name: value for name, value in environ.items() if value is not None}, lambda *head: told.extend(head))
    try:
        content = b"".join(answer)
    finally:
        answer.close()
    return int(told[0].split()[0]), {name.lower(): value for name, value in told[1]}, content


@pytest.fixture
def app(wire):
    return wire.application


# ---- dispatch ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        ("/item/a", "", {"name": "a", "more": [], "number": 0, "rest": {}}),
        ("//item///a//b/", "", {"name": "a", "more": ["b"], "number": 0, "rest": {}}),
        ("/item/a%2Fb/..", "", {"name": "a/b", "more": [".."], "number": 0, "rest": {}}),
        ("/with.dot/a", "number=3&x=1&x=2", {"name": "a", "more": [], "number": 3, "rest": {"x": ["1", "2"]}}),
        ("/item/__class__", "", {"name": "__class__", "more": [], "number": 0, "rest": {}}),
    ],
)
def test_parts_of_the_path_find_children_then_arguments(app, path, query, expected):
    status, headers, body = call(app, path, query=query)
    assert (status, headers["content-type"], json.loads(body)) == (200, "application/json", expected)


@pytest.mark.parametrize(
    "path",
    [
        "/__class__",
        "/__init__",
        "/hidden",
        "/GET",
        "/exposed",
        "/seen/seen",
        "/item.",
        "/with_dot/a",
        "/seen/__class__",
        "/seen/said",
    ],
)
def test_nothing_but_exposed_resources_is_reached(app, path):
    status, _, body = call(app, path)
    assert (status, json.loads(body)["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("path", "query", "status", "fact"),
    [
        ("/item/a", "number=1&number=2", 400, {"parameter": "number"}),
        ("/item/a", "name=b", 400, {"parameter": "name"}),
        ("/item", "", 400, {"parameters": ["name"]}),
        ("/download", "colour=1", 400, {"parameter": "colour"}),
        ("/stream/a/b", "", 404, {}),
        ("/item/a", "number=%ff", 400, {"message": "The query is not percent-encoded UTF-8."}),
    ],
)
def test_what_a_handler_has_no_use_for_is_the_clients_fault(app, path, query, status, fact):
    answered, _, body = call(app, path, query=query)
    assert answered == status
    assert json.loads(body).items() >= fact.items()


def test_a_type_error_inside_a_handler_stays_ours(app):
    class Root:
        exposed = True

        def GET(self) -> None:
            raise TypeError("missing 1 required positional argument")

    assert call(rest.application(Root(), Settings(), service="test"), "/")[0] == 500


def test_a_wrong_method_is_405_with_allow(app):
    status, headers, _ = call(app, "/broken", "DELETE")
    assert (status, headers["allow"]) == (405, "GET, HEAD, POST, PUT")
    assert call(app, "/nowhere", "DELETE")[0] == 404


def test_a_method_is_told_by_the_path_that_it_needs():
    class Items:
        exposed = True

        def GET(self, name: str = "", *, text: str = "") -> list[str]:
            return [name, text]

        def DELETE(self, name: str) -> str:
            return name

        def POST(self, name: str, action: str) -> list[str]:
            return [name, action]

    class Wanting:
        exposed = True

        def GET(self, *, text: str) -> str:
            return text

    class Root:
        exposed, items, wanting = True, Items(), Wanting()

        @public
        def GET(self) -> None:
            return None

    app = rest.application(Root(), Settings(), service="test")

    def answered(method: str, path: str) -> tuple[int, str]:
        status, headers, _ = call(app, path, method)
        return status, headers.get("allow", "")

    assert answered("POST", "/items") == answered("DELETE", "/items") == (405, "GET, HEAD")
    assert answered("POST", "/items/a") == (405, "DELETE, GET, HEAD")
    assert answered("PUT", "/items/a/cancel") == (405, "POST")
    for method, path in (("GET", "/items"), ("GET", "/items/a"), ("DELETE", "/items/a"), ("POST", "/items/a/b")):
        assert answered(method, path) == (200, "")
    assert answered("GET", "/items/a/cancel") == answered("POST", "/items/a/b/c") == (404, "")
    assert answered("GET", "/wanting") == (400, "")


@pytest.mark.parametrize("word", ["=?utf-8?q?=00=ff?=", "=?bogus?b?!?=", "=?utf-8?b?/w==?=", "=?utf-8?q?=0d=0aX:?="])
def test_headers_are_taken_as_they_came(word):
    class Root:
        exposed = True

        @public
        def GET(self) -> list[str]:
            return [cherrypy.request.headers["X-Word"], *cherrypy.request.cookie]

    app = rest.application(Root(), Settings(), service="test")
    status, _, body = call(app, "/", HTTP_X_WORD=word, HTTP_COOKIE=f"a={word}; b\x01")
    assert (status, json.loads(body)) == (200, [word])


def test_without_a_host_no_request_of_http_1_1_is_answered(app):
    status, _, body = call(app, "/", HTTP_HOST=None)
    assert (status, json.loads(body)["message"]) == (400, "HTTP/1.1 requires a 'Host' request header.")
    assert call(app, "/", HTTP_HOST=None, SERVER_PROTOCOL="HTTP/1.0")[0] == 200


def test_head_is_get_without_its_body(app):
    status, headers, body = call(app, "/", "HEAD")
    assert (status, headers["content-length"], body) == (200, "17", b"")


# ---- errors ------------------------------------------------------------------------------------------------------


def test_every_error_has_pacificas_keys_rfc_9457s_the_code_and_the_facts(app):
    status, headers, body = call(app, "/broken", "PUT", HTTP_TRACEPARENT=f"00-{TRACE}-b7ad6b7169203331-01")
    assert (status, headers["content-type"], headers["cache-control"]) == (409, "application/json", "no-store")
    assert json.loads(body) == {
        "status": "409 Conflict",
        "message": "Not now",
        "traceback": "",
        "version": VERSION,
        "type": "urn:pacifica:error:conflict",
        "title": "The state of the resource forbids that.",
        "detail": "Not now",
        "instance": "/broken",
        "code": "conflict",
        "retryable": False,
        "trace": TRACE,
        "job_id": 7,
    }


def test_an_unknown_failure_tells_the_log_everything_and_the_client_a_trace_id(app, caplog):
    status, _, body = call(app, "/broken", HTTP_TRACEPARENT=f"00-{TRACE}-b7ad6b7169203331-01")
    told = json.loads(body)
    assert (status, told["code"], told["trace"]) == (500, "internal_error", TRACE)
    assert b"secret" not in body
    assert b"Traceback" not in body
    record = next(record for record in caplog.records if record.levelno == logging.ERROR)
    assert (record.trace, str(record.exc_info[1])) == (TRACE, "/a/secret/path")


def test_what_may_be_tried_again_says_when(app):
    status, headers, body = call(app, "/broken", "POST")
    assert (status, headers["retry-after"], json.loads(body)["retryable"]) == (507, "60", True)


@pytest.mark.parametrize(
    "environ",
    [
        {"HTTP_HOST": None},
        {"SERVER_PROTOCOL": "HTTP/x.y"},
        {"SERVER_PROTOCOL": "nonsense"},
        {"REQUEST_METHOD": None},
        {"CONTENT_LENGTH": "5, 5"},
        {"CONTENT_LENGTH": "5", "HTTP_TRANSFER_ENCODING": "chunked"},
    ],
)
def test_what_is_no_http_is_400_in_the_same_shape(app, environ):
    status, headers, body = call(app, "/", **environ)
    assert (status, json.loads(body)["code"], headers["content-type"]) == (400, "bad_request", "application/json")


def test_a_transfer_coding_that_nobody_reads_is_501_and_no_fault_of_ours(app, caplog):
    status, headers, body = call(app, "/", HTTP_TRANSFER_ENCODING="gzip")
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []
    assert (status, json.loads(body)["code"]) == (501, "unknown_coding")
    assert headers["content-type"] == "application/json"


def test_a_configuration_error_names_no_file_to_clients():
    class Root:
        exposed = True

        def GET(self) -> None:
            raise BadConfiguration("/etc/secret.ini: nonsense", path="/etc/secret.ini")

    status, _, body = call(rest.application(Root(), Settings(), service="test"), "/")
    assert (status, b"secret" in body) == (500, False)


def test_an_application_that_lets_nobody_in_is_not_made():
    class Wrong:
        auth = Auth(mode="token")

    with pytest.raises(BadConfiguration):
        rest.application(rest.Resource(), Wrong(), service="test")


# ---- headers and traces ------------------------------------------------------------------------------------------


def test_answers_carry_harmless_headers_and_no_version(app):
    headers = call(app, "/")[1]
    assert (headers["x-content-type-options"], headers["server"]) == ("nosniff", "Pacifica")
    assert "default-src 'none'" in headers["content-security-policy"]


def test_a_trace_is_continued_with_a_span_of_our_own_and_forgotten_after(app):
    headers = call(app, "/", HTTP_TRACEPARENT=f"00-{TRACE}-b7ad6b7169203331-00", HTTP_X_REQUEST_ID="my.id-1")[1]
    assert re.fullmatch(rf"00-{TRACE}-(?!b7ad6b7169203331)[0-9a-f]{{16}}-00", headers["traceparent"])
    assert headers["x-request-id"] == "my.id-1"
    assert trace.current() == ""


@pytest.mark.parametrize(
    "bad",
    [
        None,
        "",
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        f"ff-{TRACE}-b7ad6b7169203331-01",
        f"00-{TRACE.upper()}-b7ad6b7169203331-01",
        "x\r\ny",
    ],
)
def test_a_new_trace_is_begun_where_the_clients_is_none(app, bad):
    headers = call(app, "/", HTTP_TRACEPARENT=bad, HTTP_X_REQUEST_ID="not one\r\nword")[1]
    found = re.fullmatch(r"00-([0-9a-f]{32})-[0-9a-f]{16}-01", headers["traceparent"])
    assert found
    assert found[1] not in {TRACE, "0" * 32}
    assert headers["x-request-id"] == found[1]


# ---- independence ------------------------------------------------------------------------------------------------


def test_the_engine_is_not_needed_and_nothing_is_mounted(app):
    assert call(app, "/")[0] == 200
    assert cherrypy.engine.state == cherrypy.engine.states.STOPPED
    assert cherrypy.tree.apps == {}


# ---- health ------------------------------------------------------------------------------------------------------


def probed(*checks: health.Check) -> Any:
    return rest.application(rest.Resource(), Settings(), service="test", checks=checks)


def test_healthz_answers_strangers_and_asks_nobody():
    def never() -> None:
        raise AssertionError

    status, _, body = call(probed(never), "/healthz", REMOTE_ADDR="203.0.113.1")
    assert (status, json.loads(body)) == (200, {"status": "ok"})


def test_readyz_says_what_is_missing_and_no_more(caplog):
    def database_answers() -> None:
        raise DatabaseAway("no route to secret-host")

    def stumbles() -> None:
        raise ValueError("/a/secret/path")

    status, headers, body = call(probed(database_answers, stumbles, lambda: None), "/readyz", REMOTE_ADDR="203.0.113.1")
    assert (status, headers["retry-after"]) == (503, "5")
    reasons = {"database_answers": "database_away", "stumbles": "internal_error"}
    assert json.loads(body) == {"status": "unavailable", "reasons": reasons}
    assert "secret" not in body.decode()
    assert "/a/secret/path" in caplog.text


def test_readyz_does_not_let_strangers_make_it_work(monkeypatch):
    monkeypatch.setattr(health, "_FRESH_SECONDS", 3600.0)
    runs = []
    app = probed(lambda: runs.append(1))
    assert [call(app, "/readyz")[0] for _ in range(20)] == [200] * 20
    assert runs == [1]


def test_the_database_is_ready_when_it_takes_a_write(database):
    health.database_answers()
    orm.disconnect()
    with pytest.raises(Exception):  # noqa: B017 - whatever it is, readyz turns it into a reason
        health.database_answers()


def test_the_volume_is_ready_above_its_watermark(tmp_path):
    check = health.volume_has_room(Volume(tmp_path, 0))
    check()
    with pytest.raises(NoSpace):
        health.volume_has_room(Volume(tmp_path, 1 << 60))()


def test_health_answers_over_the_wire(served):
    assert requests.get(f"{served.url}/healthz", timeout=5).json() == {"status": "ok"}
    assert requests.get(f"{served.url}/readyz", timeout=5).json() == {"status": "ok", "reasons": {}}
