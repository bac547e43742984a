"""A worker's part: one claimed data object from WT to its end."""

import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..common import orm
from ..common.errors import BadRequest, Cancelled, IllegalMove, ServiceError
from ..common.state import Opening
from ..common.volume import Volume
from . import creation, dispatch, fingerprint, logs, reuse, spare
from .annotating import annotate
from .channel import Call
from .config import Settings
from .executor import MIB, Executor, Limits, Outcome, Program, Workplace, user_id
from .expansion import expand, spawn
from .hydrate import context
from .inputs import lay_out
from .keeping import ArchiveShelf
from .messages import Commands
from .orm import Data, Process, State, Storage
from .preamble import STARTED
from .register import LIBRARY
from .report import Report
from .resources import effective
from .shelf import Collector
from .versions import registered
from .world import ARCHIVED, TRANSACTION, SqlWorld, engine

TELL_SECONDS = 0.5  # a run's account is written no more often while it goes on
ASK_SECONDS = 0.5  # a cancellation is asked for no more often
GRACE_SECONDS = 10.0  # in which who has ended a run clears up behind it
# an input that names an archived file or a transaction may have to be laid out first (PP): a program without one begins
OPENING = Opening(State.WT, State.PR, "started", f"input NOT LIKE '%{ARCHIVED}%' AND input NOT LIKE '%{TRANSACTION}%'")


def run(data: Data, executor: Executor, volume: Volume, settings: Settings) -> bool:
    """Run ``data`` under its lease; it ends in OK or ER, or, as a workflow, follows its steps in FO.

    Tells whether all that follows from its end was done with it, so that nobody need call ``dispatch.settle``.
    Raises what may be tried again (ExecutorFailed, NoSpace), and Cancelled.
    """
    process = registered(data.process, data.also)
    definition = process.definition
    if definition.language == "workflow":
        expand(data, definition)
        return False
    reuse.confirm(data, process)
    place = Workplace.make(logs.home(volume, data), user_id(settings.flow.program_user))
    shelf = ArchiveShelf(volume)
    try:
        return _Run(data, process, place, shelf, executor, volume, settings).through()
    finally:
        shelf.discard()
        if data.state not in Data.FINAL and not _overtaken(data):  # else it was kept with the end
            logs.keep(volume, data, place)
        place.leave()


def clear(volume: Volume) -> int:
    """Remove what workers that died have left of runs that are over, or are another attempt's by now."""
    cleared = 0
    for path in spare.forgotten(volume.work / "flow"):
        Workplace(path, 0, 0).remove()
    for path in _leftovers(volume):
        id, _, attempt = path.name.partition(".")
        row = Data.get_or_none(Data.id == int(id))
        ended = row is None or (row.state in Data.FINAL and row.updated < orm.clock() - GRACE_SECONDS)
        if ended or row.attempt > int(attempt):
            Workplace(path, 0, 0).remove()
            cleared += 1
    return cleared


def _leftovers(volume: Volume) -> list[Path]:
    try:
        found = list((volume.work / "flow").iterdir())
    except FileNotFoundError:  # no program has run yet
        return []
    return [path for path in found if all(part.isdecimal() for part in path.name.split("."))]


