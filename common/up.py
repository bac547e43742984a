"""The whole suite in one process: every service on its port, its workers, one sweeper, nothing else to start."""

import json
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from . import log
from .config import embed
from .embedded import WorkerThread, embedded_worker
from .outbox import configure
from .server import HttpServer
from .service import Service, services
from .subscriber import Subscriber
from .sweeper import Sweeper

WATCH_SECONDS = 1.0  # between two looks whether the workers live

logger = logging.getLogger(__name__)


class Suite:
    """All services of one process; ``start`` returns once every one answers, ``stop`` once all have ended."""

    def __init__(self, members: Sequence[Service], host: str = "127.0.0.1", auto_ports: bool = False) -> None:
        self.members = list(members)
        self.host, self.auto_ports = host, auto_ports
        self.servers: dict[str, HttpServer] = {}
        self.workers: list[WorkerThread] = []
        self.threads: list[Sweeper | Subscriber] = []

    def start(self) -> None:
        """Bring the database to this version, then start servers, workers and the sweeper; undone on failure."""
        try:
            for member in self.members:
                member.connect(create=True)
                member.schema.sync()
            settings = self.members[0].settings()
            configure(settings.celery.broker_url)
            apps = [member.worker for member in self.members if member.worker is not None]
            self.workers = [
                embedded_worker(app, settings.celery.concurrency, queue) for app in apps for queue in app.queues
            ]
            for worker in self.workers:
                worker.start()
            for member in self.members:
                port = 0 if self.auto_ports else member.port
                server = HttpServer(member.application(), self.host, port, member.settings().server)
                server.start()
                self.servers[member.name] = server
            self.threads = [make(settings) for app in apps for make in app.listeners]
            self.threads.append(Sweeper("pacifica", [duty for app in apps for duty in app.duties], settings))
            for thread in self.threads:
                thread.start()
        except BaseException:
            self.stop()
            raise

    def urls(self) -> dict[str, str]:
        """Return base URLs by name: the services', and what they provide to others (``archive``, ``policy``, ...)."""
        found = {name: server.url for name, server in self.servers.items()}
        for member in self.members:
            found |= {name: self.servers[member.name].url + path for name, path in member.provides.items()}
        return found

    def has_lost_a_worker(self) -> bool:
        """Tell whether a worker has ended by itself: what is uploaded now would wait for ever."""
        return any(worker.has_died for worker in self.workers)

    def stop(self) -> None:
        """End servers first, so that no new work comes in, then listeners, sweeper and workers."""
        for server in self.servers.values():
            server.stop()
        for thread in self.threads:
            thread.stop()
        for worker in self.workers:
            worker.stop()


def run(data: Path, *, auto_ports: bool, as_json: bool) -> int:
    """Serve until SIGTERM or SIGINT; the exit code is 0 for a clean end, 1 when a worker has died on its own."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    data.mkdir(parents=True, exist_ok=True)
    embed(data)
    members = services()
    wanted = members[0].settings().log
    log.configure(wanted.level, wanted.json)
    suite = Suite(members, auto_ports=auto_ports)
    suite.start()
    urls = suite.urls()
    if as_json:
        sys.stdout.write(json.dumps(urls) + "\n")
    else:
        sys.stdout.writelines(f"{name:10} {url}\n" for name, url in urls.items())
    sys.stdout.flush()
    lost = False
    while not (lost or ended.wait(WATCH_SECONDS)):
        lost = suite.has_lost_a_worker()
    if lost:
        logger.critical("a worker has died; the suite ends, so that whoever started it starts it again")
    suite.stop()
    return int(lost)
