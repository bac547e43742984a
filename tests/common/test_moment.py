"""Rules of ``common.moment``."""

import pytest

from pacifica.common import moment


def test_times_are_pacificas_text():
    assert moment.utc(1795246992.225954) == "2026-11-21 07:43:12.225954"
    assert moment.utc(0) == "1970-01-01 00:00:00.000000"


def test_times_are_those_of_rfc_3339_and_of_pacificas_metadata():
    assert moment.zulu(1795246992.225954) == "2026-11-21T07:43:12.225Z"
    assert moment.iso(1795246992.9) == "2026-11-21T07:43:12"
    assert moment.iso(-62135596800) == "0001-01-01T00:00:00"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-21 07:43:12.225954", 1795246992.225954),
        ("2026-11-21T07:43:12Z", 1795246992.0),
        ("2026-11-21T08:43:12+01:00", 1795246992.0),
        ("1970-01-01", 0.0),
    ],
)
def test_an_iso_time_is_utc_where_it_names_no_offset(text: str, seconds: float):
    assert moment.epoch(text) == seconds


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "2026-11-21 25:00"])
def test_what_is_no_time_is_refused(text: str):
    with pytest.raises(ValueError):
        moment.epoch(text)
