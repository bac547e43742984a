"""A worker's part: one claimed data object from WT to its end."""

import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from ..common import orm
from ..common.errors import BadRequest, Cancelled, IllegalMove
from ..common.volume import Volume
from . import creation, dispatch, fingerprint, reuse
from .annotating import annotate
from .channel import Call
from .config import Settings
from .definition import Definition
from .executor import MIB, Executor, Limits, Outcome, Program, Workplace
from .filters import filters
from .hydrate import context
from .inputs import lay_out
from .keeping import ArchiveShelf
from .messages import Commands
from .orm import Data, Process, State, Storage, newest
from .preamble import STARTED
from .register import LIBRARY
from .report import Report
from .shelf import Collector
from .template import Engine
from .workflow import read_steps, step_input
from .world import SqlWorld

TELL_SECONDS = 0.5  # a run's account is written no more often while it goes on
ASK_SECONDS = 0.5  # a cancellation is asked for no more often


def run(data: Data, executor: Executor, volume: Volume, settings: Settings) -> None:
    """Run ``data`` under its lease; it ends in OK or ER, or, as a workflow, follows its steps in FO.

    Raises what may be tried again (ExecutorFailed, NoSpace), and Cancelled.
    """
    process = Process.get_by_id(data.process)
    definition = process.definition
    if data.state == State.WT:
        data.move(State.PP, started=orm.clock())
    if definition.language == "workflow":
        _expand(data, definition)
        return
    reuse.confirm(data, process)
    place = Workplace.make(_home(volume, data))
    shelf = ArchiveShelf(volume)
    try:
        _Run(data, definition, place, shelf, executor, volume, settings).through()
    finally:
        shelf.discard()
        _keep_logs(volume, data, place)
        place.remove()


def log_path(volume: Volume, data_id: int) -> Path:
    """Return where the standard output of an object lies once its run is over."""
    return volume.root / "flow" / f"{data_id % 256:02x}" / f"{data_id}.txt"


def live_log(volume: Volume, data: Data) -> Path:
    """Return where the standard output of the attempt at work grows."""
    return _home(volume, data) / "stdout.txt"


