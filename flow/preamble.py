"""What bash reads before the program, and the environment that both get."""

import os
import resource
from collections.abc import Iterable, Mapping

from .executor import Limits

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
STARTED = "started"  # the call by which the preamble says that bash runs


def environment(
    given: Mapping[str, str], *, work: str, temporary: str, runtime: str, tools: Iterable[str], pipes: tuple[int, int]
) -> dict[str, str]:
    """Return the whole environment of the program: nothing of ours is inherited.

    ``pipes`` are the descriptors for messages and for answers.
    """
    return {
        "PATH": f"{PATH}:{runtime}/bin",
        "HOME": work,
        "TMPDIR": temporary,
        "RESOLWE_HOST_URL": "localhost",
        "RUNNING_IN_CONTAINER": "1",
        "RUNNING_IN_DOCKER": "1",
        **given,
        "TOOLS_PATHS": ":".join(tools),
        "RE_RUNTIME": runtime,
        "RE_OUT": str(pipes[0]),
        "RE_IN": str(pipes[1]),
        "RE_ANSWERS": temporary,
    }


def script(program: str, limits: Limits) -> bytes:
    """Return bash's standard input: limits, the re-* functions, then ``program`` with tracing on.

    The limits are set by the shell itself: inside its own user namespace the limit on processes counts only its own,
    and no code of ours runs between fork and exec.
    """
    lines = [f"ulimit {option} {value}" for option, value in _ulimits(limits)]
    lines += [
        'export LANG="${LANG-C.UTF-8}"',  # not sooner: what starts the shell would load the language, once each
        'cd "$HOME"',
        "export RE_SHELL=$$",
        '. "$RE_RUNTIME/functions.sh"',
        f"__re_send '!' {STARTED} /",
        "PATH=$PATH:$TOOLS_PATHS",
        "set -x +B",
    ]
    return "; ".join(lines).encode() + b"\n" + program.encode("utf-8", "surrogateescape")


def command(uid: int, gid: int) -> list[str]:
    """Return the command that starts bash as ``uid`` without any privilege, for a caller that is root or ``uid``."""
    drop = ["--no-new-privs"]
    if os.geteuid() == 0:
        drop += [f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]
    return ["setpriv", *drop]


def shell() -> list[str]:
    """Return the command of the shell itself, which reads its program from standard input."""
    return ["bash", "--norc", "--noprofile"]


def _ulimits(limits: Limits) -> Iterable[tuple[str, int]]:
    """Yield bash's options; what the host allows less of already stays as it is."""
    asked = [
        ("-c", resource.RLIMIT_CORE, 0, 1),
        ("-d", resource.RLIMIT_DATA, limits.memory_bytes, 1024),
        ("-f", resource.RLIMIT_FSIZE, limits.file_bytes, 1024),
        ("-S -t", resource.RLIMIT_CPU, limits.cpu_seconds, 1),  # SIGXCPU says why; who outlives it is killed
        ("-H -t", resource.RLIMIT_CPU, limits.cpu_seconds and limits.cpu_seconds + 1, 1),
        ("-u", resource.RLIMIT_NPROC, limits.processes, 1),
    ]
    for option, which, value, unit in asked:
        if value is not None:
            held = resource.getrlimit(which)[1]
            bound = value if held == resource.RLIM_INFINITY else min(value, held)
            yield option, max(bound // unit, 0)
