"""The rules of docs/configuration.md."""

import importlib
import os
import re
from concurrent.futures import ThreadPoolExecutor
from configparser import ConfigParser
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from pacifica.common.config import Bytes, Reader, Seconds, Shared, at_least, effective, embed, key, one_of
from pacifica.common.errors import BadConfiguration
from pacifica.common.values import parse

ROOT = Path(__file__).parents[2]
SERVICES = ("ingest", "cartd", "datasafe", "flow")

# As their administrators have them: every key of reference Pacifica 0.4.1 and 0.7.0, at a value of the site.
PACIFICA_INGEST = """
[ingest]
auth_header = X-Site-User
default_user = nobody
transfer_size = 8 Mb
volume_path = /srv/ingest

[uniqueid]
url = http://uniqueid.example:8051

[policy]
ingest_url = http://policy.example:8181/ingest

[archiveinterface]
url = http://archive.example:8080

[metadata]
ingest_url = http://metadata.example:8121/ingest

[database]
peewee_url = postgresql://pacifica:p%%40ss@db.example/pacifica_ingest
connect_attempts = 3
connect_wait = 5

[celery]
broker_url = pyamqp://guest:guest@mq.example:5672//
backend_url = rpc://
"""

PACIFICA_CARTD = """
[cartd]
transfer_size = 16 Mb
volume_path = /srv/carts/
lru_buffer_time = 3600
lru_purge = off
bundle_task = True

[archiveinterface]
url = http://archive.example:8080/

[database]
peewee_url = sqliteext:///cart.db
connect_attempts = 10
connect_wait = 20
debug_logging = True

[celery]
broker_url = pyamqp://
backend_url = rpc://
"""


@dataclass(frozen=True, kw_only=True)
class Kiln:
    glaze: str = key("blue", env="KILN_GLAZE", kind=one_of("blue", "green", "50%"))
    batch: Bytes = key(4 << 20)
    soak: Seconds = key(30.0)
    shelves: int = key(3, kind=at_least(int, 1))
    lit: bool = key(False)
    room: Path = key(Path("room"))
    potters: tuple[str, ...] = key(("ann", "bob"))
    password: str = key("", secret=True)
    door: str = key("", secret=True)


