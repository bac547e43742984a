"""Who may: the two ways in, what forges neither, and every route of a tree."""

import http.client
import socket
from pathlib import Path

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from pacifica.common import auth, rest
from pacifica.common.auth import Principal, public, resolve
from pacifica.common.config import Auth, Server
from pacifica.common.errors import BadConfiguration, Forbidden, NotAuthorized, ServiceError
from pacifica.common.server import HttpServer

NONE = Auth(default_user="local", administrators=("boss",))
PROXY = Auth(mode="proxy", proxies=("10.0.0.1", "192.168.0.0/24"), administrators=("boss",), services=("ingest",))


def asking(peer="127.0.0.1", **headers):
    names = {"HTTP_" + name.upper(): value for name, value in headers.items()}
    return {"REQUEST_METHOD": "GET", "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": peer, **names}


# ---- mode none ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_without_authentication_this_machine_is_the_default_user_whatever_it_claims(peer):
    assert resolve(asking(peer, x_http_authed_user="boss"), NONE) == Principal("local", False, False, "none")


@pytest.mark.parametrize("peer", ["10.0.0.5", "::2", "::ffff:10.0.0.5", "128.0.0.1", "evil", "127.0.0.1.evil"])
def test_without_authentication_any_other_machine_is_refused(peer):
    with pytest.raises(Forbidden):
        resolve(asking(peer), NONE)


@pytest.mark.parametrize(
    "header", ["forwarded", "x_forwarded_for", "x_forwarded_host", "x_forwarded_proto", "x_forwarded"]
)
def test_without_authentication_nothing_forwarded_is_answered(header):
    with pytest.raises(Forbidden):
        resolve(asking(**{header: "127.0.0.1"}), NONE)


# ---- mode proxy --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("peer", ["10.0.0.1", "192.168.0.77", "::ffff:10.0.0.1"])
def test_a_listed_proxy_says_who_asks(peer):
    assert resolve(asking(peer, x_http_authed_user="boss"), PROXY) == Principal("boss", True, False, "proxy")
    assert resolve(asking(peer, x_http_authed_user="ingest"), PROXY).service
    assert resolve(asking(peer, x_http_authed_user="anna", x_forwarded_for="1.2.3.4"), PROXY).name == "anna"


@pytest.mark.parametrize("peer", ["127.0.0.1", "10.0.0.2", "192.168.1.1", "", "0.0.0.0", "unix"])
def test_an_unlisted_peer_is_not_believed(peer):
    with pytest.raises(Forbidden):
        resolve(asking(peer, x_http_authed_user="boss"), PROXY)


@pytest.mark.parametrize(
    "name", ["", "a, boss", "a,boss", "a\nb", "a\r\n b", "\x00", "x" * 256, " a", "a\u00ad", "\xff"]
)
def test_no_single_printable_name_is_401(name):
    with pytest.raises(NotAuthorized):
        resolve(asking("10.0.0.1", x_http_authed_user=name), PROXY)


def test_no_header_is_401():
    with pytest.raises(NotAuthorized):
        resolve(asking("10.0.0.1"), PROXY)


def test_the_headers_name_is_configured_and_its_text_is_utf_8():
    given_name = "Zoë".encode().decode("latin-1")
    assert (
        resolve(
            asking("10.0.0.1", remote_user=given_name), Auth(mode="proxy", header="Remote-User", proxies=("10.0.0.1",))
        ).name
        == "Zoë"
    )


@given(st.text(st.characters(max_codepoint=255)))
def test_any_header_is_a_name_or_refused(text):
    try:
        principal = resolve(asking("10.0.0.1", x_http_authed_user=text), PROXY)
    except ServiceError as error:
        assert error.status == 401
    else:
        assert principal.name.isprintable()
        assert 0 < len(principal.name) <= 255


@pytest.mark.parametrize(
    "wrong",
    [Auth(mode="token"), Auth(mode="None"), Auth(mode="proxy", proxies=("localhost",)), Auth(default_user="a\nb")],
)
def test_a_configuration_that_lets_nobody_in_is_refused_at_the_start(wrong):
    with pytest.raises(BadConfiguration):
        auth.check(wrong)


