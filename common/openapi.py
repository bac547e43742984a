"""``/openapi.yaml`` and ``/docs``: what can be asked of a service, for programs and for people.

Each service has a document of its routes beside its modules, ``openapi.yaml``, written by hand and held against the
tree by a test.  What all of them share stands in this package's and is put in here.
"""

import json
from collections.abc import Callable, Iterator
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

import cherrypy
import yaml

from .version import VERSION

Document = dict[str, Any]

_METHODS = ("get", "head", "post", "put", "patch", "delete", "options")
_FAILURE = {"$ref": "#/components/responses/Error"}


def document(service: str) -> Document:
    """Return the whole OpenAPI document of ``service``: its own part, the shared one, and that any answer can fail."""
    whole, shared = _part(service), _part("common")
    whole["info"]["version"] = VERSION
    whole["paths"] |= shared["paths"]
    components = whole.setdefault("components", {})
    for kind, named in shared["components"].items():
        components[kind] = named | components.get(kind, {})
    for _, _, operation in operations(whole):
        operation["responses"].setdefault("default", _FAILURE)
    return whole


def operations(whole: Document) -> Iterator[tuple[str, str, Document]]:
    """Yield (path, method in capitals, operation) of a document, in its order."""
    for path, item in whole["paths"].items():
        for method in _METHODS:
            if method in item:
                yield path, method.upper(), item[method]


def parameters(whole: Document, path: str, operation: Document) -> list[Document]:
    """Return what an operation takes, what its path takes first; references are followed."""
    given = [*whole["paths"][path].get("parameters", []), *operation.get("parameters", [])]
    return [_followed(whole, one) for one in given]


class OpenApi:
    """``GET /openapi.yaml``."""

    exposed = True

    def __init__(self, service: str) -> None:
        """Read nothing before somebody asks."""
        self._text = cache(lambda: yaml.safe_dump(document(service), sort_keys=False, allow_unicode=True).encode())

    def GET(self) -> bytes:
        """Answer the document of this service."""
        cherrypy.serving.response.headers["Content-Type"] = "application/yaml"
        return self._text()


class Docs:
    """``GET /docs``."""

    exposed = True

    def __init__(self, service: str) -> None:
        """Read nothing before somebody asks."""
        self._text: Callable[[], bytes] = cache(lambda: page(document(service)).encode())

    def GET(self) -> bytes:
        """Answer the same document as a page without scripts and styles."""
        cherrypy.serving.response.headers["Content-Type"] = "text/html;charset=utf-8"
        return self._text()


def page(whole: Document) -> str:
    """Return a document as HTML."""
    info = whole["info"]
    title = escape(f"{info['title']} {info['version']}")
    told = "".join(_told(whole, *operation) for operation in operations(whole))
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>\n<body>'
        f'<h1>{title}</h1>\n<p>{escape(info["description"])} The same for programs: <a href="openapi.yaml">openapi.yaml'
        f"</a>.</p>\n{told}</body></html>\n"
    )


def _told(whole: Document, path: str, method: str, operation: Document) -> str:
    lines = [f"<h2><code>{method} {escape(path)}</code></h2>\n<p>{escape(operation['summary'])}.</p>\n"]
    if "description" in operation:
        lines.append(f"<p>{escape(operation['description'])}</p>\n")
    body = _followed(whole, operation.get("requestBody", {}))
    takes = [(f"{one['name']} ({one['in']})", one) for one in parameters(whole, path, operation)]
    takes += [(f"body, {kind}", {"required": body["required"]}) for kind in body.get("content", ())]
    answers = [(status, _followed(whole, one)) for status, one in operation["responses"].items()]
    lines += _table("takes", [(name, _explained(one)) for name, one in takes])
    lines += _table("answers", [(status, one["description"]) for status, one in answers])
    return "".join(lines)


def _explained(parameter: Document) -> str:
    needed = "Needed." if parameter.get("required") else ""
    return " ".join(filter(None, [needed, parameter.get("description", "")]))


def _table(name: str, rows: list[tuple[str, str]]) -> Iterator[str]:
    if rows:
        yield f"<table><caption>{name}</caption>\n"
        for first, second in rows:
            yield f"<tr><td><code>{escape(first)}</code></td><td>{escape(second)}</td></tr>\n"
        yield "</table>\n"


def _followed(whole: Document, one: Document) -> Document:
    """Return what a reference within the document leads to."""
    while "$ref" in one:
        place = whole
        for name in one["$ref"].removeprefix("#/").split("/"):
            place = place[name]
        one = place
    return one


def _part(package: str) -> Document:
    """Return a part as it stands in its file; what is written once for several places becomes separate copies."""
    text = files(f"pacifica.{package}").joinpath("openapi.yaml").read_text(encoding="utf-8")
    return dict(json.loads(json.dumps(yaml.safe_load(text))))
