"""Log records as single lines on standard error, as text or as JSON, without secrets.

Nothing that a client sends can forge a second line: control characters of a message are written as escapes, and a
traceback follows its message on the same line.
"""

import json as json_text
import logging
import re
import sys
import time
from typing import Any

from .errors import BadConfiguration
from .values import mask

LEVELS = ("debug", "info", "warning", "error")

CONTROLS = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")  # all that a terminal or a log reader may take as a new line

STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(level: str = "info", json: bool = False) -> None:
    """Send records of ``level`` and above to standard error, one line each; a second call replaces the first."""
    if level.lower() not in LEVELS:
        raise BadConfiguration(f"log level: expected one of {', '.join(LEVELS)}")
    root = logging.getLogger()
    for handler in [one for one in root.handlers if isinstance(one, _Handler)]:
        root.removeHandler(handler)
    handler = _Handler(sys.stderr)
    handler.setFormatter(JsonLine() if json else TextLine())
    root.addHandler(handler)
    root.setLevel(level.upper())


class TextLine(logging.Formatter):
    """``2026-01-31T12:00:00.123Z INFO pacifica.ingest.tasks message key=value``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of text."""
        words = [_moment(record), record.levelname, record.name, record.getMessage()]
        words += [f"{name}={value}" for name, value in _facts(record).items()]
        exception = _exception(self, record)
        if exception:
            words.append(exception)
        return _one_line(mask(" ".join(words), secret=False))


class JsonLine(logging.Formatter):
    """One JSON object: time, level, logger, message, the record's extra facts and, after a failure, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        shown: dict[str, Any] = {
            "time": _moment(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": mask(record.getMessage(), secret=False),
        }
        for name, value in _facts(record).items():
            plain = value if isinstance(value, int | float | None) else mask(str(value), secret=False)
            shown.setdefault(name, plain)
        exception = _exception(self, record)
        if exception:
            shown["exception"] = mask(exception, secret=False)
        return json_text.dumps(shown)


class _Handler(logging.StreamHandler[Any]):
    """Ours, so that a second ``configure`` knows which handler to replace."""


def _moment(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in STANDARD}


def _exception(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts = [formatter.formatException(record.exc_info)] if record.exc_info else []
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return "\n".join(parts)


def _one_line(text: str) -> str:
    return CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
