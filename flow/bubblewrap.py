"""Run a program under bubblewrap: mount, process, network, user, IPC and UTS namespaces of its own.

Inside there are the host's programs (``/usr`` and what belongs to it) read-only, ``/work``, ``/inputs`` read-only, an
empty ``/tmp`` and ``/proc`` of its own; nothing else of the host has a name there.

Where we are root, bubblewrap mounts with root's rights, so that inputs may lie in folders that are closed to others;
then ``setpriv`` drops everything, and ``unshare`` enters a user namespace, in which the limit on processes counts this
run alone.  Where we are not, bubblewrap makes the user namespace itself.
"""

import contextlib
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

from .channel import Call
from .etc import Etc
from .executor import MIB, RUNTIME, ExecutorFailed, Outcome, Program, Workplace
from .pipes import Pipes, memory_file
from .preamble import command, environment, script, shell
from .supervisor import Supervisor
from .view import View

WORK, INPUTS, TOOLS, HOME = "/work", "/inputs", "/tools", "/runtime"
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
NETWORK_ETC = ("resolv.conf", "hosts", "nsswitch.conf", "gai.conf", "host.conf")
SHARED_BYTES = 64 * MIB  # of /dev/shm, which is memory
NOT_ENFORCED = (
    "memory: of the whole run by looking ten times a second, of one process by the kernel",
    "disk: by looking, not by quota",
)


class BubblewrapExecutor:
    """Starts bash in a sandbox.  ``system`` adds folders of the host that programs may read, at the same place."""

    name = "bubblewrap"

    def __init__(self, system: tuple[Path, ...] = ()) -> None:
        """Find bubblewrap.  Raises ExecutorFailed where it is not installed."""
        found = shutil.which("bwrap")
        if found is None:
            raise ExecutorFailed("bubblewrap is not installed")
        self._bwrap = found
        self._fixed = list(_system(system))
        self._etc = {False: Etc(), True: Etc(NETWORK_ETC)}  # by whether the program has the network

    def view(self, program: Program) -> View:
        """Return the view of the sandbox."""
        return View(WORK, program.workplace.work, {f"{INPUTS}/{name}": path for name, path in program.inputs.items()})

    def input_root(self, workplace: Workplace) -> str:
        """Return the folder of inputs inside."""
        return INPUTS

    def run(self, program: Program, on_call: Callable[[Call], None], cancelled: Callable[[], bool]) -> Outcome:
        """Run as the protocol says."""
        place = program.workplace
        with Pipes(place.owner, place.temporary) as pipes, memory_file(b"") as options:
            variables = environment(
                program.environment,
                work=WORK,
                temporary=f"{WORK}/.tmp",
                runtime=HOME,
                tools=[f"{TOOLS}/{number}" for number in range(len(program.tools))],
                pipes=pipes.handed,
            )
            supervisor = Supervisor(place, program.limits, on_call, cancelled, _kill)
            # by descriptor, because the program can read bubblewrap's command line
            os.write(options, b"".join(os.fsencode(word) + b"\0" for word in self._options(program, pipes.info[1])))
            os.lseek(options, 0, os.SEEK_SET)
            outcome = supervisor.run(
                [self._bwrap, "--args", str(options), "--", *_inner(place)],
                script(program.text, program.limits),
                variables,
                pipes,
                extra=(pipes.info[1], options),
            )
        return Outcome(**{**vars(outcome), "not_enforced": NOT_ENFORCED})

    def _options(self, program: Program, info: int) -> list[str]:
        place = program.workplace
        words = [
            "--unshare-pid",
            "--unshare-ipc",
            "--unshare-uts",
            "--unshare-cgroup-try",
            "--die-with-parent",
            "--new-session",
            "--hostname",
            "flow",
            "--info-fd",
            str(info),
        ]
        words += [] if program.network else ["--unshare-net"]
        if os.geteuid() == 0:
            words += ["--cap-drop", "ALL"]
            for capability in ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"):
                words += ["--cap-add", capability]
        else:
            words += ["--unshare-user", "--disable-userns", "--uid", "65534", "--gid", "65534"]
        etc = self._etc[program.network].folder(place.path.parent)
        words += [*self._fixed, "--ro-bind", str(etc), "/etc", *(_etc(NETWORK_ETC) if program.network else ())]
        words += [
            "--proc",
            "/proc",
            "--dev",
            "/dev",
            "--perms",
            "1777",
            "--size",
            str(SHARED_BYTES),
            "--tmpfs",
            "/dev/shm",
            "--remount-ro",
            "/dev",
        ]
        words += [
            "--bind",
            str(place.work),
            WORK,
            "--bind",
            str(place.temporary),
            "/tmp",
            "--ro-bind",
            str(RUNTIME),
            HOME,
        ]
        words += _folders([f"{INPUTS}/0", f"{TOOLS}/0", *(f"{INPUTS}/{name}" for name in program.inputs)])
        for name, path in program.inputs.items():
            words += ["--ro-bind", str(path), f"{INPUTS}/{name}"]
        for number, path in enumerate(program.tools):
            words += ["--ro-bind", str(path), f"{TOOLS}/{number}"]
        return [*words, "--remount-ro", "/"]


def _inner(place: Workplace) -> list[str]:
    """Return what bubblewrap starts: the shell, by way of what drops root's rights."""
    if os.geteuid() != 0:
        return shell()
    return [*command(place.owner, place.group), "unshare", "--user", "--map-current-user", *shell()]


def _kill(pid: int, quiet: bool) -> None:
    """Kill bubblewrap, which has not told what it started: its child may wait for it yet, in the same group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _folders(paths: list[str]) -> Iterator[str]:
    """Yield what makes the folders above ``paths``: bubblewrap itself would close them to all but their owner."""
    for folder in sorted({str(parent) for path in paths for parent in Path(path).parents if str(parent) != "/"}):
        yield from ("--perms", "0755", "--dir", folder)


def _system(more: tuple[Path, ...]) -> Iterator[str]:
    for name in (*SYSTEM, *map(str, more)):
        path = Path(name)
        if path.is_symlink() and name in SYSTEM:
            yield from ("--symlink", str(path.readlink()), name)
        elif path.is_dir():
            yield from ("--ro-bind", name, name)


def _etc(names: tuple[str, ...]) -> Iterator[str]:
    """Yield the binds of those parts of ``/etc`` that are as the host has them now."""
    for name in names:
        path = Path("/etc", name)
        if path.exists():
            yield from ("--ro-bind", str(path.resolve()), str(path))
