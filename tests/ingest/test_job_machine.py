"""A job under hypothesis: messages come twice, in any order or never, workers die between any two steps.

Whatever happens, each job ends with one set of files and one transaction.
"""

import io
import threading
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from pacifica.common import lease, orm, worker
from pacifica.common.config import Worker
from pacifica.common.errors import IllegalMove, NotClaimed
from pacifica.common.ledger import ArchivedFile
from pacifica.common.volume import Volume
from pacifica.ingest import archiving, reaper, recall, shipping, upload
from pacifica.ingest.config import Settings
from pacifica.ingest.orm import SCHEMA, Job, State
from pacifica.tests.ingest.neighbours import Site
from pacifica.tests.system.bundles import bundle

CONTENTS = {"a": b"alpha", "run/b": bytes(range(256)) * 9, "empty": b""}
ATTEMPTS = Worker(lease_seconds=60.0, max_attempts=1000, retry_seconds=0.0)
OPEN = (State.RECEIVING, State.RECEIVED, State.VERIFIED, State.ARCHIVING)

# The steps of a worker, each of which it may die before or after.
STEPS = [
    (Job, "move"), (Job, "step"), (Job, "heed"), (archiving, "check"), (archiving, "given"),
    (archiving.draft, "begin_pack"), (archiving.Sidecar, "write"), (archiving, "keep"),
    (archiving.draft, "add_files"), (archiving.draft, "publish"), (archiving, "record"),
    (archiving, "announce_archived"), (archiving.Spooled, "discard"),
]  # fmt: skip
# What a worker does besides where the neighbours are elsewhere.
EXTERNAL_STEPS = [
    (archiving, "file_ids"), (archiving, "admit"), (archiving, "register"), (archiving, "settle"),
    (shipping, "_announce"), (shipping, "_send"), (shipping, "_found_sound"),
]  # fmt: skip
# The steps of the request that brings a bundle.
REQUEST_STEPS = [
    (upload, "open_job"), (upload, "receive"), (upload.Spooled, "save"), (Job, "move"), (Job, "failed"),
    (upload, "ring"), (upload.Spooled, "discard"),
]  # fmt: skip


class Death(BaseException):
    """The worker was killed here: nothing catches it, and its lease stays."""


class Arrived:
    """A request's body that is there already."""

    def __init__(self, content):
        self.length = len(content)
        self._rest = io.BytesIO(content)

    def readinto(self, view):
        return self._rest.readinto(view)


class Mortal:
    """Dies before or after the n-th of the calls to STEPS."""

    def __init__(self, fatal, after):
        self.fatal, self.after, self.calls = fatal, after, 0

    def around(self, function):
        def step(*args, **kwargs):
            self.calls += 1
            mine = self.calls == self.fatal
            if mine and not self.after:
                raise Death
            result = function(*args, **kwargs)
            if mine:
                raise Death
            return result

        return step