def test_an_administrator_owns_everything_others_their_own():
    assert Principal("anna", False, False, "proxy").owns("anna")
    assert not Principal("anna", False, False, "proxy").owns("bob")
    assert not Principal("anna", False, True, "proxy").owns(None)
    assert Principal("boss", True, False, "proxy").owns("bob")


# ---- over the wire -----------------------------------------------------------------------------------------------


class Settings:
    def __init__(self, rules: Auth) -> None:
        self.auth = rules


class Who:
    exposed = True

    def GET(self) -> dict[str, str]:
        return {"name": rest.principal().name}

    @public
    def POST(self) -> dict[str, str]:
        return {"name": "anybody"}


@public
class Open:
    exposed = True

    def GET(self) -> None: ...

    def DELETE(self) -> None: ...


class Hidden:
    def PATCH(self, name: str) -> None: ...


class Root:
    exposed = True

    def __init__(self) -> None:
        self.who, self.open, self._private = Who(), Open(), Who()
        self.open.below = Who()
        self.who.others = Hidden()

    def PUT(self) -> None: ...


def test_walk_finds_every_route_and_what_is_public():
    rest.application(root := Root(), Settings(NONE), service="test")
    assert rest.walk(root) == [
        ("/", "PUT", False),
        ("/healthz", "GET", True),
        ("/open", "DELETE", True),
        ("/open", "GET", True),
        ("/open/below", "GET", False),
        ("/open/below", "POST", True),
        ("/readyz", "GET", True),
        ("/who", "GET", False),
        ("/who", "POST", True),
        ("/who/{name}", "PATCH", False),
    ]


def test_every_route_off_the_public_list_needs_a_principal_and_so_does_every_unknown_one():
    rules = Auth(mode="proxy", proxies=("127.0.0.1",))
    server = HttpServer(rest.application(root := Root(), Settings(rules), service="test"), settings=Server(threads=2))
    server.start()
    try:
        for path, method, is_public in rest.walk(root):
            status = requests.request(method, server.url + path, timeout=5).status_code
            assert (status == 401) is not is_public, (path, method, status)
        unknown = requests.get(f"{server.url}/nowhere", timeout=5)
        assert (unknown.status_code, unknown.headers["WWW-Authenticate"]) == (401, "Pacifica")
        assert requests.delete(f"{server.url}/healthz", timeout=5).status_code == 401
        known = {"X-Http-Authed-User": "anna"}
        assert requests.get(f"{server.url}/nowhere", headers=known, timeout=5).status_code == 404
        assert requests.get(f"{server.url}/who", headers=known, timeout=5).json() == {"name": "anna"}
    finally:
        server.stop(1)


@pytest.mark.parametrize(
    "name", [b"X_Http_Authed_User: boss", b"X-Http_Authed-User: boss", b"X-Http-Authed-User : boss"]
)
def test_a_name_that_only_wsgi_takes_for_the_proxys_header_is_not_believed(name):
    server = HttpServer(
        rest.application(Root(), Settings(Auth(mode="proxy", proxies=("127.0.0.1",))), service="test"),
        settings=Server(threads=2),
    )
    server.start()
    try:
        with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=5) as connection:
            connection.sendall(b"GET /who HTTP/1.1\r\nHost: x\r\n" + name + b"\r\n\r\n")
            assert connection.recv(1000).split()[1] in {b"401", b"400"}
    finally:
        server.stop(1)


@pytest.mark.parametrize(("rules", "name"), [(Auth(mode="proxy", proxies=()), "anna"), (NONE, "local")])
def test_the_peer_of_a_unix_socket_is_trusted(tmp_path: Path, rules: Auth, name: str):
    path = str(tmp_path / "s")
    server = HttpServer(rest.application(Root(), Settings(rules), service="test"), path, settings=Server(threads=2))
    server.start()
    try:
        connection = http.client.HTTPConnection("localhost", timeout=5)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(path)
        connection.request("GET", "/who", headers={"X-Http-Authed-User": "anna"})
        assert connection.getresponse().read() == f'{{"name": "{name}"}}'.encode()
        connection.close()
    finally:
        server.stop(1)


def test_under_uwsgi_the_socket_tells_the_peer(uwsgi):
    assert requests.get(f"{uwsgi.url}/item/a", timeout=5).status_code == 200
    assert requests.get(f"{uwsgi.url}/item/a", headers={"X-Forwarded-For": "127.0.0.1"}, timeout=5).status_code == 403
