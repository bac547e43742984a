"""Private servers for tests: a PostgreSQL and a RabbitMQ node on free loopback ports, with folders of their own.

They can be stopped, killed and frozen, which is what the fault tests are for.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import amqp
import psycopg


def free_port() -> int:
    """Return a TCP port that nobody listens on, below those that the kernel gives to clients meanwhile."""
    clients = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for _ in range(1000):
        port = clients // 2 + secrets.randbelow(clients // 2)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")


def wait_until(condition: Callable[[], object], seconds: float = 30.0, what: str = "the condition") -> None:
    """Poll ``condition`` until it is true; AssertionError after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true in {seconds} s"
        time.sleep(0.02)


class Node:
    """A server in a temp folder; ``root`` runs it as ``user``, since some servers refuse root."""

    user: str

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"pacifica-{type(self).__name__.lower()}-", dir="/tmp"))
        if os.geteuid() == 0:
            shutil.chown(self.folder, self.user)
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients find it."""
        raise NotImplementedError

    def start(self) -> "Node":
        """Start the server and return when it answers."""
        raise NotImplementedError

    def stop(self) -> None:
        """End the server in an orderly way."""
        raise NotImplementedError

    def kill(self) -> None:
        """End the server as a power cut would."""
        self._signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()

    def freeze(self) -> None:
        """Let the server stand still: connections stay up, nobody answers."""
        assert self.process is not None
        freeze(self.process.pid)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        self._signal(signal.SIGCONT)

    def remove(self) -> None:
        """End the server for good and delete its folder."""
        if self.process is not None and self.process.poll() is None:
            self.thaw()
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self) -> bool:
        """Tell whether a client gets in."""
        raise NotImplementedError

    def _await(self, seconds: float) -> None:
        """Return when the server answers; AssertionError with its own last words when it ends, or takes too long."""

        def answers() -> bool:
            assert self.process is not None and self.process.poll() is None, "it ended"
            return self._answers()

        try:
            wait_until(answers, seconds, f"an answer of {type(self).__name__}")
        except AssertionError as error:
            said = (self.folder / "output.log").read_text(errors="replace")[-4000:]
            raise AssertionError(f"{error}; it said:\n{said}") from None

    def _wait_for_end(self) -> None:
        def is_gone() -> bool:  # runuser, who stands still with its child, may have missed that this was thawed
            self.thaw()
            return self.process is None or self.process.poll() is not None

        wait_until(is_gone, 60, f"the end of {type(self).__name__}")

    def _run(self, command: Iterable[str | Path], **environment: str) -> None:
        subprocess.run(self._as_user(command), check=True, capture_output=True, env=os.environ | environment, cwd="/")

    def _spawn(self, command: Iterable[str | Path], **environment: str) -> None:
        with (self.folder / "output.log").open("ab") as log:
            self.process = subprocess.Popen(
                self._as_user(command), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                env=os.environ | environment, cwd="/", start_new_session=True,
            )  # fmt: skip

    def _as_user(self, command: Iterable[str | Path]) -> list[str]:
        prefix = ["runuser", "-u", self.user, "--"] if os.geteuid() == 0 else []
        return [*prefix, *map(str, command)]

    def _signal(self, number: int) -> None:
        # The session that it was started in, and what has left that session since: all that names its folder.
        assert self.process is not None
        for pid in descendants(self.process.pid):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue


class PostgresNode(Node):
    """A PostgreSQL server, without fsync unless ``durable``; ``create_database`` gives a fresh database."""

    user = "postgres"

    def __init__(self, durable: bool = False) -> None:
        super().__init__()
        self.durable = durable
        self.programs = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
        data = self.folder / "data"
        self._run([self.programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8",
                   "--locale=C.UTF-8"])  # fmt: skip

    @property
    def url(self) -> str:
        """The maintenance database."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> "PostgresNode":
        """Start the server and return when it answers."""
        options = {
            "port": str(self.port), "listen_addresses": "127.0.0.1", "unix_socket_directories": str(self.folder),
            "fsync": "off", "full_page_writes": "off", "max_connections": "400",
        }  # fmt: skip
        if self.durable:
            options |= {"fsync": "on", "full_page_writes": "on"}
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        self._spawn([self.programs / "postgres", "-D", self.folder / "data", *words])
        self._await(60)
        return self

    def stop(self, mode: str = "fast") -> None:
        """End the server; ``immediate`` is the crash that clients see."""
        self._run([self.programs / "pg_ctl", "-D", self.folder / "data", "-m", mode, "-w", "stop"])
        self._wait_for_end()

    def create_database(self, template: str | None = None) -> str:
        """Create a database, empty or a copy of the one at the URL ``template``, and return its URL."""
        name = f"t{secrets.token_hex(8)}"
        like = f' TEMPLATE "{template.rpartition("/")[2]}"' if template else ""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"{like}')
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def drop_database(self, url: str) -> None:
        """Drop a database that ``create_database`` made, whoever is still connected."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{url.rpartition("/")[2]}" WITH (FORCE)')

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


class RabbitNode(Node):
    """A RabbitMQ node without plugins.  Erlang's epmd, which it may start, is shared and stays."""

    user = "rabbitmq"

    def __init__(self) -> None:
        super().__init__()
        self.name = f"t{secrets.token_hex(6)}@localhost"
        plugins = self.folder / "enabled_plugins"
        plugins.write_text("[].\n")
        configuration = self.folder / "rabbitmq.conf"
        configuration.write_text(f"listeners.tcp.1 = 127.0.0.1:{self.port}\nloopback_users = none\n")
        self.environment = {
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            "RABBITMQ_CONFIG_FILE": str(configuration),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "none"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "HOME": str(self.folder),
        }
        for path in (plugins, configuration):
            path.chmod(0o644)

    @property
    def url(self) -> str:
        """The default vhost, as guest."""
        return f"pyamqp://guest:guest@127.0.0.1:{self.port}//"

    def start(self) -> "RabbitNode":
        """Start the node and return when it answers; once more where it does not, with its last words as a warning."""
        for last in (False, True):
            self.environment["RABBITMQ_DIST_PORT"] = str(free_port())
            self._spawn([_program("rabbitmq-server")], **self.environment)
            try:
                self._await(90)
                break
            except AssertionError as error:
                if last:
                    raise
                warnings.warn(f"RabbitMQ is started again: {error}", stacklevel=2)
                self.kill()
        return self

    def create_vhost(self) -> str:
        """Create a vhost, which is a broker of its own to those who use it, and return its URL."""
        name = f"t{secrets.token_hex(8)}"
        allow = ", ".join(f'<<"{word}">>' for word in ("guest", name, ".*", ".*", ".*", "tests"))
        self.evaluate(
            f'rabbit_vhost:add(<<"{name}">>, <<"tests">>), rabbit_auth_backend_internal:set_permissions({allow}).'
        )
        return f"pyamqp://guest:guest@127.0.0.1:{self.port}/{name}"

    @contextmanager
    def channel(self, url: str) -> Iterator[amqp.Channel]:
        """Talk to the vhost of ``url``, which ``create_vhost`` made, past every service."""
        with amqp.Connection(f"127.0.0.1:{self.port}", virtual_host=url.rpartition("/")[2]) as connection:
            yield connection.channel()

    def evaluate(self, code: str) -> None:
        """Let the node evaluate Erlang."""
        self._run([_program("rabbitmqctl"), "--quiet", "--node", self.name, "eval", code], **self.environment)

    def stop(self) -> None:
        """End the node in an orderly way."""
        assert self.process is not None
        for pid in descendants(self.process.pid):
            if _command(pid).startswith("beam"):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
        self._wait_for_end()

    def _answers(self) -> bool:
        try:
            with amqp.Connection(f"127.0.0.1:{self.port}", connect_timeout=2):
                return True
        except (OSError, amqp.AMQPError):
            return False