@dataclass(frozen=True, kw_only=True)
class Settings(Shared):
    kiln: Kiln = field(default_factory=Kiln)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Give the test an empty home and an environment that says nothing."""
    for name in os.environ:
        if name.startswith("PACIFICA_") or name.endswith("_CONFIG") or name in OLD_NAMES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    yield tmp_path
    embed(None)


@pytest.fixture
def read(tmp_path):
    """Read the Settings of this test from the text of an ini file."""

    def reading(text: str) -> Settings:
        path = tmp_path / "kiln.ini"
        path.write_text(text)
        reader = Reader(Settings, "kiln")
        reader.use(str(path))
        return reader()

    return reading


def settings_of(service: str) -> type[Shared]:
    return importlib.import_module(f"pacifica.{service}.config").Settings


def keys_of(settings: type[Shared]) -> dict[tuple[str, str], tuple[Any, Any, str | None]]:
    """Return (kind, default, old environment name) of each (section, key)."""
    return {
        (outer.name, inner.name): (get_type_hints(kind)[inner.name], inner.default, inner.metadata["env"])
        for outer in fields(settings)
        for kind in [get_type_hints(settings)[outer.name]]
        for inner in fields(kind)
    }


OLD_NAMES = {old for service in SERVICES for _, _, old in keys_of(settings_of(service)).values() if old} | {
    "KILN_GLAZE"
}


def test_without_file_and_environment_everything_is_at_its_default():
    assert Reader(Settings, "kiln")() == Settings()


def test_every_kind_of_value_is_read_from_the_file(read):
    said = read(
        "[kiln]\nglaze = green\nbatch = 2 GiB\nsoak = 10 min\nshelves = 7\nlit = yes\nroom = /srv/kiln\n"
        "potters = cid,\n  dot\npassword = x\n"
    )
    assert said.kiln == Kiln(
        glaze="green",
        batch=Bytes(2 << 30),
        soak=Seconds(600.0),
        shelves=7,
        lit=True,
        room=Path("/srv/kiln"),
        potters=("cid", "dot"),
        password="x",
    )


def test_the_environment_beats_the_file_the_file_the_old_name_the_old_name_the_embedded_default(
    read, monkeypatch, tmp_path
):
    assert read("").database.peewee_url == "sqliteext:///db.sqlite3"
    embed(tmp_path / "data")
    assert read("").database.peewee_url == f"sqlite:///{tmp_path}/data/pacifica.db"
    monkeypatch.setenv("PEEWEE_URL", "sqlite:///old.db")
    assert read("").database.peewee_url == "sqlite:///old.db"
    file = "[database]\npeewee_url = sqlite:///file.db"
    assert read(file).database.peewee_url == "sqlite:///file.db"
    monkeypatch.setenv("PACIFICA_DATABASE_PEEWEE_URL", "sqlite:///new.db")
    assert read(file).database.peewee_url == "sqlite:///new.db"


def test_the_embedded_defaults_put_all_state_under_one_folder(tmp_path):
    embed(tmp_path)
    settings = Reader(Settings, "kiln")()
    assert settings.archive.path == tmp_path / "archive"
    assert settings.celery.broker_url == "memory://localhost/"


def test_a_data_folder_that_cannot_stand_in_a_url_is_refused(tmp_path):
    with pytest.raises(BadConfiguration):
        embed(tmp_path / "what?")


def test_the_file_is_the_one_used_else_the_one_in_the_environment_else_the_one_at_home(home, monkeypatch):
    usual = home / ".pacifica-kiln" / "config.ini"
    reader = Reader(Settings, "kiln")
    assert reader.file() is None
    usual.parent.mkdir()
    usual.write_text("[kiln]\nshelves = 4")
    assert (reader.file(), reader().kiln.shelves) == (usual, 4)
    named = home / "named.ini"
    named.write_text("[kiln]\nshelves = 5")
    monkeypatch.setenv("KILN_CONFIG", str(named))
    reader.clear()
    assert (reader.file(), reader().kiln.shelves) == (named, 5)
    used = home / "used.ini"
    used.write_text("[kiln]\nshelves = 6")
    reader.use(str(used))
    assert (reader.file(), reader().kiln.shelves) == (used, 6)


def test_settings_are_read_once_by_whichever_thread_comes_first(home):
    path = home / "kiln.ini"
    path.write_text("[kiln]\nshelves = 4")
    reader = Reader(Settings, "kiln")
    reader.use(str(path))
    with ThreadPoolExecutor(8) as pool:
        first, *others = pool.map(lambda _: reader(), range(8))
    path.unlink()
    assert all(other is first for other in others)
    assert reader() is first


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[kiln]\nshelfs = 4", "has no key shelfs"),
        ("[oven]\nshelves = 4", "no section [oven]"),
        ("[kiln]\nshelves = many", "[kiln] shelves: expected a whole number, not 'many'"),
        ("[kiln]\nshelves = 0", "at least 1"),
        ("[kiln]\nbatch = 4 potatoes", "a size"),
        ("[kiln]\nsoak = soon", "a time"),
        ("[kiln]\nlit = perhaps", "on or off"),
        ("[kiln]\nglaze = pink", "one of blue, green"),
        ("[kiln]\nroom =", "a path"),
        ("[kiln]\nglaze = %(nothing)s", "refers to a key that is not there"),
        ("[kiln]\nshelves = 4\nshelves = 5", "line 3: not an ini file"),
        ("shelves = 4", "line 1: not an ini file"),
        ("[kiln]\nnonsense", "line 2: not an ini file"),
    ],
)
def test_what_cannot_be_used_is_refused_naming_the_file_and_what_is_expected(read, tmp_path, text, said):
    with pytest.raises(BadConfiguration) as refused:
        read(text)
    assert said in refused.value.message
    assert str(tmp_path / "kiln.ini") in refused.value.message


def test_a_refused_value_names_its_variable_when_it_came_from_the_environment(monkeypatch):
    monkeypatch.setenv("PACIFICA_KILN_SHELVES", "many")
    with pytest.raises(BadConfiguration, match="PACIFICA_KILN_SHELVES: expected a whole number") as refused:
        Reader(Settings, "kiln")()
    assert refused.value.detail == {"section": "kiln", "key": "shelves", "expected": "a whole number"}


def test_an_unknown_variable_is_only_warned_of(monkeypatch, caplog):
    monkeypatch.setenv("PACIFICA_KILN_SERVICE_HOST", "10.0.0.1")
    assert Reader(Settings, "kiln")() == Settings()
    assert "PACIFICA_KILN_SERVICE_HOST" in caplog.text


@pytest.mark.parametrize("named", ["missing.ini", "."])
def test_a_named_file_that_cannot_be_read_is_refused(home, named):
    reader = Reader(Settings, "kiln")
    reader.use(str(home / named))
    with pytest.raises(BadConfiguration, match="cannot be read"):
        reader()


def test_a_file_that_is_not_text_is_refused(home):
    (home / "kiln.ini").write_bytes(b"[kiln]\nglaze = \xff\xfe")
    reader = Reader(Settings, "kiln")
    reader.use(str(home / "kiln.ini"))
    with pytest.raises(BadConfiguration, match="not UTF-8"):
        reader()


def test_a_faulty_line_is_not_repeated_for_it_may_hold_a_secret(read):
    with pytest.raises(BadConfiguration) as refused:
        read("[kiln]\nhunter2")
    assert "hunter2" not in refused.value.message
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(("written", "read_as"), [("a%40b", "a%40b"), ("a%%40b", "a%40b"), ("%(glaze)s!", "green!")])
def test_percent_signs_mean_what_they_meant_to_pacifica_and_otherwise_themselves(read, written, read_as):
    assert read(f"[kiln]\nglaze = green\npassword = {written}").kiln.password == read_as


def test_secrets_are_masked_where_settings_are_shown(read):
    shown = dict(
        effective(
            read(
                "[kiln]\npassword = hunter2\n"
                "[database]\npeewee_url = postgresql://joe:hun@ter2@db/pacifica?sslpassword=hunter2\n"
                "[celery]\nbroker_url = pyamqp://joe:hunter2@mq:5672//\n"
            )
        )
    )
    assert "ter2" not in str(shown)
    assert shown["kiln.password"] == "********"
    assert shown["kiln.door"] == ""
    assert shown["database.peewee_url"] == "postgresql://joe:********@db/pacifica?sslpassword=********"
    assert shown["celery.broker_url"] == "pyamqp://joe:********@mq:5672//"
    assert shown["celery.backend_url"] == "rpc://"


def test_what_is_shown_reads_back_as_the_same_settings(read):
    lines: dict[str, list[str]] = {}
    settings = Settings(kiln=Kiln(batch=Bytes(12345), soak=Seconds(0.1), lit=True, potters=()))
    for name, text in effective(settings):
        section, option = name.split(".")
        lines.setdefault(section, [f"[{section}]"]).append(f"{option} = {text}")
    assert read("\n".join(line for section in lines.values() for line in section)) == settings


@pytest.mark.parametrize("service", SERVICES)
def test_the_shipped_file_has_every_key_at_its_default_and_no_other(service):
    text = (ROOT / "config" / f"{service}.ini").read_text(encoding="utf-8")
    commented = ConfigParser(interpolation=None)
    commented.read_string(re.sub(r"(?m)^#", "", text))
    keys = keys_of(settings_of(service))
    assert {(section, option) for section in commented.sections() for option in commented[section]} == set(keys)
    for (section, option), (kind, default, _) in keys.items():
        assert parse(kind, commented[section][option]) == default, f"[{section}] {option}"
    assert all(re.match(r"; \S|#\w+ =|\[|$", line) for line in text.splitlines())


@pytest.mark.parametrize("service", SERVICES)
def test_the_shipped_file_loads_and_changes_nothing(service):
    settings = settings_of(service)
    reader = Reader(settings, service)
    reader.use(str(ROOT / "config" / f"{service}.ini"))
    assert reader() == settings()


@pytest.mark.parametrize("service", SERVICES)
def test_the_document_names_every_key_with_its_default_and_its_old_variable(service):
    rows: dict[tuple[str, str, str], tuple[str, str]] = {}
    part = section = ""
    for line in (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"## (.*)", line):
            part = heading[1]
        elif heading := re.match(r"### \[(\w+)\]", line):
            section = heading[1]
        elif row := re.match(r"\| `(\w+)` \| (?:`([^`]*)`|empty) \| (?:`(\w+)`)? \|", line):
            rows[part, section, row[1]] = (row[2] or "", row[3] or "")
    for (section, option), (kind, default, old) in keys_of(settings_of(service)).items():
        found = rows.get((service, section, option)) or rows["Sections of every service", section, option]
        assert parse(kind, found[0]) == default
        assert found[1] == (old or "")


def test_an_original_ingest_file_loads_unchanged(home):
    (home / "config.ini").write_text(PACIFICA_INGEST)
    reader = Reader(settings_of("ingest"), "ingest")
    reader.use(str(home / "config.ini"))
    settings: Any = reader()
    assert settings.ingest.auth_header == settings.auth.header == "X-Site-User"
    assert settings.ingest.default_user == settings.auth.default_user == "nobody"
    assert settings.ingest.transfer_size == 8 << 20
    assert settings.ingest.volume_path == Path("/srv/ingest")
    assert settings.uniqueid.url == "http://uniqueid.example:8051"
    assert settings.policy.ingest_url == "http://policy.example:8181/ingest"
    assert settings.archiveinterface.url == "http://archive.example:8080"
    assert settings.metadata.ingest_url == "http://metadata.example:8121/ingest"
    assert settings.database.peewee_url == "postgresql://pacifica:p%40ss@db.example/pacifica_ingest"
    assert (settings.database.connect_attempts, settings.database.connect_wait) == (3, 5.0)
    assert settings.celery.broker_url == "pyamqp://guest:guest@mq.example:5672//"


def test_an_original_cartd_file_loads_unchanged(home):
    (home / "config.ini").write_text(PACIFICA_CARTD)
    reader = Reader(settings_of("cartd"), "cartd")
    reader.use(str(home / "config.ini"))
    settings: Any = reader()
    assert settings.cartd.transfer_size == 16 << 20
    assert settings.cartd.volume_path == Path("/srv/carts")
    assert (settings.cartd.lru_buffer_time, settings.cartd.lru_purge, settings.cartd.bundle_task) == (
        3600.0,
        False,
        True,
    )
    assert settings.archiveinterface.url == "http://archive.example:8080/"
    assert settings.database.debug_logging is True


@pytest.mark.parametrize(
    ("service", "variable", "section", "option"),
    [
        ("ingest", "INGEST_AUTH_HEADER", "ingest", "auth_header"),
        ("ingest", "INGEST_DEFAULT_USER", "ingest", "default_user"),
        ("ingest", "UNIQUEID_URL", "uniqueid", "url"),
        ("ingest", "POLICY_INGEST_URL", "policy", "ingest_url"),
        ("ingest", "ARCHIVEINTERFACE_URL", "archiveinterface", "url"),
        ("ingest", "METADATA_INGEST_URL", "metadata", "ingest_url"),
        ("cartd", "ARCHIVE_INTERFACE_URL", "archiveinterface", "url"),
        ("cartd", "BROKER_URL", "celery", "broker_url"),
        ("cartd", "BACKEND_URL", "celery", "backend_url"),
    ],
)
def test_pacificas_own_variables_are_understood(monkeypatch, service, variable, section, option):
    monkeypatch.setenv(variable, "said")
    assert getattr(getattr(Reader(settings_of(service), service)(), section), option) == "said"


def test_pacificas_user_keys_give_way_to_what_auth_says(home):
    (home / "config.ini").write_text("[ingest]\nauth_header = X-Old\n[auth]\nheader = X-New")
    reader = Reader(settings_of("ingest"), "ingest")
    reader.use(str(home / "config.ini"))
    assert reader().auth.header == "X-New"


def test_one_file_may_serve_all_services(home):
    (home / "suite.ini").write_text(PACIFICA_INGEST + "[cartd]\nmax_files = 10\n[audit]\nperiod_days = 7\n[flow]\n")
    for service in SERVICES:
        reader = Reader(settings_of(service), service)
        reader.use(str(home / "suite.ini"))
        assert reader().database.connect_attempts == 3


def test_settings_can_be_made_in_code():
    assert replace(Settings(), kiln=Kiln(shelves=9)).kiln.shelves == 9