class Jobs(RuleBasedStateMachine):
    steps = STEPS

    def __init__(self):
        super().__init__()
        self.folder = TemporaryDirectory()
        self.volume = Volume(Path(self.folder.name) / "archive", 0)
        self.settings = Settings()
        self.messages, self.cancelled = [], set()
        for table in ("job", "statechange", "outbox", "pack", "archivedfile", '"transaction"', "counter", "shipped"):
            orm.execute(f"DELETE FROM {table}")

    def teardown(self):
        self.time_passes()
        for job in list(Job.select().where(Job.state.in_(OPEN))):
            self.run(job.id, job.attempt, 0, False)
        assert not list(Job.select().where(Job.state.in_(OPEN)))
        while reaper.clear_spool(self.volume, 7.0):
            pass
        for job in Job.select():
            assert (job.state == State.CANCELLED) <= (job.id in self.cancelled)
            archived = job.state == State.ARCHIVED
            names = {f"{file.subdir}/{file.name}".lstrip("/") for file in self.files(job)}
            assert names == (set(CONTENTS) if archived else set())
            assert orm.rows('SELECT count(*) FROM "transaction" WHERE id = ?', job.id) == [(int(archived),)]
            assert orm.rows("SELECT count(*) FROM pack WHERE job = ?", job.id) == [(int(archived),)]
        assert list(self.volume.spool.iterdir()) == []
        self.folder.cleanup()

    def files(self, job):
        return list(ArchivedFile.select().where(ArchivedFile.transaction == job.id))

    def run(self, id, attempt, fatal, after):
        """Let a worker hear a message, and die at its ``fatal``-th step if there is one."""
        mortal = Mortal(fatal, after)
        with ExitStack() as patched:
            for owner, name in self.steps:
                patched.enter_context(mock.patch.object(owner, name, mortal.around(getattr(owner, name))))
            patched.enter_context(mock.patch.object(lease, "release", self._released(mortal)))
            try:
                with worker.working(Job, id, attempt, ATTEMPTS) as job:
                    archiving.archive(job, self.volume, self.settings)
            except (Death, NotClaimed):
                return

    def _released(self, mortal):
        real = lease.release

        def release(*args):
            if not mortal.fatal or mortal.calls < mortal.fatal:  # the dead give nothing back
                real(*args)

        return release

    @rule()
    def post(self):
        job = upload.take(Arrived(bundle(CONTENTS)), "ann", self.volume, self.settings.ingest)
        self.messages.append((job.id, job.attempt))

    @rule(fatal=st.integers(1, 8), after=st.booleans(), whole=st.booleans())
    def post_to_one_that_dies(self, fatal, after, whole):
        """A request ends with its server, its body good or cut off; the client may or may not have been answered."""
        mortal, posted = Mortal(fatal, after), bundle(CONTENTS)
        with ExitStack() as patched:
            for owner, name in REQUEST_STEPS:
                patched.enter_context(mock.patch.object(owner, name, mortal.around(getattr(owner, name))))
            patched.enter_context(suppress(Death))
            upload.take(Arrived(posted if whole else posted[:2000]), "ann", self.volume, self.settings.ingest)

    @rule(data=st.data(), fatal=st.integers(1, 22), after=st.booleans())
    def deliver_to_one_that_dies(self, data, fatal, after):
        """Call a worker that is killed at a step."""
        if waiting := list(Job.select(Job.id, Job.attempt).where(Job.state.in_(OPEN)).tuples()):
            self.time_passes()
            self.run(*data.draw(st.sampled_from(waiting)), fatal, after)

    @rule(data=st.data())
    def deliver(self, data):
        """Deliver any message again, however old."""
        if self.messages:
            self.run(*data.draw(st.sampled_from(self.messages)), 0, False)

    @rule(data=st.data())
    def lose(self, data):
        if self.messages:
            self.messages.remove(data.draw(st.sampled_from(self.messages)))

    @rule()
    def ring_again(self):
        self.messages += list(Job.select(Job.id, Job.attempt).where(Job.state.in_(OPEN)).tuples())

    @rule()
    def time_passes(self):
        orm.execute("UPDATE job SET lease_until = 1 WHERE lease_until IS NOT NULL")
        orm.execute("UPDATE job SET not_before = 0, deadline = 1")
        reaper.end_silent()

    @rule()
    def reap(self):
        reaper.clear_spool(self.volume, 7.0)

    @rule(data=st.data())
    def cancel(self, data):
        if jobs := list(Job.select()):
            job = data.draw(st.sampled_from(jobs))
            self.cancelled.add(job.id)
            try:
                job.ask_cancel("bob")
            except IllegalMove:
                assert job.state in Job.FINAL

    @invariant()
    def files_are_seen_all_at_once(self):
        for id, state in Job.select(Job.id, Job.state).tuples():
            seen = orm.rows("SELECT count(*) FROM pack WHERE job = ? AND published", id)[0][0]
            assert seen == (1 if state == State.ARCHIVED else 0)
            assert orm.rows('SELECT count(*) FROM "transaction" WHERE id = ?', id)[0][0] == seen


class ExternalJobs(Jobs):
    """The same where ids, policy, catalogue and archive are other services, which are asked over HTTP."""

    steps = STEPS + EXTERNAL_STEPS
    site: Site

    def __init__(self):
        super().__init__()
        self.settings = self.site.settings
        self.site.files.clear()
        self.site.transactions.clear()

    def teardown(self):
        super().teardown()
        self.recalled()
        orm.execute("UPDATE job SET updated = 0")
        self.recalled()
        self.recalled()
        held, ended = [], []
        for job in Job.select():
            listed = self.site.transactions.get(job.id, [])
            assert bool(listed) >= (job.state == State.ARCHIVED)
            held += listed
            if listed and job.state != State.ARCHIVED:  # cancelled between its registration and its end: all stays
                ended.append(job.id)
        assert {job for (job,) in orm.rows("SELECT job FROM shipped")} <= set(ended)
        assert sorted(self.site.files) == sorted(held)
        assert len(set(held)) == len(held)

    def recalled(self):
        """Let what is at the archive in vain be deleted, all of it."""
        recall._rest.jobs.clear()  # as after a minute
        while recall.take_back(self.settings):
            pass

    @rule()
    def recall(self):
        self.recalled()


def explored(machine, examples):
    threads = threading.active_count()  # other tests of this process may have left some
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
    assert threading.active_count() < threads + 10


def test_whatever_happens_to_messages_and_workers_a_job_is_archived_once_or_not_at_all(sqlite):
    SCHEMA.sync()
    explored(Jobs, 25)


def test_the_same_holds_where_every_neighbour_is_another_service(sqlite, monkeypatch):
    SCHEMA.sync()
    with closing(Site()) as site:
        monkeypatch.setattr(ExternalJobs, "site", site, raising=False)
        explored(ExternalJobs, 8)
