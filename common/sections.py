"""The sections of the configuration that every service reads, and how a key is declared."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .values import Bytes, Seconds, at_least, one_of


def key(default: Any, *, env: str | None = None, secret: bool = False, kind: Callable[[str], Any] | None = None) -> Any:
    """Declare a key of a section.

    ``env`` is Pacifica's old environment name.  A ``secret`` is masked wherever settings are shown (of a URL only
    its passwords).  ``kind`` parses the text where the annotated type alone would take too much.
    """
    return field(default=default, metadata={"env": env, "secret": secret, "kind": kind})


@dataclass(frozen=True, kw_only=True)
class Database:
    """[database]: where the state of all services lives."""

    peewee_url: str = key("sqliteext:///db.sqlite3", env="PEEWEE_URL", secret=True)
    connect_attempts: int = key(10, env="DATABASE_CONNECT_ATTEMPTS", kind=at_least(int, 1))
    connect_wait: Seconds = key(20.0, env="DATABASE_CONNECT_WAIT")  # between two attempts
    pool_size: int = key(8, kind=at_least(int, 1))  # PostgreSQL connections of one process
    debug_logging: bool = key(False, env="DATABASE_DEBUG_LOGGING")


@dataclass(frozen=True, kw_only=True)
class Celery:
    """[celery]: the broker that rings the workers."""

    broker_url: str = key("pyamqp://", env="BROKER_URL", secret=True)
    backend_url: str = key("rpc://", env="BACKEND_URL", secret=True)  # Pacifica's; state is in SQL, so nothing reads it
    concurrency: int = key(2, kind=at_least(int, 1))  # tasks at once in an embedded worker


@dataclass(frozen=True, kw_only=True)
class Archive:
    """[archive]: the volume, one directory tree on one file system."""

    path: Path = key(Path("archive"))
    min_free_bytes: Bytes = key(64 << 20)  # new uploads get 507 when less would stay free


@dataclass(frozen=True, kw_only=True)
class Auth:
    """[auth]: who may come in (design: deny by default outside loopback)."""

    mode: str = key("none", kind=one_of("none", "proxy"))
    header: str = key("X-Http-Authed-User")
    default_user: str = key("root")
    proxies: tuple[str, ...] = key(("127.0.0.1", "::1"))
    administrators: tuple[str, ...] = key(())
    services: tuple[str, ...] = key(())


@dataclass(frozen=True, kw_only=True)
class Policy:
    """[policy]: who says whether a bundle may come in."""

    ingest_url: str = key("", env="POLICY_INGEST_URL", secret=True)  # empty: the embedded policy
    mode: str = key("open", kind=one_of("open", "catalog"))  # of the embedded policy


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """[neighbours]: how external services are asked."""

    timeout: Seconds = key(60.0, kind=at_least(Seconds, 0.1))  # one that is silent for so long does not answer
    tries: int = key(4, kind=at_least(int, 1))  # of one question, before the work itself is put off
    retry_seconds: Seconds = key(0.5)  # before the second try; doubles, with jitter
    answer_seconds: Seconds = key(300.0, kind=at_least(Seconds, 0.1))  # what an answer takes at most, beside its bytes
    min_rate: Bytes = key(16 << 10, kind=at_least(Bytes, 1))  # bytes a second of what is sent, and of files that come
    request_seconds: Seconds = key(5.0, kind=at_least(Seconds, 0.1))  # what a client's request waits for one at most


@dataclass(frozen=True, kw_only=True)
class Worker:
    """[worker]: leases, retries and the sweeper."""

    lease_seconds: Seconds = key(30.0, kind=at_least(Seconds, 0.1))
    sweep_seconds: Seconds = key(1.0, kind=at_least(Seconds, 0.01))
    max_attempts: int = key(5, kind=at_least(int, 1))
    retry_seconds: Seconds = key(2.0)  # before the second attempt; doubles, with jitter, up to 300


@dataclass(frozen=True, kw_only=True)
class Server:
    """[server]: limits of the built-in web server and of request bodies."""

    threads: int = key(64, kind=at_least(int, 1))
    socket_timeout: Seconds = key(10.0, kind=at_least(Seconds, 0.1))
    body_timeout: Seconds = key(60.0, kind=at_least(Seconds, 0.1))
    min_body_rate: Bytes = key(1024)  # bytes a second


@dataclass(frozen=True, kw_only=True)
class Log:
    """[log]: what goes to standard error, and how."""

    level: str = key("info", kind=one_of("debug", "info", "warning", "error"))
    json: bool = key(False)


@dataclass(frozen=True, kw_only=True)
class Shared:
    """The sections that every service reads; a service's Settings adds its own."""

    database: Database = field(default_factory=Database)
    celery: Celery = field(default_factory=Celery)
    archive: Archive = field(default_factory=Archive)
    auth: Auth = field(default_factory=Auth)
    worker: Worker = field(default_factory=Worker)
    server: Server = field(default_factory=Server)
    log: Log = field(default_factory=Log)
