"""What cartd is told by Pacifica's own variables."""

from pathlib import Path

import pytest

from pacifica.cartd.config import Settings
from pacifica.common.config import Reader


@pytest.mark.parametrize(
    ("variable", "text", "section", "option", "value"),
    [
        ("TRANSFER_SIZE", "8 Mb", "cartd", "transfer_size", 8 << 20),
        ("VOLUME_PATH", "/srv/carts/", "cartd", "volume_path", Path("/srv/carts")),
        ("LRU_BUFFER_TIME", "3600", "cartd", "lru_buffer_time", 3600.0),
        ("LRU_PURGE", "off", "cartd", "lru_purge", False),
        ("BUNDLE_TASK", "on", "cartd", "bundle_task", True),
        ("ARCHIVE_INTERFACE_URL", "http://a.example:8080/", "archiveinterface", "url", "http://a.example:8080/"),
        ("DATABASE_DEBUG_LOGGING", "True", "database", "debug_logging", True),
        ("DATABASE_CONNECT_ATTEMPTS", "3", "database", "connect_attempts", 3),
        ("DATABASE_CONNECT_WAIT", "5", "database", "connect_wait", 5.0),
        ("PEEWEE_URL", "sqliteext:///x.db", "database", "peewee_url", "sqliteext:///x.db"),
        ("BROKER_URL", "pyamqp://b", "celery", "broker_url", "pyamqp://b"),
        ("BACKEND_URL", "rpc://b", "celery", "backend_url", "rpc://b"),
    ],
)
def test_every_variable_of_the_original_is_a_default_below_the_file(
    monkeypatch, tmp_path, variable, text, section, option, value
):
    for name in ("HOME", "CARTD_CONFIG"):
        monkeypatch.setenv(name, str(tmp_path / name))
    (tmp_path / "CARTD_CONFIG").write_text("")
    monkeypatch.setenv(variable, text)
    assert getattr(getattr(Reader(Settings, "cartd")(), section), option) == value
    monkeypatch.setenv("PACIFICA_CARTD_MAX_FILES", "7")
    assert Reader(Settings, "cartd")().cartd.max_files == 7


def test_the_file_is_the_one_that_the_environment_names(monkeypatch, tmp_path):
    (tmp_path / "mine.ini").write_text("[cartd]\nlru_buffer_time = 12\n")
    monkeypatch.setenv("CARTD_CONFIG", str(tmp_path / "mine.ini"))
    monkeypatch.setenv("LRU_BUFFER_TIME", "3600")
    assert Reader(Settings, "cartd")().cartd.lru_buffer_time == 12.0
