"""The HTTP face of cartd: Pacifica's ``/<uid>``, and what is inside a cart (docs/cartd.md)."""

from functools import partial
from typing import Any

import cherrypy

from ..common import orm, rest, trace
from ..common.auth import public
from ..common.catalog import readable_files
from ..common.errors import BadRequest, NotFound, ServiceError
from ..common.outbox import ring
from ..common.ranges import header_text, respond_range
from ..common.state import RING_SECONDS
from ..common.streams import Body
from ..common.volume import Volume
from . import delivery, digest, purging, reading
from .config import Settings
from .filling import abandon, adopted, enlist, fill
from .intake import Intake
from .orm import Cart, State, carts_of
from .plan import Plan
from .plans import plan_of
from .ready import default_name, make_ready, top_folder
from .selection import Selection
from .shelf import Shelf

RESERVED = frozenset({".", "..", "healthz", "readyz", "metrics", "docs", "openapi.yaml"})
MAX_NAME = 255  # characters of a uid, bytes of a file name
MAX_MESSAGE = 1000  # characters of a header
WATCH_SECONDS = 600.0  # a POST that dies leaves a cart that the sweeper ends after this time
OCTETS = "application/octet-stream"
GONE = "The cart does not exist or has already been deleted"


class Root:
    """``/``: says that the service runs; every other first segment is a cart's."""

    exposed = True

    def __init__(self, settings: Settings, volume: Volume) -> None:
        self.others = CartRoot(settings, volume)

    def headers_of(self, error: ServiceError, message: str) -> dict[str, str]:
        """Return the two headers that Pacifica's clients look for, of an answer that tells ``error``."""
        known = cherrypy.response.headers.get("X-Pacifica-Status", "error")
        status = known if error.status < 500 or error.retryable else "error"
        return {"X-Pacifica-Status": status, "X-Pacifica-Message": header_text(message[:MAX_MESSAGE])}

    @public
    def GET(self) -> dict[str, str]:
        """Answer as Pacifica's cartd does."""
        return {"message": "Pacifica Cartd Interface Up and Running"}


class CartRoot:
    """``/<uid>``; ``/<uid>/files`` lists, ``/<uid>/files/<path>`` is one file."""

    def __init__(self, settings: Settings, volume: Volume) -> None:
        self.settings, self.shelf = settings, Shelf.of(settings, volume)
        self.intake = Intake(settings.cartd.max_json_bytes)

    def GET(self, uid: str, *inside: str, filename: str | None = None) -> Any:
        """Answer the tar of cart ``uid``, 202 while it is staged; or its list of files; or one of them."""
        cart = _seen(uid, GONE)
        if cart.state != State.READY:
            cherrypy.response.status = 202
            cherrypy.response.headers["Content-Type"] = "text/plain"
            cherrypy.response.headers["Retry-After"] = "1"
            return b"The cart is not ready for download."
        reading.touch(cart)
        if inside:
            return self._inside(cart, inside)
        name = filename or default_name(cart)
        plan = self._plan(cart, name)
        known = digest.of_tar(self.shelf, cart, plan)
        cherrypy.response.headers.update(known)
        produce = delivery.tar_of(cart, plan, self.shelf, digest=not known and _wants_digest())
        return respond_range(plan.size, plan.etag, None, produce, content_type=OCTETS, filename=name)

    def HEAD(self, uid: str, *inside: str, filename: str | None = None) -> Any:
        """Answer 204 with the status of cart ``uid`` and, once it is ready, the size of its tar.

        That is the size of the download called ``filename``; of the one without a name where none is given.
        """
        if inside:
            return self.GET(uid, *inside, filename=filename)
        cart = _seen(uid, f"No cart with uid {uid[:MAX_NAME]} found")
        size = cart.tar_bytes
        if cart.state == State.READY and (filename or _wants_digest()):
            plan = self._plan(cart, filename or default_name(cart))
            size = plan.size
            cherrypy.response.headers.update(digest.of_tar(self.shelf, cart, plan))
        if size is not None:
            cherrypy.response.headers["X-Content-Length"] = str(size)
        cherrypy.response.status = 204
        return None

    def POST(self, uid: str) -> dict[str, str]:
        """Make a cart of the posted selection and answer 201; it is ready at once unless bytes have to be read."""
        _require_uid(uid)
        limit = self.settings.cartd.max_json_bytes
        body = Body.of_request(limit, self.settings.server)
        with self.intake.room(limit if body.length is None else body.length):
            cart = self._made(uid, body)
        _tell(cart)
        cherrypy.response.status = 201
        return {"message": "Cart Processing has begun"}

    def DELETE(self, uid: str) -> dict[str, str]:
        """Delete every cart of this uid that is the caller's; a download under way ends undisturbed."""
        carts = _yours(uid)
        if not carts:
            raise NotFound(GONE)
        for cart in carts:
            purging.delete(cart, self.shelf, rest.principal().name, "asked for")
        cherrypy.response.headers["X-Pacifica-Message"] = ""  # and no status: there is no cart any more
        return {"message": "Cart Deleted Successfully"}

    def _made(self, uid: str, body: Body) -> Cart:
        """Make a cart of the selection that ``body`` holds; what is wrong with it for good is the cart's to tell."""
        limits = self.settings.cartd
        selection = Selection(body.read_all(limits.max_json_bytes), limits.max_files)
        cart = Cart.start(
            cart_uid=uid,
            owner=rest.principal().name,
            trace=trace.current(),
            bundle=limits.bundle_task if selection.bundle is None else selection.bundle,
            state=State.FILLING,
            staged=self.settings.archiveinterface.is_remote,
            deadline=orm.clock() + WATCH_SECONDS,
        )
        try:
            self._fill(cart, selection)
        except Exception as error:
            abandon(cart, error)
            if not isinstance(error, ServiceError) or error.retryable or error.status == 409:
                raise  # this cart has ended; the same POST again may succeed
        return cart

    def _fill(self, cart: Cart, selection: Selection) -> None:
        readable = partial(readable_files, rest.principal())
        deadline = None
        if self.settings.archiveinterface.is_remote:
            enlist(cart, selection, readable)
            deadline = orm.clock() + self.settings.cartd.stage_days * 86400
        elif fill(cart, selection, readable):
            selection.drop()
            make_ready(cart, self.shelf)
            return
        with orm.transaction():
            cart.move(State.STAGING, deadline=deadline, ring_at=orm.clock() + RING_SECONDS)
            ring("pacifica.cartd", "pacifica.cartd.stage", cart.id, cart.attempt)

    def _plan(self, cart: Cart, filename: str) -> Plan:
        _require_name(filename)
        return plan_of(self.shelf, cart, top_folder(cart, filename))

    def _inside(self, cart: Cart, parts: tuple[str, ...]) -> Any:
        if parts[0] != "files":
            raise NotFound
        plan = plan_of(self.shelf, cart, top_folder(cart))
        if len(parts) == 1:
            return delivery.listing(plan)
        index = plan.find("/".join(parts[1:]))
        if index is None:
            raise NotFound("The cart has no file of this path.")
        member = plan.member(index)
        cherrypy.response.headers.update(digest.repr_digest(member.hashtype, member.hashsum))
        produce = delivery.file_of(cart, plan, self.shelf, index)
        return respond_range(
            member.size, member.hashsum, member.mtime, produce, content_type=OCTETS, filename=parts[-1]
        )