def _program(name: str) -> str:
    # Debian's wrapper runs its server as the user rabbitmq only; the program below it runs as anybody.
    behind = Path("/usr/lib/rabbitmq/bin") / name
    return str(behind) if behind.exists() else name


def descendants(root: int) -> list[int]:
    """Return ``root`` and every process below it, children first."""
    below: dict[int, list[int]] = {}
    for pid, _, parent, _ in _processes():
        below.setdefault(parent, []).append(pid)
    found, queue = [], [root]
    while queue:
        pid = queue.pop()
        found.append(pid)
        queue += below.get(pid, [])
    return found[::-1]


def children(root: int) -> list[int]:
    """Return the processes that ``root`` has started itself, but not those that have only to be reaped."""
    return [pid for pid, state, parent, _ in _processes() if parent == root and state != "Z"]


def members(group: int) -> list[int]:
    """Return the processes of a process group that have not ended; who has only to be reaped has."""
    return [pid for pid, state, _, own in _processes() if own == group and (state != "Z" or _has_threads(pid))]


def is_gone(pid: int) -> bool:
    """Tell whether a process has ended with all its threads, whether or not it has been reaped."""
    found = _stat(pid)
    return found is None or (found[0] == "Z" and not _has_threads(pid))


def _has_threads(pid: int) -> bool:
    """Tell whether threads of ``pid`` are still ending, and with them its sockets, although its first one has."""
    try:
        return len(list(Path(f"/proc/{pid}/task").iterdir())) > 1
    except (FileNotFoundError, ProcessLookupError):
        return False


def _processes() -> Iterator[tuple[int, str, int, int]]:
    """Yield pid, state, parent and process group of each process."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (found := _stat(int(entry.name))) is not None:
            yield int(entry.name), *found


def _stat(pid: int) -> tuple[str, int, int] | None:
    """Return state, parent and process group of a process, None where there is none."""
    try:
        state, parent, group = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:3]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return state, int(parent), int(group)


def freeze(root: int) -> None:
    """Let ``root`` and all below it stand still; what the kernel does for them right now is done on return."""
    pids = descendants(root)
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: all(_stands(pid) for pid in pids), what="the standstill of every thread")


def _stands(pid: int) -> bool:
    """Tell whether every thread of ``pid`` is stopped, or gone: a signal takes its time on a busy machine."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        states = [(thread / "stat").read_text().rpartition(")")[2].split()[0] for thread in threads]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return all(state in "TtZX" for state in states)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
