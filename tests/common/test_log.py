"""Log lines: one a record, no secret, nothing forged."""

import json
import logging

import pytest

from pacifica.common import log
from pacifica.common.errors import BadConfiguration


@pytest.fixture
def logger():
    """Give the root logger back as it was."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield logging.getLogger("pacifica.test")
    root.handlers[:] = before
    root.setLevel(level)


def failing() -> None:
    raise ValueError("cannot reach amqp://joe:hunter2@host")


def test_a_record_is_one_line_whatever_its_text_holds(logger, capsys):
    log.configure("info")
    logger.info("name %s", "a\r\nb\x1b[2J\u2028c")
    assert capsys.readouterr().err.endswith(r"INFO pacifica.test name a\r\nb\x1b[2J\u2028c" + "\n")


def test_a_traceback_stays_on_the_line_and_shows_no_password(logger, capsys):
    log.configure("info")
    try:
        failing()
    except ValueError:
        logger.exception("failed", extra={"job": 7})
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert "failed job=7 Traceback" in text
    assert "in failing" in text
    assert "hunter2" not in text


def test_json_lines_carry_the_facts_of_a_record(logger, capsys):
    log.configure("INFO", json=True)
    try:
        failing()
    except ValueError:
        logger.exception("job %d\nfailed", 7, extra={"job": 7, "trace": "abc"})
    (line,) = capsys.readouterr().err.splitlines()
    said = json.loads(line)
    assert (said["level"], said["message"], said["job"], said["trace"]) == ("error", "job 7\nfailed", 7, "abc")
    assert "amqp://joe:********@host" in said["exception"]
    assert "hunter2" not in line


def test_the_level_is_kept_and_a_second_call_replaces_the_first(logger, capsys):
    log.configure("debug")
    log.configure("warning")
    logger.info("quiet")
    logger.warning("loud")
    assert capsys.readouterr().err.count("\n") == 1


def test_an_unknown_level_is_refused():
    with pytest.raises(BadConfiguration, match="one of debug, info"):
        log.configure("loud")
