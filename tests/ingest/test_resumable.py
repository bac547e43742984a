"""A resumable upload as a state machine: parts, drops, repeats, wrong digests, older requests that wake, deaths."""

import hashlib
import inspect
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pacifica.common.errors import ChecksumMismatch, ClientAborted, Gone, ServiceError
from pacifica.common.integrity import Declared, Integrity
from pacifica.common.volume import Volume
from pacifica.ingest import resumable
from pacifica.ingest.config import Ingest
from pacifica.ingest.idempotency import Claim
from pacifica.ingest.orm import SCHEMA, Job, Upload, UploadState
from pacifica.ingest.part import Part
from pacifica.ingest.resumable import Receiver, create, expire, find, taken_over, terminate

SELDOM = st.integers(0, 3)  # what ends an upload happens at 0 only, so that most live long enough to be killed
SETTINGS = Ingest(tus_expire_seconds=3600)

# What a request or the reaper does to an upload, each of which the server may die before or after.
STEPS = [
    (Part, "settle"), (Part, "append"), (Part, "sync"), (Part, "cut"), (Upload, "progress"), (Upload, "move"),
    (Job, "start"), (resumable, "given"), (resumable, "ring"), (resumable, "clear"), (resumable, "finish"),
]  # fmt: skip


class Death(BaseException):
    """The server was killed here."""