class CartFailed(ServiceError):
    """The cart could not be made, or was found damaged."""

    code = "cart_failed"
    is_remembered = True


def _yours(uid: str) -> list[Cart]:
    """Return the caller's carts under ``uid``, the newest first; an administrator's view is everybody's."""
    _require_uid(uid)
    principal = rest.principal()
    return [cart for cart in carts_of(uid) if principal.owns(cart.owner) or adopted(cart, principal)]


def _seen(uid: str, unknown: str) -> Cart:
    """Return the cart that clients see under ``uid``, its status told; NotFound or CartFailed in place of it."""
    carts = _yours(uid)
    if not carts:
        raise NotFound(unknown)
    if carts[0].state == State.ERROR:
        raise CartFailed(carts[0].exception)
    _tell(carts[0])
    return carts[0]


def _tell(cart: Cart) -> None:
    """Give the answer the two headers that Pacifica's clients look for; an error's are ``Root.headers_of``'s."""
    shown = {State.READY: "ready", State.ERROR: "error"}.get(cart.state, "staging")
    headers = cherrypy.response.headers
    headers["X-Pacifica-Status"], headers["X-Pacifica-Message"] = shown, header_text(cart.exception[:MAX_MESSAGE])


def _wants_digest() -> bool:
    return digest.is_wanted(cherrypy.serving.request.wsgi_environ.get("HTTP_WANT_REPR_DIGEST"))


def _require_uid(uid: str) -> None:
    if not (0 < len(uid) <= MAX_NAME and uid.isprintable() and "/" not in uid and uid not in RESERVED):
        raise BadRequest("A cart's uid is one printable path segment of at most 255 characters, and no reserved word.")


def _require_name(filename: str) -> None:
    """Refuse a file name that cannot be a header's or, without ``.tar``, a folder's."""
    if not (
        len(filename.encode(errors="replace")) <= MAX_NAME
        and filename.isprintable()
        and not set("/\\") & set(filename)  # the second is the first where it is unpacked on Windows
        and filename.removesuffix(".tar").strip(". ")
    ):
        raise BadRequest("filename must be one plain, printable name of at most 255 bytes.")