class _Run:
    """One run of a bash program."""

    def __init__(
        self,
        data: Data,
        definition: Definition,
        place: Workplace,
        shelf: ArchiveShelf,
        executor: Executor,
        volume: Volume,
        settings: Settings,
    ) -> None:
        self.data, self.definition, self.place, self.shelf = data, definition, place, shelf
        self.executor, self.volume, self.settings = executor, volume, settings
        self.values = json.loads(data.input)
        self.resources = definition.effective_resources(json.loads(data.resources))
        self.report = Report(definition.output, self._store)
        self._told = self._asked = 0.0
        self._stop = False

    def through(self) -> None:
        """Prepare, run, and close the account."""
        program = self._program()
        if program is None:
            return
        if self.data.state == State.PP:
            self.data.move(State.PR)
        commands = Commands(self.executor.view(program), Collector(self.executor.view(program), self.shelf))
        outcome = self.executor.run(program, lambda call: self._heard(commands, call), self._cancelled)
        if outcome.ended == "cancelled":
            self.data.heed()
            raise Cancelled(f"Cancelled by {self.data.refresh().cancel}.")
        self._close(outcome)

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
                text = Engine(filters(world)).program(text, names)
            except BadRequest as error:
                self.data.end_badly(error.message, process_rc=1)
                return None
        flow = self.settings.flow
        interactive = self.definition.scheduling_class == "interactive"
        return Program(
            text=text,
            workplace=self.place,
            inputs=lay_out(world, self.volume, self.place.path / "copies"),
            tools=tuple(tools for tools in _tools(flow.process_dirs) if tools.is_dir()),
            environment={"DATA_ID": str(self.data.id), "UPLOAD_DIR": f"{world.input_root}/archive"},
            limits=Limits(
                memory_bytes=self.resources["memory"] * MIB,
                cpu_seconds=int(flow.interactive_cpu_seconds * 1.2) if interactive else None,
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
        for message in commands.messages(call):
            self.report.apply(message)
        if self.report.spawned or time.monotonic() - self._told > TELL_SECONDS:
            self._spawn()
            self._tell()

    def _tell(self) -> None:
        if self.report.changed:
            self._told = time.monotonic()
            self.report.changed.clear()
            self.data.progress(**_account(self.report))

    def _spawn(self) -> None:
        """Start what the program asked for by ``re-run``; a refusal is an error of this run."""
        for wanted in self.report.spawned:
            try:
                process = newest(wanted["process"])
                given = wanted["input"] if isinstance(wanted["input"], dict) else {}
                creation.create(process, given, creation.Owner(self.data.owner), started_by=self.data.id)
                self.data.reuse_key = None  # a copy of the result would not start it
            except BadRequest as error:
                self.report.fail(error.message)
        self.report.spawned.clear()

    def _close(self, outcome: Outcome) -> None:
        if outcome.reason:
            self.report.fail(outcome.reason)
        owner = creation.Owner(self.data.owner)
        self.report.finish(outcome.returncode, self.values, self.definition.input, creation.references(owner))
        size = self.shelf.archive(self.data) + outcome.stdout_bytes
        state = State.OK if self.report.status == "OK" else State.ER
        with orm.transaction():
            if state == State.OK and self.report.annotations:
                self.data.reuse_key = None  # a copy of the result would not say it
                for text in annotate(self.data, self.definition.input, self.report.annotations):
                    self.report.warn(text)
            columns = _account(self.report) | {"size": size, "reuse_key": self.data.reuse_key}
            if state == State.OK:
                output, digests = self.report.output, self.shelf.digests()
                columns["content"] = fingerprint.content(output, self.definition.output, digests)
            self.data.end(state, reason="; ".join(self.report.error)[:200], **columns)

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

    def _store(self, document: Any) -> int:
        return int(Storage.create(owner=self.data.owner, json=json.dumps(document)).id)


def _tools(folders: Iterable[str]) -> Iterator[Path]:
    """Yield where scripts that programs call by name may lie; a site's own come before those that come with flow."""
    for folder in (*map(Path, folders), LIBRARY):
        yield folder / "tools"


def _expand(data: Data, definition: Definition) -> None:
    """Create every step of a workflow in one transaction, and let it follow them."""
    values = json.loads(data.input)
    evaluate: Callable[..., Any] | None = None
    if definition.engine is not None:
        evaluate = Engine(filters(SqlWorld())).value
    owner = creation.Owner(data.owner)
    try:
        with orm.transaction():
            ids: dict[str, int] = {}
            for step in read_steps(definition.program):
                given = step_input(step, values, ids, evaluate)
                child = creation.create(_step_process(step.id, step.run), given, owner, started_by=data.id)
                ids[step.id] = child.id
            if data.state == State.PP:
                data.move(State.PR)
            data.move(State.FO, output=json.dumps({"steps": list(ids.values())}), lease_until=None, leased_by=None)
        dispatch.follow(data)  # whose steps may all have been answered by earlier results
    except BadRequest as error:
        data.end_badly(error.message)


def _step_process(step: str, slug: str) -> Process:
    process: Process | None = Process.select().where((Process.slug == slug) & Process.is_active).first()
    if process is None:
        raise BadRequest(f'Error in process script: Incorrect definition of step "{step}", invalid process "{slug}".')
    return newest(slug)


def _account(report: Report) -> dict[str, Any]:
    return {
        "output": json.dumps(report.output),
        "process_info": json.dumps(report.info),
        "process_warning": json.dumps(report.warning),
        "process_error": json.dumps(report.error),
        "process_rc": report.rc,
        "process_progress": report.progress,
    }


def _home(volume: Volume, data: Data) -> Path:
    return volume.work / "flow" / f"{data.id}.{data.attempt}"


def _keep_logs(volume: Volume, data: Data, place: Workplace) -> None:
    target = log_path(volume, data.id)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(place.stdout, target)