@contextmanager
def killed(fatal: int, after: bool) -> Iterator[threading.Event]:
    """Die before or ``after`` the ``fatal``-th call to one of STEPS; yield what is then set."""
    calls = 0

    def around(function: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            mine = calls == fatal
            if mine and not after:
                raise Death
            result = function(*args, **kwargs)
            if mine:
                raise Death
            return result

        return step

    with ExitStack() as patched:
        for owner, name in STEPS:
            static = isinstance(inspect.getattr_static(owner, name), classmethod)
            function = around(getattr(owner, name))
            patched.enter_context(mock.patch.object(owner, name, staticmethod(function) if static else function))
        dead = threading.Event()
        try:
            yield dead
        except Death:
            dead.set()


class FakeBody:
    """A body that brings ``data`` in pieces, and then ends, or breaks off."""

    def __init__(self, data: bytes, broken: bool = False) -> None:
        self.data, self.broken = data, broken

    def readinto(self, view: memoryview) -> int:
        if not self.data and self.broken:
            raise ClientAborted()
        count = min(len(view), len(self.data), 700)
        view[:count], self.data = self.data[:count], self.data[count:]
        return count


class UploadMachine(RuleBasedStateMachine):
    """The model is the bytes that the server has said to have, and what became of the upload."""

    folder = Path()
    deaths = 0

    @initialize(length=st.integers(0, 5000))
    def open(self, length: int) -> None:
        self.volume = Volume(Path(tempfile.mkdtemp(dir=self.folder)), 0)
        self.content = hashlib.shake_256(str(length).encode()).digest(length)
        self.upload = create("ada", length, "", self.volume, SETTINGS, Claim())
        self.told, self.job, self.over = 0, None, False
        self.older: list[tuple[Any, Receiver]] = []
        if not length:
            self.ask()

    def now(self) -> Upload:
        return find(self.upload.id, None)

    @rule()
    @precondition(lambda self: not self.over)
    def ask(self) -> None:
        """HEAD: what was told is still there, and nothing that was never sent."""
        with taken_over(self.now(), self.volume, SETTINGS) as receiver:
            assert self.told <= receiver.offset <= len(self.content)
            self.learn(receiver)

    @rule(share=st.floats(0, 1), broken=st.booleans(), digest=st.sampled_from(["none", "right", "wrong"]))
    @precondition(lambda self: not self.over)
    def send(self, share: float, broken: bool, digest: str) -> None:
        """PATCH from where the upload stands; a dropped one counts as far as it came, unless a digest covers it."""
        with taken_over(self.now(), self.volume, SETTINGS) as receiver:
            start = receiver.offset
            assert start >= self.told
            piece = self.content[start : start + round(share * (len(self.content) - start))]
            declared = hashlib.sha1(piece or (b"x" if digest == "wrong" else b"")).digest()
            sent = Integrity([Declared("Upload-Checksum", "sha1", declared)] if digest != "none" else [])
            try:
                body = FakeBody(bytes(byte ^ 1 for byte in piece) if digest == "wrong" else piece, broken)
                receiver.append(body, sent, self.volume)  # type: ignore[arg-type]
            except ClientAborted:
                assert broken
                return
            except ChecksumMismatch:
                assert digest == "wrong"
                assert receiver.offset == start
            else:
                assert receiver.offset == start + len(piece)
            self.learn(receiver)

    @rule()
    @precondition(lambda self: not self.over and self.job is None)
    def hang(self) -> None:
        """A request takes the upload over and stands still."""
        context = taken_over(self.now(), self.volume, SETTINGS)
        self.older.append((context, context.__enter__()))
        self.learn(self.older[-1][1])

    @rule()
    @precondition(lambda self: self.older)
    def wake(self) -> None:
        """An older request goes on: it may write only if no newer one came."""
        context, receiver = self.older.pop(0)
        fresh = Upload.get_by_id(self.upload.id)
        may = fresh.state == UploadState.OPENED and fresh.attempt == receiver.upload.attempt
        try:
            body = FakeBody(self.content[receiver.offset :][:1] if may else b"?")
            receiver.append(body, Integrity(), self.volume)  # type: ignore[arg-type]
        except ServiceError as error:
            assert not may
            self.leave(context, error)
        else:
            assert may or receiver.upload.state == UploadState.FINISHED
            self.learn(receiver)
            context.__exit__(None, None, None)

    @rule()
    def restart(self) -> None:
        """The server dies: what hung is gone, what lies on disk stays."""
        for context, _ in self.older:
            self.leave(context, ClientAborted())
        self.older = []

    @rule(chance=SELDOM)
    @precondition(lambda self: not self.over)
    def give_up(self, chance: int = 0) -> None:
        """DELETE, which a finished upload survives."""
        if chance:
            return
        try:
            terminate(self.now(), self.volume)
        except ServiceError as error:
            assert (error.status, self.job is None) == (409, False)
        else:
            assert self.job is None
            self.over = True

    @rule(chance=SELDOM)
    def reap(self, chance: int = 0) -> None:
        """The sweeper finds the upload late."""
        if chance:
            return
        Upload.update(deadline=0.0).where(Upload.id == self.upload.id, Upload.state == UploadState.OPENED).execute()
        expire(self.volume, SETTINGS)
        fresh = Upload.get_by_id(self.upload.id)
        if fresh.state == UploadState.FINISHED:
            self.job = self.job or fresh.job
        else:
            self.over = True

    @rule(
        what=st.sampled_from(["ask", "send", "give_up", "reap"]),
        share=st.sampled_from([0.0, 0.4, 1.0]),
        digest=st.sampled_from(["none", "right", "wrong"]),
        fatal=st.integers(1, 6),
        after=st.booleans(),
    )
    @precondition(lambda self: not self.over)
    def die(self, what: str, share: float, digest: str, fatal: int, after: bool) -> None:
        """The server dies at any step of what it does; the sweeper of the next one clears what an ended upload left."""
        with killed(fatal, after) as dead:
            self.send(share, False, digest) if what == "send" else getattr(self, what)()
        self.restart()
        UploadMachine.deaths += dead.is_set()
        fresh = Upload.get_by_id(self.upload.id)
        if fresh.state not in (UploadState.OPENED, UploadState.FINISHED):
            expire(self.volume, SETTINGS)
            self.over = True
        self.job = self.job or fresh.job

    def learn(self, receiver: Receiver) -> None:
        self.told = receiver.offset
        if receiver.upload.job is not None:
            assert self.job in (None, receiver.upload.job)
            self.job = receiver.upload.job

    def leave(self, context: Any, error: Exception) -> None:
        try:
            context.__exit__(type(error), error, error.__traceback__)
        except ServiceError:
            return

    @invariant()
    def the_disk_holds_what_was_told(self) -> None:
        fresh = Upload.get_by_id(self.upload.id)
        files = [path.name for path in self.volume.spool.iterdir()]
        if self.over:
            assert files == []
            with pytest.raises(Gone):
                self.now()
            return
        assert files == [self.upload.id]
        kept = (self.volume.spool / self.upload.id).read_bytes()
        assert kept[: self.told] == self.content[: self.told]
        if fresh.state == UploadState.FINISHED:
            assert kept == self.content
        jobs = [job.id for job in Job.select().where(Job.spool == self.upload.id)]
        assert jobs == ([fresh.job] if fresh.state == UploadState.FINISHED else [])
        if self.told == len(self.content):
            assert fresh.state == UploadState.FINISHED

    def teardown(self) -> None:
        if hasattr(self, "older"):
            self.restart()


def test_an_upload_keeps_its_word_whatever_happens(sqlite: Any, tmp_path: Path) -> None:
    SCHEMA.sync()
    UploadMachine.folder = tmp_path
    run_state_machine_as_test(
        UploadMachine,
        settings=settings(
            max_examples=160, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
    assert UploadMachine.deaths > 15
