"""Many who send their requests byte by byte: a client as others are is served all the while."""

import itertools
import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.fronted import Fronted
from pacifica.tests.system.suite import Suite, until

HEAD = b"GET /get_state?job_id=1 HTTP/1.1\r\nHost: x\r\nX-Slow: "
BODY = b"POST /upload HTTP/1.1\r\nHost: x\r\nAuthorization: Basic Ym9iOmJvYg==\r\nContent-Length: 1000000\r\n\r\n"
SECONDS = 10.0  # within which a client as others are has its answer; a deadline, no measurement


@contextmanager
def dripping(url: str, count: int, begin: bytes) -> Iterator[None]:
    """Have ``count`` connections that send ``begin`` and then a byte now and then; those that are closed come back."""
    place, ended = urlsplit(url), threading.Event()

    def connect(stack: ExitStack) -> socket.socket:
        connection = stack.enter_context(socket.create_connection((place.hostname, place.port), timeout=SECONDS))
        connection.sendall(begin)
        connection.setblocking(False)
        return connection

    with ExitStack() as stack:
        connections = [connect(stack) for _ in range(count)]

        def drip() -> None:
            while not ended.wait(0.5):
                for connection in connections:
                    try:
                        connection.send(b"x")
                    except OSError:  # it has been given up
                        continue

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


@pytest.fixture(scope="module", autouse=True)
def descriptors() -> Iterator[None]:
    """Room for a thousand sockets in this process."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(4096, before[0]), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    suite = Suite(tmp_path_factory.mktemp("slow") / "data")
    try:
        yield suite.start()
    finally:
        suite.kill()


@pytest.fixture(scope="module")
def fronted(postgres: Any, rabbitmq: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fronted]:
    data = tmp_path_factory.mktemp("fronted") / "data"
    suite = Fronted(data, postgres.create_database(), rabbitmq.create_vhost(), services=("ingest", "datasafe"))
    try:
        yield suite.start()
    finally:
        suite.kill()


def is_served(suite: Suite, who: tuple[str, str] | None = None) -> None:
    """See that an upload and questions about it are answered."""
    url = suite.urls["ingest"]
    for size in (1, 2_000_000):
        posted = requests.post(f"{url}/upload", data=bundle({"x": bytes(size)}), auth=who, timeout=SECONDS)
        assert posted.status_code == 200, posted.text
        job = {"job_id": posted.json()["job_id"]}

        def state(job: dict[str, int] = job) -> Any:
            return requests.get(f"{url}/get_state", job, auth=who, timeout=SECONDS).json()

        assert until(lambda: (found := state())["complete"] and found, 60, "the end of the job")["state"] == "OK"


@pytest.mark.parametrize("begin", [HEAD, BODY], ids=["head", "body"])
def test_half_as_many_slow_clients_as_threads_are_no_matter(embedded: Suite, begin: bytes) -> None:
    with dripping(embedded.urls["ingest"], 12, begin), dripping(embedded.urls["ingest"], 20, begin):
        is_served(embedded)
    assert requests.get(f"{embedded.urls['ingest']}/healthz", timeout=SECONDS).status_code == 200


@pytest.mark.parametrize(("count", "begin"), [*itertools.product((12, 100, 1000), (HEAD, BODY))])
def test_behind_nginx_a_thousand_slow_clients_are_no_matter(fronted: Fronted, count: int, begin: bytes) -> None:
    with dripping(fronted.urls["ingest"], count, begin):
        is_served(fronted, ("alice", "alice"))