class _Run:
    """One run of a bash program."""

    def __init__(
        self,
        data: Data,
        process: Process,
        place: Workplace,
        shelf: ArchiveShelf,
        executor: Executor,
        volume: Volume,
        settings: Settings,
    ) -> None:
        self.data, self.process, self.place, self.shelf = data, process, place, shelf
        self.definition = definition = process.definition
        self.executor, self.volume, self.settings = executor, volume, settings
        self.values = json.loads(data.input)
        self.resources = effective(definition, json.loads(data.resources), self.values)
        self.report = Report(definition.output, self._store)
        self._told = self._asked = time.monotonic()
        self._pause = TELL_SECONDS
        self._stop = False
        shelf.check = self._go_on

    def through(self) -> bool:
        """Prepare, run, and close the account; tell whether what follows from the end was done with it."""
        self._rename()
        program = self._program()
        if program is None:
            return False
        if self.data.state != State.PR:
            begun = {} if self.data.state == State.PP else {"started": orm.now()}
            self.data.move(State.PR, forgettable=True, **begun)
        view = self.executor.view(program)
        commands = Commands(view, Collector(view, self.shelf, most=self.resources["storage"] << 30))
        with self.place.messages.open("ab") as file:
            self.journal = logs.Journal(file, self.settings.flow.max_log_bytes)
            outcome = self.executor.run(program, lambda call: self._heard(commands, call), self._looks)
        if outcome.ended == "cancelled":
            self._go_on()
        return self._close(outcome)

    def _rename(self) -> None:
        """Render the name once more, now that the inputs are there."""
        if not self.data.named_by_user and self.definition.data_name and self.definition.engine is not None:
            name = creation.rendered_name(self.data, self.process)
            if name != self.data.name:
                self.data.progress(name=name)

    def _program(self) -> Program | None:
        """Render the program and lay out its inputs; None when that ended the run."""
        world = SqlWorld(self.executor.input_root(self.place))
        text = self.definition.program
        if self.definition.engine is not None:
            names = context(
                world,
                self.data.id,
                self.definition.input,
                self.values,
                self.definition.requirements,
                self.resources,
            )
            try:
                text = engine(world).program(text, names)
            except BadRequest as error:
                self.data.end_badly(error.message, process_rc=1, started=orm.now())
                return None
        if self.data.state == State.WT and (world.archived or world.transactions):
            self.data.move(
                State.PP, forgettable=True, started=orm.now()
            )  # they may have to be copied, which takes its time
        flow = self.settings.flow
        return Program(
            text=text,
            workplace=self.place,
            inputs=lay_out(world, self.volume, self.place.path / "copies"),
            tools=tuple(tools for tools in _tools(flow.process_dirs) if tools.is_dir()),
            environment={
                "RESOLWE_HOST_URL": flow.host_url,
                **dict(one.split("=", 1) for one in flow.environment),
                "DATA_ID": str(self.data.id),
                "UPLOAD_DIR": f"{world.input_root}/archive",
            },
            limits=Limits(
                memory_bytes=self.resources["memory"] * MIB,
                cpu_seconds=int(flow.interactive_cpu_seconds * 1.2) if self.definition.is_interactive else None,
                wall_seconds=flow.wall_seconds,
                file_bytes=flow.max_file_bytes,
                disk_bytes=self.resources["storage"] << 30,
                processes=flow.max_processes,
                stdout_bytes=flow.max_log_bytes,
            ),
            network=self.definition.network,
        )

    def _heard(self, commands: Commands, call: Call) -> None:
        """Apply what the program said; it waits for us where the effect must come first."""
        if call.name == STARTED:
            return
        commands.collector.is_closed = self.report.failed
        for message in commands.messages(call):
            self.journal.add(message)
            self.report.apply(message)
        if time.monotonic() - self._told > self._pause:
            self._tell()

    def _tell(self) -> None:
        if self.report.changed:
            begun = time.monotonic()
            self.report.changed.clear()
            self.data.progress(**_account(self.report))
            self._told = time.monotonic()
            self._pause = max(TELL_SECONDS, 20 * (self._told - begun))  # a large account is told less often

    def _spawn(self) -> None:
        """Start what the program asked for by ``re-run``, now that its files are archived and its end is certain.

        Once, therefore, however many attempts there were.  A refusal is an error of this run.
        """
        if self.report.spawned:
            self.data.fence()
            for text in spawn(self.data, self.report.spawned, self.report.exported, self.shelf.ids()):
                self.report.fail(text)
            self.data.reuse_key = None  # a copy of the result would not start it

    def _ran(self, outcome: Outcome) -> dict[str, Any]:
        """Return the account of the run itself, for people."""
        return {
            "executor": self.executor.name,
            "ended": outcome.ended,
            "seconds": round(outcome.seconds, 3),
            "cpu_seconds": round(outcome.cpu_seconds, 3),
            "memory_bytes": outcome.memory_bytes,
            "resources": self.resources,
            "refused": self.report.refused,
            "stdout_dropped": outcome.stdout_dropped,
            "not_enforced": list(outcome.not_enforced),
        }

    def _close(self, outcome: Outcome) -> bool:
        if outcome.reason:
            self.report.fail(outcome.reason)
        owner = creation.Owner(self.data.owner)
        size = self.shelf.archive(self.data) + outcome.stdout_bytes + self.journal.size
        with orm.transaction():
            self._spawn()
            self.report.finish(outcome.returncode, self.values, self.definition.input, creation.references(owner))
            state = State.OK if self.report.status == "OK" else State.ER
            if state == State.OK and self.report.annotations:
                self.data.reuse_key = None  # a copy of the result would not say it
                for text in annotate(self.data, self.definition.input, self.report.annotations):
                    self.report.warn(text)
            columns = _account(self.report) | {"size": size, "reuse_key": self.data.reuse_key}
            columns["run"] = json.dumps(self._ran(outcome))
            if state == State.OK:
                output, digests = self.report.output, self.shelf.digests()
                columns["content"] = fingerprint.content(output, self.definition.output, digests)
            self.data.end(state, reason="; ".join(self.report.error)[:200], **columns)
            logs.keep(self.volume, self.data, self.place)  # before the end is told, after nobody else can tell another
            return dispatch.lead_on(self.data)

    def _looks(self) -> bool:
        """Show what the program has said, and tell whether to stop it: ten times a second."""
        self.journal.flush()
        return self._cancelled()

    def _cancelled(self) -> bool:
        """Tell, asking the database twice a second, whether to stop: somebody wants it, or another has this object."""
        if not self._stop and time.monotonic() - self._asked > ASK_SECONDS:
            self._asked = time.monotonic()
            try:
                self.data.heed()
                self._tell()
            except (Cancelled, IllegalMove):
                self._stop = True
        return self._stop

    def _go_on(self) -> None:
        """Raise what stops this run, if something does: Cancelled, or IllegalMove where another has the object."""
        if self._cancelled():
            self.data.heed()
            raise Cancelled(f"Cancelled by {self.data.refresh().cancel}.")

    def _store(self, document: Any) -> int:
        return int(Storage.create(owner=self.data.owner, json=json.dumps(document)).id)


def _overtaken(data: Data) -> bool:
    """Tell whether another attempt has begun, whose logs those of this one must not replace."""
    try:
        return bool(orm.rows("SELECT 1 FROM data WHERE id = ? AND attempt > ?", data.id, data.attempt))
    except ServiceError:  # the database is away; what comes next keeps its own
        return False


def _tools(folders: Iterable[str]) -> Iterator[Path]:
    """Yield where scripts that programs call by name may lie; a site's own come before those that come with flow."""
    for folder in (*map(Path, folders), LIBRARY):
        yield folder / "tools"


def _account(report: Report) -> dict[str, Any]:
    return {
        "output": json.dumps(report.output),
        "process_info": json.dumps(report.info),
        "process_warning": json.dumps(report.warning),
        "process_error": json.dumps(report.error),
        "process_rc": report.rc,
        "process_progress": report.progress,
    }
