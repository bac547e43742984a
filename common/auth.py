"""Who is asking: the principal of a request, by the way in that the configuration chose (design §10)."""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from .config import Auth
from .connection import UNIX, Environ
from .errors import BadConfiguration, Forbidden, NotAuthorized
from .transport import of

T = TypeVar("T")

MAX_NAME = 255


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who may ask; ``via`` is the mode that let them in."""

    name: str
    administrator: bool
    service: bool
    via: str

    def owns(self, owner: str | None) -> bool:
        """Tell whether what belongs to ``owner`` is this principal's to see; everything is an administrator's."""
        return self.administrator or owner == self.name


def public(handler: T) -> T:
    """Mark a handler, or a resource class with all its handlers, as open to everybody."""
    handler.is_public = True  # type: ignore[attr-defined]
    return handler


def is_public(handler: Any) -> bool:
    """Tell whether a handler (a bound method), or the class it belongs to, was marked public."""
    return bool(getattr(handler, "is_public", False) or getattr(getattr(handler, "__self__", None), "is_public", False))


def resolve(environ: Environ, auth: Auth) -> Principal:
    """Return who sends this request, or raise NotAuthorized or Forbidden."""
    mode = _MODES.get(auth.mode)
    if mode is None:
        raise BadConfiguration(f"auth.mode: expected one of {', '.join(_MODES)}")
    return _principal(mode(environ, auth), auth)


def named(name: str, auth: Auth) -> Principal:
    """Return who ``name`` is, for work that goes on behind a request; no way in leads here."""
    return _principal(name, auth)


def check(auth: Auth) -> None:
    """Raise BadConfiguration when no request could ever be let in; asked once, when the application is made."""
    if auth.mode not in _MODES:
        raise BadConfiguration(f"auth.mode: expected one of {', '.join(_MODES)}")
    for proxy in auth.proxies:
        _network(proxy)
    if auth.mode == "none" and not _is_name(auth.default_user):
        raise BadConfiguration("auth.default_user: expected a printable name of at most 255 characters")


def _none(environ: Environ, auth: Auth) -> str:
    if not _is_local(of(environ).peer()) or not _is_local(environ.get("REMOTE_ADDR", "")):
        raise Forbidden("Without authentication only this machine may ask")
    if any(name == "HTTP_FORWARDED" or name.startswith("HTTP_X_FORWARDED") for name in environ):
        raise Forbidden("Without authentication nothing that a proxy forwards is answered")
    return auth.default_user


def _proxy(environ: Environ, auth: Auth) -> str:
    peer = of(environ).peer()
    if peer != UNIX and not _is_listed(peer, auth.proxies):
        raise Forbidden("This address is not a trusted proxy")
    name = environ.get("HTTP_" + auth.header.upper().replace("-", "_"))
    if not name:
        raise NotAuthorized()
    try:
        name = name.encode("latin-1").decode("utf-8")  # WSGI hands bytes out as Latin-1
    except UnicodeError as error:
        raise NotAuthorized("The user's name is not UTF-8") from error
    # servers join a header given twice with a comma: one may be the client's own
    if "," in name or not _is_name(name):
        raise NotAuthorized("The user's name is not one printable name")
    return str(name)


_MODES: dict[str, Callable[[Environ, Auth], str]] = {"none": _none, "proxy": _proxy}


@lru_cache(maxsize=4096)
def _principal(name: str, auth: Auth) -> Principal:
    return Principal(name, name in auth.administrators, name in auth.services, auth.mode)


def _is_name(name: str) -> bool:
    return 0 < len(name) <= MAX_NAME and name.isprintable() and name == name.strip()


@lru_cache(maxsize=1024)
def _is_local(peer: str) -> bool:
    """Unix sockets count; "0.0.0.0" and "" are what servers call the peer of one, and no peer by TCP has them."""
    if peer in (UNIX, "", "0.0.0.0"):
        return True
    address = _address(peer)
    return address is not None and address.is_loopback


@lru_cache(maxsize=1024)
def _is_listed(peer: str, proxies: tuple[str, ...]) -> bool:
    address = _address(peer)
    return address is not None and any(address in _network(proxy) for proxy in proxies)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if mapped is not None else address


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise BadConfiguration(f"auth.proxies: expected IP addresses or networks, not {text!r}") from error
