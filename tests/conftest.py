"""Fixtures of every test: databases and servers of one's own."""

import importlib.util
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pacifica.common import orm
from pacifica.common.config import Database
from pacifica.common.tables import COMMON
from pacifica.tests.system.faulty import FaultProxy
from pacifica.tests.system.scaled import Scaled
from pacifica.tests.system.suite import TAKING_IN, Suite

pytest_plugins = ["pacifica.tests.system.results", "pacifica.tests.system.turns"]

_spec = importlib.util.spec_from_file_location("pacifica_test_nodes", Path(__file__).parent / "system" / "nodes.py")
assert _spec is not None
assert _spec.loader is not None
nodes = importlib.util.module_from_spec(_spec)
sys.modules["pacifica_test_nodes"] = nodes  # tests import it by this name: there are no packages among them
_spec.loader.exec_module(nodes)


def pytest_configure() -> None:
    """Let a SIGTERM end the run as an interrupt does, so that the servers which it started are stopped."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Any]:
    """A private PostgreSQL server, for the whole run."""
    node = nodes.PostgresNode()
    try:
        yield node.start()
    finally:
        node.remove()


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[Any]:
    """A private RabbitMQ node, for the whole run."""
    node = nodes.RabbitNode()
    try:
        yield node.start()
    finally:
        node.remove()


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Databases that have the common tables already, by kind: copying one is ten times as fast as making it."""
    return {"folder": tmp_path_factory.mktemp("templates")}


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/pacifica.db"
        return
    node = request.getfixturevalue("postgres")
    url = node.create_database()
    try:
        yield url
    finally:
        node.drop_database(url)


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A database of each kind with the common tables, connected; parametrised: ["sqlite", "postgres"]."""
    yield request.getfixturevalue("sqlite" if request.param == "sqlite" else "postgresql")


@pytest.fixture
def sqlite(tmp_path: Path, templates: dict[str, Any]) -> Iterator[Any]:
    """A SQLite database with the common tables, connected, for tests that gain nothing from the other kind."""
    template = templates["folder"] / "template.db"
    if not template.exists():
        with connected(f"sqlite:///{template}"):
            COMMON.sync()
            orm.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(template, tmp_path / "pacifica.db")
    with connected(f"sqlite:///{tmp_path}/pacifica.db") as database:
        yield database


@pytest.fixture
def postgresql(postgres: Any, templates: dict[str, Any]) -> Iterator[Any]:
    """A PostgreSQL database with the common tables, connected."""
    if "postgres" not in templates:
        templates["postgres"] = postgres.create_database()
        with connected(templates["postgres"]):
            COMMON.sync()
    url = postgres.create_database(templates["postgres"])
    with connected(url) as database:
        yield database
    postgres.drop_database(url)


@contextmanager
def connected(url: str) -> Iterator[Any]:
    """Connect the process to ``url`` for a block."""
    orm.disconnect()
    try:
        yield orm.connect(settings_of(url))
    finally:
        orm.disconnect()


@pytest.fixture(scope="session", params=["embedded", "scaled"])
def new_suite(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Suite]:
    """What makes a suite, not started yet, of a folder and settings: in one process, and as a facility runs it."""
    if request.param == "embedded":
        return Suite
    postgres, rabbitmq = request.getfixturevalue("postgres"), request.getfixturevalue("rabbitmq")
    template = postgres.create_database()
    Scaled(tmp_path_factory.mktemp("template") / "data", template, rabbitmq.create_vhost()).sync()
    return lambda data, *given: Scaled(
        data, postgres.create_database(template), rabbitmq.create_vhost(), *given, synced=True
    )


@pytest.fixture(scope="session")
def deployment(new_suite: Callable[..., Suite], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """The whole suite at work, shared by all tests of a run: they leave it running, and in order."""
    suite = new_suite(tmp_path_factory.mktemp("deployment") / "data")
    try:
        yield suite.start()
    finally:
        suite.kill()


@pytest.fixture
def own_suite(new_suite: Callable[..., Suite], tmp_path: Path) -> Iterator[Suite]:
    """A suite of the test's own, not started yet, to set up, break and restart; scaled without carts and flow."""
    suite = new_suite(tmp_path / "data")
    suite.services = TAKING_IN
    try:
        yield suite
    finally:
        if suite.urls:
            suite.kill()


def settings_of(url: str, **more: Any) -> Database:
    """Return the database settings for ``url``, with one attempt to connect."""
    return Database(**{"peewee_url": url, "connect_attempts": 1, "connect_wait": 0.0, **more})


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """Another suite, whose datasafe plays the external neighbours."""
    suite = Suite(tmp_path_factory.mktemp("other") / "data")
    try:
        yield suite.start()
    finally:
        suite.stop()


@pytest.fixture(scope="module")
def proxy(other: Suite) -> Iterator[FaultProxy]:
    """A proxy before that datasafe, which fails as it is told to."""
    proxy = FaultProxy(other.urls["datasafe"])
    yield proxy
    proxy.server.shutdown()
