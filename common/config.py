"""What an administrator can tell a service, read once into frozen dataclasses.

A section of the ini file is a dataclass, a service's ``Settings`` holds its sections by name.  For one key the first
of these wins: ``PACIFICA_<SECTION>_<KEY>`` in the environment, the ini file, Pacifica's old environment name, what
``embed`` put below them, the default (``docs/configuration.md``).  No other module reads the environment.
"""

import logging
import os
import threading
from collections.abc import Iterator
from configparser import ConfigParser, InterpolationSyntaxError
from configparser import Error as IniError
from dataclasses import Field, fields
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar, get_type_hints

from .errors import BadConfiguration
from .sections import Archive, Auth, Celery, Database, Log, Neighbours, Policy, Server, Shared, Worker, key
from .values import Bytes, Seconds, at_least, mask, one_of, parse, show

__all__ = [
    "Archive",
    "Auth",
    "Bytes",
    "Celery",
    "Database",
    "Log",
    "Neighbours",
    "Policy",
    "Reader",
    "Seconds",
    "Server",
    "Shared",
    "Worker",
    "at_least",
    "effective",
    "embed",
    "key",
    "one_of",
]

S = TypeVar("S", bound="Shared")

LOG = logging.getLogger(__name__)


_embedded: dict[tuple[str, str], str] = {}


def embed(data: Path | None) -> None:
    """Put the defaults of `pacifica up` below file and environment: all state under the folder ``data``.

    Call it before any Reader is called.  None takes them back.
    """
    _embedded.clear()
    if data is None:
        return
    root = data.expanduser().absolute()
    if set("?#") & set(str(root)):
        raise BadConfiguration("The data folder's path must not contain '?' or '#': it becomes part of a URL.")
    _embedded["database", "peewee_url"] = f"sqlite:///{root / 'pacifica.db'}"
    _embedded["archive", "path"] = str(root / "archive")
    _embedded["celery", "broker_url"] = "memory://localhost/"  # without a host, kombu warns of it


class Reader(Generic[S]):
    """Reads one service's Settings at the first call and hands out the same object from then on."""

    def __init__(self, settings: type[S], name: str) -> None:
        """Read ``settings`` for the service called ``name`` ("ingest")."""
        self._settings = settings
        self._name = name
        self._path: str | None = None
        self._cached: S | None = None
        self._lock = threading.Lock()

    def __call__(self) -> S:
        """Return the settings in force; BadConfiguration names file, section, key and what is expected."""
        held = self._cached
        if held is not None:  # without the lock, which a thread may hold for ever that a forked child does not have
            return held
        with self._lock:
            if self._cached is None:
                self._cached = self._read()
            return self._cached

    def use(self, path: str | None) -> None:
        """Read the ini file ``path`` (the command line's ``-c``); None finds the usual one."""
        with self._lock:
            self._path, self._cached = path, None

    def clear(self) -> None:
        """Forget what was read, so that the next call reads again (for tests)."""
        with self._lock:
            self._cached = None

    def file(self) -> Path | None:
        """Return the ini file that is read, if any: ``use``, ``<NAME>_CONFIG``, ``~/.pacifica-<name>/config.ini``."""
        named = self._path or os.environ.get(f"{self._name.upper()}_CONFIG")
        if named:
            return Path(named)  # whether it exists or not: a file that somebody named must be there
        try:
            usual = Path.home() / f".pacifica-{self._name}" / "config.ini"
        except RuntimeError:  # a service account may have no home
            return None
        return usual if usual.is_file() else None

    def told(self) -> str:
        """Return a sentence about which ini file is read, or where one was looked for."""
        found = self.file()
        if found is not None:
            return f"The configuration is {found}."
        looked = f"--config, {self._name.upper()}_CONFIG and ~/.pacifica-{self._name}/config.ini"
        return (
            f"There is no configuration file ({looked} were looked for), and --data says where `pacifica up` keeps one."
        )

    def _read(self) -> S:
        source = _Source(self.file())
        types = get_type_hints(self._settings)
        sections = {f.name: types[f.name] for f in fields(self._settings)}
        source.refuse_unknown(sections)
        return self._settings(**{name: source.section(name, kind) for name, kind in sections.items()})


def effective(settings: Shared) -> list[tuple[str, str]]:
    """Return ("section.key", text) of everything in force, in the order of declaration, secrets masked."""
    shown = []
    for outer in fields(settings):
        section = getattr(settings, outer.name)
        types = get_type_hints(type(section))
        for inner in fields(section):
            text = show(types[inner.name], getattr(section, inner.name))
            shown.append((f"{outer.name}.{inner.name}", mask(text, secret=inner.metadata["secret"])))
    return shown


