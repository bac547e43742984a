"""What one user's unfinished uploads may come to: resumable ones and bodies under way, together."""

from typing import Any

import pytest

from pacifica.common import orm
from pacifica.common.errors import TooLarge
from pacifica.common.volume import Volume
from pacifica.ingest.allowance import TooMuchUnfinished, ahead, allow, beyond
from pacifica.ingest.config import Ingest
from pacifica.ingest.idempotency import Claim
from pacifica.ingest.orm import SCHEMA, Job, State, Upload, open_job
from pacifica.ingest.resumable import create, terminate

MOST = 1000
SETTINGS = Ingest(max_unfinished_bytes=MOST)


@pytest.fixture
def volume(database: Any, tmp_path: Any) -> Volume:
    SCHEMA.sync()
    return Volume(tmp_path, 0)


def test_what_is_under_way_counts_together_and_for_its_owner_alone(volume):
    upload = create("ann", 600, "", volume, SETTINGS, Claim())
    job = open_job("ann", "0" * 32, 300, 60.0, None)
    chunked = open_job("ann", "1" * 32, None, 60.0, None)
    with orm.transaction():
        chunked.progress(bytes_done=50)
    assert ahead(MOST) == 15  # what may come in chunks before it is asked about again counts as if it were there
    allow("ann", 35, MOST)
    allow("ann", None, MOST)
    for length in (36, 1000):
        with pytest.raises(TooMuchUnfinished) as caught:
            create("ann", length, "", volume, SETTINGS, Claim())
        assert caught.value.detail == {"unfinished_bytes": 965, "max_bytes": MOST}
    chunked.progress(bytes_done=85)
    assert beyond("ann", MOST) is None
    with pytest.raises(TooMuchUnfinished):
        allow("ann", None, MOST)
    chunked.progress(bytes_done=86)
    assert isinstance(beyond("ann", MOST), TooMuchUnfinished)
    assert beyond("ann", 0) is None
    assert Upload.select().count() == 1
    allow("bob", MOST, MOST)
    allow("ann", 10**12, 0)
    terminate(upload, volume)
    allow("ann", 599, MOST)
    for ended in (job, chunked):
        ended.move(State.FAILED)
    allow("ann", MOST, MOST)
    assert Job.select().count() == 2


def test_what_could_never_fit_is_too_large(volume):
    with pytest.raises(TooLarge):
        create("ann", MOST + 1, "", volume, SETTINGS, Claim())
    assert list(volume.spool.iterdir()) == []
