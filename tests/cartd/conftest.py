"""A cartd of the test's own: a real database, a real volume, a real server, in this process."""

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from pacifica.cartd import orm as carts
from pacifica.cartd import reading
from pacifica.cartd.config import Cartd, Settings
from pacifica.cartd.rest import Root
from pacifica.cartd.shelf import Shelf
from pacifica.common import counter, ledger, rest
from pacifica.common.archive import LocalArchive
from pacifica.common.config import Auth
from pacifica.common.interface import Incoming
from pacifica.common.server import HttpServer
from pacifica.common.volume import Volume

MTIME = 1_795_000_000.0


class Site:
    """Cartd's server over a volume; ``archive`` puts files on it, ``post`` makes carts."""

    def __init__(self, root: Path, settings: Settings) -> None:
        self.volume, self.settings = Volume(root, 0), settings
        self.shelf = Shelf(self.volume)
        application = rest.application(Root(settings, self.volume), settings, service="cartd")
        self.server = HttpServer(application, settings=settings.server)

    def archive(self, files: Mapping[str, bytes], hashtype: str = "sha1", owner: str = "root") -> list[dict[str, Any]]:
        """Archive ``files``, each in a pack of its own; return what a selection of them says."""
        entries = []
        first = counter.allocate("file", len(files))
        for id, (path, content) in enumerate(files.items(), first):
            facts = {"length": len(content), "mtime": MTIME, "owner": owner, "hashtype": hashtype}
            LocalArchive(self.volume).put(id, Incoming(fill=io.BytesIO(content).readinto, **facts))
            digest = hashlib.new(hashtype, content).hexdigest()
            entries.append({"id": id, "path": path, "hashtype": hashtype, "hashsum": digest})
        return entries

    def post(self, uid: str, entries: Any, **options: Any) -> requests.Response:
        """POST a selection."""
        document = entries if isinstance(entries, bytes) else json.dumps({"fileids": entries, **options})
        return requests.post(f"{self.server.url}/{uid}", data=document, timeout=30)

    def get(self, path: str, **options: Any) -> requests.Response:
        """GET anything."""
        return requests.get(f"{self.server.url}/{path}", timeout=30, **options)

    def head(self, path: str, **options: Any) -> requests.Response:
        """HEAD anything."""
        return requests.head(f"{self.server.url}/{path}", timeout=30, **options)

    def delete(self, uid: str, **options: Any) -> requests.Response:
        """DELETE a cart."""
        return requests.delete(f"{self.server.url}/{uid}", timeout=30, **options)

    def cart(self, uid: str) -> carts.Cart:
        """Return the newest row of a cart, whatever its state."""
        return carts.Cart.select().where(carts.Cart.cart_uid == uid).order_by(carts.Cart.id.desc()).get()

    def damage(self, file_id: int) -> None:
        """Change the first byte of an archived file on the disk."""
        held = ledger.find(file_id)
        with self.volume.pack_path(held.pack).open("r+b") as pack:
            pack.seek(held.offset)
            byte = pack.read(1)[0]
            pack.seek(held.offset)
            pack.write(bytes([byte ^ 1]))


@pytest.fixture
def cartd_settings() -> Settings:
    """What the site is told; override it in a test module."""
    return Settings()


@pytest.fixture
def cartd_tables(request: pytest.FixtureRequest) -> None:
    """Cartd's tables in the test's database: SQLite, or what an indirect parameter names (``postgresql``)."""
    request.getfixturevalue(getattr(request, "param", "sqlite"))
    carts.SCHEMA.sync()


@pytest.fixture
def site(cartd_tables: None, tmp_path: Path, cartd_settings: Settings) -> Iterator[Site]:
    """A running cartd with an empty archive."""
    reading._touched.clear()  # cart ids begin at 1 in every test
    made = Site(tmp_path / "archive", cartd_settings)
    made.server.start()
    try:
        yield made
    finally:
        made.server.stop(1)


@pytest.fixture
def site_of_many(cartd_tables: None, tmp_path: Path) -> Iterator[Site]:
    """A cartd behind a proxy that says who asks; ``boss`` administers."""
    reading._touched.clear()
    told = Auth(mode="proxy", proxies=("127.0.0.1",), administrators=("boss",))
    made = Site(tmp_path / "archive", replace(Settings(), auth=told, cartd=Cartd(max_files=10)))
    made.server.start()
    try:
        yield made
    finally:
        made.server.stop(1)
