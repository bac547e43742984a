"""From a URL to the handler that answers it, and the list of all there are.

The tree's rules are CherryPy's (``rest``), but stricter: see Dispatcher.
"""

import inspect
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import cherrypy

from .auth import is_public, resolve
from .config import Auth
from .errors import BadRequest, MethodNotAllowed, NotFound

METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")


class Dispatcher(cherrypy.dispatch.MethodDispatcher):
    """CherryPy's method dispatch, stricter: only exposed instances are children, and private names are nobody.

    CherryPy's own turns punctuation into ``_`` and would follow ``/__class__`` to the class itself.  A resource's
    attribute ``others`` (not exposed, so it has no URL of its own) answers below it for every name that is no child.
    """

    def __init__(self, auth: Auth) -> None:
        """Let in whom ``auth`` lets in."""
        super().__init__()
        self.auth = auth

    def __call__(self, path_info: str) -> None:
        """Set the current request's handler and, unless it is public, its principal."""
        request = cherrypy.serving.request
        node, left = find(request.app.root, path_info)
        methods = _methods(node.__class__)
        method = "GET" if request.method == "HEAD" and "HEAD" not in methods else request.method
        function = getattr(node, method) if method in methods else None
        if function is None or not is_public(function) or not _takes(function, len(left)):
            request.principal = resolve(request.wsgi_environ, self.auth)  # before 404 and 405: strangers learn nothing
        fitting = [name for name in methods if _fits(getattr(node, name), len(left))]
        if fitting and method not in fitting and (function is None or _takes(function, len(left))):
            raise _not_allowed(fitting)  # what needs more of a path; where a path has too much for it, nothing is there
        if function is None:
            raise NotFound()
        parts = [part.replace("%2F", "/") for part in left]  # as cheroot leaves an escaped slash
        request.handler = lambda: _call(function, parts, request.params)


def find(root: Any, path: str) -> tuple[Any, list[str]]:
    """Return the resource that answers ``path`` below ``root``, and the parts that are left for its handler."""
    node, left = root, [part for part in path.split("/") if part]
    while left and (child := _child(node, left[0])) is not None:
        node = child
        del left[0]
    return getattr(node, "others", node) if left else node, left


def walk(root: Any, path: str = "") -> list[tuple[str, str, bool]]:
    """Return (path, method, public) of every route below ``root``, in the order of their paths."""
    found = [(path or "/", method, is_public(getattr(root, method))) for method in _methods(root.__class__)]
    names = {name for place in (vars(root), *map(vars, type(root).__mro__)) for name in place}
    for name in sorted(names):
        child = _child(root, name)
        if child is not None:
            found += walk(child, f"{path}/{name}")
    others = getattr(root, "others", None)
    return found if others is None else found + walk(others, f"{path}/{{name}}")


def _call(function: Callable[..., Any], parts: list[str], query: dict[str, Any]) -> Any:
    """Call a handler; NotFound for path parts, BadRequest for a query that it has no use for."""
    for name, value in query.items():
        if isinstance(value, list) and name in _signature(function).parameters:
            raise BadRequest("A parameter was given twice", parameter=name)
    try:
        return function(*parts, **query)
    except TypeError:
        _explain(_signature(function), parts, query)
        raise


def _explain(signature: inspect.Signature, parts: list[str], query: dict[str, Any]) -> None:
    """Raise what the client did wrong, if it was the client who made the call impossible."""
    try:
        signature.bind(*parts, **query)
    except TypeError as error:
        try:
            bound = signature.bind_partial(*parts)
        except TypeError:
            raise NotFound() from error
        unknown = [name for name in query if name not in signature.parameters or name in bound.arguments]
        if unknown:
            raise BadRequest("There is no such parameter here", parameter=unknown[0]) from error
        missing = [name for name, one in signature.parameters.items() if _is_missing(one, bound.arguments, query)]
        raise BadRequest("A parameter is missing", parameters=missing) from error


def _is_missing(one: inspect.Parameter, *given: dict[str, Any]) -> bool:
    free = one.default is not one.empty or one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    return not free and not any(one.name in names for names in given)


@lru_cache(maxsize=4096)
def _takes(function: Callable[..., Any], count: int) -> bool:
    """Tell whether a handler has a place for so many path parts."""
    try:
        _signature(function).bind_partial(*[""] * count)
    except TypeError:
        return False
    return True


@lru_cache(maxsize=4096)
def _fits(function: Callable[..., Any], count: int) -> bool:
    """Tell whether so many path parts are all that a handler needs of a path; keyword-only is what the query brings."""
    if not _takes(function, count):
        return False
    parameters = _signature(function).parameters
    given = _signature(function).bind_partial(*[""] * count).arguments
    return not any(one.kind is not one.KEYWORD_ONLY and _is_missing(one, given) for one in parameters.values())


def _child(node: Any, name: str) -> Any:
    """Return the resource that ``name`` leads to from ``node``, or None; no property is run to find out."""
    if name.startswith("_"):
        return None
    found = vars(node).get(name) if hasattr(node, "__dict__") else None
    if found is None:
        found = _of_class(node.__class__).get(name)
    return found if getattr(found, "exposed", False) and not inspect.isclass(found) else None


@lru_cache(maxsize=1024)
def _of_class(kind: type) -> dict[str, Any]:
    return {name: value for place in reversed(kind.__mro__) for name, value in vars(place).items()}


@lru_cache(maxsize=1024)
def _methods(kind: type) -> tuple[str, ...]:
    return tuple(name for name in METHODS if callable(getattr(kind, name, None)))


@lru_cache(maxsize=1024)
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)


def _not_allowed(methods: Sequence[str]) -> MethodNotAllowed:
    error = MethodNotAllowed(f"Allowed here: {', '.join(methods)}")
    allowed = {*methods, "HEAD"} if "GET" in methods else set(methods)
    error.headers["Allow"] = ", ".join(sorted(allowed))
    return error
