"""What is at a remote archive for a job that came to nothing goes, also what arrives there after its deletion."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pacifica.common import orm
from pacifica.common.errors import ArchiveUnavailable, ChecksumMismatch, IllegalMove
from pacifica.ingest import recall
from pacifica.ingest.orm import SCHEMA, Job, State
from pacifica.ingest.recall import WATCH_SECONDS, take_back
from pacifica.ingest.registry import RegistrationRefused
from pacifica.ingest.shipment import SENDING, SOUND, WATCHED, Shipped
from pacifica.ingest.shipping import settle, ship
from pacifica.tests.ingest.neighbours import Site

DIGEST = "f1d2d2f924e986ac86fdf7b36c94bcdf32beec15"  # of b"foo\n"


@pytest.fixture
def archive(database: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    SCHEMA.sync()
    monkeypatch.setattr(recall, "_rest", recall._Rest())
    site = Site()
    yield site
    site.close()


def sending(number: int = 5) -> Job:
    """A job whose files from 70 on are being sent."""
    return Job.start(
        id=number, state=State.ARCHIVING, owner="ann", spool="0" * 32, first_id=70, files_total=2, attempt=1
    )


def shipped(job: Job, **states: str) -> None:
    """Enter files by their ids."""
    orm.insert_rows(
        Shipped, ("id", "job", "attempt", "state"), [(int(id[1:]), job.id, 1, state) for id, state in states.items()]
    )


def rows() -> dict[int, str]:
    return {row.id: row.state for row in Shipped.select()}


def age(job: Job) -> None:
    """Let the time pass that files are watched."""
    orm.execute("UPDATE job SET updated = updated - ? WHERE id = ?", WATCH_SECONDS + 1, job.id)


def test_what_arrives_after_its_deletion_is_deleted_again(archive):
    job = sending()
    shipped(job, _70=SENDING)
    job.failed(ArchiveUnavailable())
    assert take_back(archive.archive_only) == 1
    assert rows() == {70: WATCHED}
    archive.files[70] = b"foo\n"  # the PUT of a worker that was taken for dead
    assert take_back(archive.archive_only) == 0
    age(job)
    assert take_back(archive.archive_only) == 1
    assert (rows(), archive.files) == ({}, {})


def test_a_retry_under_way_keeps_what_it_sends_whatever_was_deleted_before(archive):
    job = sending()
    shipped(job, _70=WATCHED)
    age(job)
    archive.files[70] = b"foo\n"
    assert take_back(archive.archive_only) == 0
    assert archive.files
    shipped(job, _71=SOUND)
    with orm.transaction():
        settle(job)
        job.move(State.ARCHIVED)
    assert rows() == {70: WATCHED}


def test_a_worker_that_finds_its_job_ended_has_what_it_sent_watched(archive, tmp_path):
    job = sending()
    (tmp_path / "bundle").write_bytes(b"foo\n")
    row = (70, 0, 4, 0, "sha1", DIGEST, "", "foo", "text/plain", 1.0, 2.0)

    def ended() -> None:
        """While the PUT is under way the job is cancelled, and what it sent is deleted and forgotten."""
        orm.execute("UPDATE job SET state = ?, updated = 0 WHERE id = ?", State.CANCELLED, job.id)
        for _ in range(2):
            assert take_back(archive.archive_only) == 1
        assert rows() == {}

    archive.before = ended
    with pytest.raises(IllegalMove):
        ship(job, SimpleNamespace(rows=lambda _: iter([row])), tmp_path / "bundle", archive.archive_only)
    assert (rows(), archive.files) == ({70: WATCHED}, {70: b"foo\n"})
    assert take_back(archive.archive_only) == 1
    assert (rows(), archive.files) == ({}, {})


def test_a_worker_that_was_overtaken_leaves_alone_what_the_newer_attempt_has_archived(archive):
    job = sending()
    orm.execute("UPDATE job SET state = ? WHERE id = ?", State.ARCHIVED, job.id)
    recall.watch(job, [70, 71, 72])
    assert rows() == {72: WATCHED}


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (ArchiveUnavailable(), True),  # a retry may spare what is sound
        (RuntimeError("a fault of ours"), True),
        (RegistrationRefused(), False),
        (ChecksumMismatch(), False),  # the client's
    ],
)
def test_what_is_sound_stays_where_a_retry_can_help_and_goes_at_once_where_the_failure_is_final(archive, error, kept):
    job = sending()
    shipped(job, _70=SOUND, _71=SENDING)
    archive.files |= {70: b"foo\n", 71: b"fo"}
    job.failed(error)
    take_back(archive.archive_only)
    assert rows() == {70: SOUND if kept else WATCHED, 71: WATCHED}
    assert archive.files == ({70: b"foo\n"} if kept else {})
