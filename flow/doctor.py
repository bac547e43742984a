"""Say what this host can enforce, by trying it (``pacifica-flow-cmd doctor``)."""

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .choice import choose
from .executor import ExecutorFailed, Limits, Outcome, Program, Workplace, program_user, reachable

SECONDS = 2.0  # at its limit bash waits before it forks again, and is then ended
OPTIONAL = ("curl", "gzip", "7z", "tar")  # what re-import needs


@dataclass(frozen=True)
class Finding:
    """One thing that was tried: ``ok``, or what follows from its failure."""

    name: str
    ok: bool
    text: str


def examine(work: Path | None = None) -> list[Finding]:
    """Try all of it; ``work`` is the folder that run directories will be made in (default: the temporary one).

    A ``work`` that is not there yet is not made: the temporary folder stands for it.
    """
    if work is not None and not work.is_dir():
        later = Finding("archive", True, f"{work} is not there yet; what follows was tried in the temporary folder")
        return [later, *examine()]
    return [*_tools(), *_folder(work), *_tried("bubblewrap", work), *_tried("local", work)]


def _tools() -> Iterator[Finding]:
    uid, _ = program_user()
    yield Finding(
        "user",
        True,
        f"programs run as uid {uid}"
        + (
            ""
            if os.geteuid() == 0
            else ", the worker's own: what the worker may read, the local executor's programs may"
        ),
    )
    yield Finding("kernel", True, platform.release())
    for name in ("bash", "setpriv", "bwrap", "unshare"):
        found = shutil.which(name)
        yield Finding(name, found is not None, found or "not installed")
    missing = [name for name in OPTIONAL if shutil.which(name) is None]
    yield Finding("re-import", not missing, f"not installed: {', '.join(missing)}" if missing else "all tools are here")


def _folder(work: Path | None) -> Iterator[Finding]:
    path = work or Path(tempfile.gettempdir())
    closed = reachable(path, program_user()[0])
    yield Finding(
        "work folder",
        closed is None,
        "open to programs"
        if closed is None
        else f"{closed} is closed to programs: the local executor cannot be used there",
    )


def _tried(name: str, work: Path | None) -> Iterator[Finding]:
    """Run one program that tries what it should not be able to do, and report each answer."""
    try:
        outcome, said = _run(name, work)
    except ExecutorFailed as error:
        yield Finding(name, False, error.message)
        return
    yield Finding(name, "DONE" in said, "runs programs" if "DONE" in said else "starts programs and loses them")
    for word, good, bad in (
        ("ROOT", "programs are not root", "programs run as root"),
        ("NET", "no network unless asked for", "programs reach the network unasked"),
        ("SHADOW", "host files stay unread", "programs read the host's files"),
        ("PROC", "own processes only", "programs see the host's processes"),
        ("FORK", "a fork bomb ends at its limit", "the limit on processes does not hold"),
    ):
        yield Finding(f"{name}: {word.lower()}", word not in said, bad if word in said else good)
    for text in outcome.not_enforced:
        what, _, how = text.partition(": ")
        yield Finding(f"{name}: {what}", False, how or text)


def _run(name: str, work: Path | None) -> tuple[Outcome, set[str]]:
    said: set[str] = set()
    executor = choose(name)
    folder = Path(tempfile.mkdtemp(prefix="doctor-", dir=work))  # its own, for what the executor lays beside a run
    folder.chmod(0o755)
    place = Workplace.make(folder / "run")
    try:
        limits = Limits(wall_seconds=SECONDS, processes=64)
        outcome = executor.run(
            Program(text=_PROGRAM, workplace=place, limits=limits),
            lambda call: said.update(call.arguments),
            lambda: False,
        )
        return outcome, said
    finally:
        place.remove()
        shutil.rmtree(folder)


_PROGRAM = f"""
set +x
(( UID )) || re-info ROOT
(( $(grep -c : /proc/net/dev) > 1 )) && re-info NET
[[ -e /etc/machine-id || -e /etc/hostname || -e /var/lib ]] && re-info SHADOW
[[ -d /proc/{os.getppid()} && $$ -gt 20 ]] && re-info PROC
re-info DONE
for ((i = 0; i < 100; i++)); do sleep 5 & done 2>/dev/null
re-info FORK
"""
