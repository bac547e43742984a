"""How values are written."""

from pathlib import Path

import pytest

from pacifica.common.values import Bytes, Seconds, at_least, mask, one_of, parse, show


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1048576", 1 << 20),
        ("4 Mb", 4 << 20),
        ("4Mb", 4 << 20),
        ("512 MB", 512_000_000),
        ("1 B", 1),
        ("3 b", 3),
        ("1 Kb", 1024),
        ("1 KB", 1000),
        ("1 kB", 1000),
        ("1.5 Gb", 3 << 29),
        ("2 TiB", 2 << 40),
        ("9007199254740993", 9007199254740993),
    ],
)
def test_sizes_follow_pacificas_units(text, size):
    assert parse(Bytes, text) == size


@pytest.mark.parametrize(
    "text", ["", "-1", "1 mb", "1 GiBs", "MB", "1 2", "0x10", "1e3", "4 M", "nan", "inf", "1,5 MB"]
)
def test_a_size_with_anything_else_is_refused(text):
    with pytest.raises(ValueError, match="a size"):
        parse(Bytes, text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        ("0.25", 0.25),
        ("250 ms", 0.25),
        ("10 min", 600),
        ("2h", 7200),
        ("7 days", 604800),
        ("1 week", 604800),
    ],
)
def test_times_are_seconds_unless_a_unit_says_otherwise(text, seconds):
    assert parse(Seconds, text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "soon", "1 month", "inf", "1 h 5 min"])
def test_a_time_with_anything_else_is_refused(text):
    with pytest.raises(ValueError, match="a time"):
        parse(Seconds, text)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "one"])
def test_a_number_is_finite(text):
    with pytest.raises(ValueError, match="number"):
        parse(float, text)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (str, "text"),
        (int, -3),
        (float, 0.1),
        (float, 1e-7),
        (bool, True),
        (bool, False),
        (Path, Path("/a b")),
        (Bytes, 0),
        (Bytes, 5 << 30),
        (Bytes, 1023),
        (Seconds, 1 / 3),
        (Seconds, 1234567.0),
        (tuple[str, ...], ()),
        (tuple[str, ...], ("a", "b")),
    ],
)
def test_what_is_shown_is_read_back(kind, value):
    assert parse(kind, show(kind, value)) == value


def test_a_bound_holds_for_sizes_too():
    assert at_least(Bytes, 10)("1 Kb") == 1024
    with pytest.raises(ValueError, match="a size, at least 10"):
        at_least(Bytes, 10)("9")


def test_a_choice_is_one_of_its_words():
    assert one_of("a", "b")("b") == "b"
    with pytest.raises(ValueError, match="one of a, b"):
        one_of("a", "b")("B")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("", ""),
        ("hunter2", "********"),
        ("http://host:8080/path", "http://host:8080/path"),
        ("amqp://joe@host", "amqp://joe@host"),
        ("amqp://joe:@host", "amqp://joe:********@host"),
        ("amqp://joe:p/w#x?y@host/v", "amqp://joe:********@host/v"),
        ("amqp://:pw@host", "amqp://:********@host"),
        ("pg://host/db?a=1&password=pw&b=2", "pg://host/db?a=1&password=********&b=2"),
    ],
)
def test_secrets_are_masked_and_the_rest_of_a_url_is_not(text, masked):
    assert mask(text) == masked


def test_text_that_is_no_secret_loses_only_the_passwords_of_urls():
    assert mask("token", secret=False) == "token"
    assert (
        mask("cannot reach amqp://joe:pw@host: refused", secret=False)
        == "cannot reach amqp://joe:********@host: refused"
    )
