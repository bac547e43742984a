"""Run a program as a plain process of this host, where the administrator says so.

It sees what its user sees: other files, the network, other processes of that user.  Limits on one process hold; those
on the whole run are watched.
"""

import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

from .channel import Call
from .executor import RUNTIME, ExecutorFailed, Outcome, Program, Workplace, reachable
from .pipes import Pipes
from .preamble import command, environment, script, shell
from .processes import end_group, end_orphans
from .supervisor import Supervisor
from .view import View

NOT_ENFORCED = (
    "isolation: the program sees the host's files, network and processes",
    "processes: counted for all programs of the same user together",
    "memory: of the whole run by looking ten times a second, of one process by the kernel",
    "disk: by looking, not by quota",
    "leftovers: a process that leaves its group, its parent and its environment survives the end of the run",
)


class LocalExecutor:
    """Starts bash itself, as nobody where we are root, in a process group of its own."""

    name = "local"

    def view(self, program: Program) -> View:
        """Return the view in which inside and outside are the same words."""
        root = self.input_root(program.workplace)
        return View(
            str(program.workplace.work),
            program.workplace.work,
            {f"{root}/{name}": path for name, path in program.inputs.items()},
        )

    def input_root(self, workplace: Workplace) -> str:
        """Return the folder of links to the inputs."""
        return str(workplace.path / "inputs")

    def run(self, program: Program, on_call: Callable[[Call], None], cancelled: Callable[[], bool]) -> Outcome:
        """Run as the protocol says."""
        place = program.workplace
        _link(Path(self.input_root(place)), program)
        runtime = _runtime(place)
        closed = reachable(place.path.parent, place.owner) if os.geteuid() == 0 else None
        if closed is not None:
            raise ExecutorFailed(
                f"The work folder lies behind {closed.name or '/'}, which user {place.owner} may not "
                "enter: choose another, or the bubblewrap executor"
            )
        mark = f"RE_RUN={uuid.uuid4().hex}"
        with Pipes(place.owner, place.temporary) as pipes:
            supervisor = Supervisor(
                place,
                program.limits,
                on_call,
                cancelled,
                lambda pid, quiet: end_orphans(pid) if quiet else end_group(pid, mark.encode()),
            )
            variables = environment(
                program.environment,
                work=str(place.work),
                temporary=str(place.temporary),
                runtime=str(runtime),
                tools=map(str, program.tools),
                pipes=pipes.handed,
            )
            outcome = supervisor.run(
                [*command(place.owner, place.group), *shell()],
                script(program.text, program.limits),
                {**variables, **dict([mark.split("=", 1)])},
                pipes,
            )
        network = () if program.network else ("network: the program has it although it did not ask",)
        return Outcome(**{**vars(outcome), "not_enforced": (*NOT_ENFORCED, *network)})


def open_way(folders: Iterable[Path]) -> None:
    """Let the user that programs run as pass through ``folders``, which stay closed to a look."""
    if os.geteuid() == 0:
        for folder in folders:
            folder.chmod(folder.stat().st_mode | stat.S_IXGRP | stat.S_IXOTH)


def _link(root: Path, program: Program) -> None:
    """Lay the inputs below ``root``: as links, or under a second name where the way to the first is closed."""
    for name, path in program.inputs.items():
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir() or os.geteuid() != 0 or reachable(path.parent, program.workplace.owner) is None:
            target.symlink_to(path)
        else:
            target.hardlink_to(path)


def _runtime(place: Workplace) -> Path:
    """Return a copy of the runtime that the program's user can read: ours may lie in a closed home folder."""
    if os.geteuid() != 0 or reachable(RUNTIME, place.owner) is None:
        return RUNTIME
    shutil.copytree(RUNTIME, place.path / "runtime", symlinks=True)
    return place.path / "runtime"