class _Source:
    """One reading of an ini file (or none) and the environment."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.ini = ConfigParser()
        if path is None:
            return
        try:
            with path.open(encoding="utf-8-sig") as lines:
                self.ini.read_file(lines, source=str(path))
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            raise BadConfiguration(f"{path} cannot be read: {reason}") from error
        except IniError as error:
            # The parser's own text quotes the line, which may hold a secret.
            lineno = getattr(error, "lineno", None) or (getattr(error, "errors", None) or [[None]])[0][0]
            line = f", line {lineno}" if lineno else ""
            raise BadConfiguration(f"{path}{line}: not an ini file ({type(error).__name__})") from None

    def section(self, name: str, kind: type) -> Any:
        """Return the dataclass ``kind`` filled with what is said about section ``name``."""
        types = get_type_hints(kind)
        given = {}
        for one in fields(kind):
            found = self._find(name, one)
            if found is not None:
                given[one.name] = self._value(name, one, types[one.name], *found)
        return kind(**given)

    def refuse_unknown(self, sections: dict[str, type]) -> None:
        """Raise BadConfiguration for a section or key of the file that nobody reads; warn of such variables."""
        elsewhere: set[str] | None = None
        for name in self.ini.sections():
            if name in sections:
                self._refuse_unknown_keys(name, sections[name])
                continue
            elsewhere = _sections_elsewhere() if elsewhere is None else elsewhere
            if name not in elsewhere:
                known = ", ".join(sections)
                raise self._bad(f"there is no section [{name}]; expected one of {known}", section=name)
        for name, kind in sections.items():
            prefix = f"PACIFICA_{name}_".upper()
            known_names = {prefix + one.name.upper() for one in fields(kind)}
            for variable in sorted(os.environ):
                # Only a warning: container platforms invent variables such as PACIFICA_INGEST_SERVICE_HOST.
                if variable.startswith(prefix) and variable not in known_names:
                    LOG.warning("environment variable %s sets no key of [%s]", variable, name)

    def _refuse_unknown_keys(self, name: str, kind: type) -> None:
        known = [one.name for one in fields(kind)]
        for option in self.ini.options(name):
            if option not in known and option not in self.ini.defaults():
                raise self._bad(f"[{name}] has no key {option}; expected one of {', '.join(known)}", name, option)

    def _find(self, section: str, one: "Field[Any]") -> tuple[str, str] | None:
        """Return (text, where it stands), or None when nothing is said and the default holds."""
        old = one.metadata["env"]
        for text, where in self._candidates(section, one.name, old):
            if text is not None:
                return text, where
        return None

    def _candidates(self, section: str, name: str, old: str | None) -> Iterator[tuple[str | None, str]]:
        new = f"PACIFICA_{section}_{name}".upper()
        yield os.environ.get(new), new
        yield self._from_file(section, name), f"{self.path}, [{section}] {name}"
        if old is not None:
            yield os.environ.get(old), old
        yield _embedded.get((section, name)), f"[{section}] {name}"

    def _from_file(self, section: str, name: str) -> str | None:
        if not self.ini.has_option(section, name):
            return None
        try:
            return self.ini.get(section, name)
        except InterpolationSyntaxError:  # "%" of a URL; a file written for Pacifica may as well say "%%"
            return self.ini.get(section, name, raw=True)
        except IniError as error:
            raise self._bad(f"[{section}] {name} refers to a key that is not there", section, name) from error

    def _value(self, section: str, one: "Field[Any]", kind: Any, text: str, where: str) -> Any:
        own = one.metadata["kind"]
        try:
            return own(text.strip()) if own is not None else parse(kind, text)
        except ValueError as error:
            said = "" if one.metadata["secret"] else f", not {text!r}"
            message = f"{where}: expected {error}{said}"
            raise BadConfiguration(message, section=section, key=one.name, expected=str(error)) from error

    def _bad(self, message: str, section: str, key: str | None = None) -> BadConfiguration:
        return BadConfiguration(f"{self.path}: {message}", section=section, key=key)


def _sections_elsewhere() -> set[str]:
    """Return the sections of all installed services: one file may serve them all."""
    services = {one.name for one in entry_points(group="pacifica.services")}
    for one in entry_points(group="pacifica.settings"):
        services |= {section.name for section in fields(one.load())}
    return services
