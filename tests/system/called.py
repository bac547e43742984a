"""Which routes the examples of a document call: they run with a curl that notes what it is asked to do."""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from pacifica.tests.system.people import walked

ENDED, NEXT = "\x1e", "\x1f"
_CURL = """#!/bin/bash
printf '%s\\x1f' "$@" $'\\x1e' >>{calls}
exec {curl} "$@"
"""
# options that say the method, and how many letters may stand before them in one word
_METHODS = {"I": "HEAD", "T": "PUT", "d": "POST", "F": "POST"}
_LONG = {"--head": "HEAD", "--upload-file": "PUT", "--json": "POST"}
_VALUED = frozenset("XTdFHoDruCw")  # the next word is theirs

Route = tuple[str, str, str]  # service, path, method

# where a route is documented, by service and beginning of its path
_DOCUMENTS = {
    ("ingest", "/"): "ingest.md",
    ("cartd", "/"): "cartd.md",
    ("flow", "/"): "flow.md",
    ("datasafe", "/"): "datasafe.md",
    ("datasafe", "/catalog"): "catalogue.md",
    ("datasafe", "/audit"): "audit.md",
    **dict.fromkeys(
        (("datasafe", path) for path in ("/archive", "/metadata", "/policy", "/uniqueid")), "ingest-neighbours.md"
    ),
}


def every_route(folder: Path) -> set[Route]:
    """Return every route of the suite; ``folder`` is a new one."""
    return {(service, path, method) for service, path, method, _ in walked(folder)}


def document_of(service: str, path: str) -> str:
    """Return the name of the document that has a route's example."""
    fitting = [(begin, name) for (of, begin), name in _DOCUMENTS.items() if of == service and path.startswith(begin)]
    return max(fitting)[1]


class Calls:
    """A folder for the PATH whose curl writes down each call, and then is the real one."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._calls = folder / "noting", folder / "calls"
        self.folder.mkdir()
        curl = self.folder / "curl"
        curl.write_text(_CURL.format(calls=self._calls, curl=shutil.which("curl")))
        curl.chmod(0o755)

    def routes(self, urls: Mapping[str, str], known: Iterable[Route]) -> set[Route]:
        """Return which of the ``known`` routes were called; ``urls`` are those of the services by name."""
        names = {urlsplit(urls[name]).netloc: name for name in ("ingest", "cartd", "datasafe", "flow")}
        routes, called = set(known), set()
        for call in self._calls.read_text().split(ENDED + NEXT)[:-1]:
            method, asked = _read(call.split(NEXT)[:-1])
            for url in asked:
                service = names.get(urlsplit(url).netloc, "")
                path = urlsplit(url).path.rstrip("/") or "/"
                fitting = [
                    route for route in routes if (route[0], route[2]) == (service, method) and _fits(path, route[1])
                ]
                called |= set(sorted(fitting, key=lambda route: len(route[1].replace("{name}", "")))[-1:])
        return called


def _fits(path: str, route: str) -> bool:
    if route == "/{name}":
        return path != "/"
    return path == route or (route != "/" and path.startswith(f"{route}/"))


def _read(words: list[str]) -> tuple[str, list[str]]:
    """Return the method that curl's ``words`` mean, and the URLs."""
    urls, implied, said, get = [], "GET", "", False
    rest = iter(words)
    for word in rest:
        if word.startswith("--"):
            implied = "POST" if word.startswith("--data") else _LONG.get(word, implied)
            said = next(rest) if word == "--request" else said
            get |= word == "--get"
        elif word.startswith("-"):
            for at, letter in enumerate(word[1:], 2):
                implied, get = _METHODS.get(letter, implied), get or letter == "G"
                if letter in _VALUED:
                    value = word[at:] or next(rest)
                    said = value if letter == "X" else said
                    break
        elif word.startswith("http://"):
            urls.append(word)
    return said or ("GET" if get else implied), urls
