"""Open a program's files from outside, by the paths that the program uses, and never anything else.

Programs are not trusted: a saved output may be a link to ``/etc/shadow``, a path may lead upwards, a directory may be
swapped for a link while we walk.  So every step is taken by descriptor and without following links; a link is read
and resolved in the program's own view of the world: its working directory and its inputs.
"""

import errno
import os
import posixpath
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

MAX_LINKS = 40
MAX_FILES = 1_000_000
MAX_DEPTH = 200
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # not to hang on a FIFO that is called a file


class View:
    """What a program may name: ``directory`` inside is its working directory, ``mounts`` maps inputs to host paths.

    Where there is no sandbox, inside and outside are the same words.
    """

    def __init__(self, directory: str, host_directory: Path, mounts: Mapping[str, Path] | None = None) -> None:
        """Say where the program sees its working directory, and where that is."""
        self.directory = posixpath.normpath(directory)
        self._mounts = {
            self.directory: host_directory,
            **{posixpath.normpath(inside): path for inside, path in (mounts or {}).items()},
        }

    def open(self, path: str, base: str = "") -> int:
        """Return a read-only descriptor of the file or directory at ``path`` (relative to ``base``).

        Links are followed as long as they stay within the view.  FileNotFoundError for all that is outside, and for
        sockets, devices and FIFOs.
        """
        if "\0" in path or not path:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        inside = posixpath.join(self.directory, base, path)
        for _ in range(MAX_LINKS):
            found, link = self._walk(inside)
            if link is None:
                mode = os.fstat(found).st_mode
                if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                    os.close(found)
                    break
                return found
            inside = link
        raise FileNotFoundError(errno.ENOENT, "no such file", path)

    def kind(self, path: str, base: str = "") -> str:
        """Return ``file``, ``dir`` or, for anything else and for nothing at all, the empty text."""
        try:
            found = self.open(path, base)
        except OSError:
            return ""
        try:
            return "dir" if stat.S_ISDIR(os.fstat(found).st_mode) else "file"
        finally:
            os.close(found)

    def name(self, path: str, base: str = "") -> str | None:
        """Return ``path`` relative to the working directory, None when it is not in it (as far as words go)."""
        inside = posixpath.normpath(posixpath.join(self.directory, base, path))
        if inside == self.directory:
            return "."
        prefix = self.directory.rstrip("/") + "/"
        return inside.removeprefix(prefix) if inside.startswith(prefix) else None

    def files(self, path: str, base: str = "") -> Iterator[tuple[str, int]]:
        """Yield (path below ``path``, open descriptor) of each file in the tree, and (path, -1) of each directory.

        The descriptor is closed when the next item is asked for.  A linked directory is entered once.  OSError for
        what is neither file nor directory, or for a tree past MAX_FILES or MAX_DEPTH.
        """
        seen: set[tuple[int, int]] = set()
        todo, count = [""], 0
        while todo:
            below = todo.pop()
            here = posixpath.join(path, below) if below else path
            found = self.open(here, base)
            try:
                state = os.fstat(found)
                count += 1
                if count > MAX_FILES or below.count("/") > MAX_DEPTH:
                    raise OSError(errno.EMLINK, "the directory holds too much", path)
                if not stat.S_ISDIR(state.st_mode):
                    yield below, found
                elif (state.st_dev, state.st_ino) not in seen:
                    seen.add((state.st_dev, state.st_ino))
                    yield below, -1
                    names = sorted(os.listdir(found), reverse=True)  # noqa: PTH208 - by descriptor
                    todo += [posixpath.join(below, name) for name in names]
            finally:
                os.close(found)

    def _walk(self, inside: str) -> tuple[int, str | None]:
        """Open ``inside`` step by step: (descriptor, None), or (-1, the path to go on with) at a link."""
        root, inside = self._root(inside)
        steps = [step for step in inside[len(root) :].split("/") if step not in ("", ".")]
        held = [os.open(self._mounts[root], _OPEN)]
        try:
            for position, step in enumerate(steps):
                if step == "..":
                    if len(held) == 1:
                        raise FileNotFoundError(errno.ENOENT, "outside", inside)
                    os.close(held.pop())
                    continue
                try:
                    held.append(os.open(step, _OPEN, dir_fd=held[-1]))
                except OSError as error:
                    if error.errno not in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
                        raise
                    target = os.readlink(step, dir_fd=held[-1])  # EINVAL: a socket, or changed under our feet
                    passed = _lexical(steps[:position])
                    return -1, posixpath.join(root, *passed, target, *steps[position + 1 :])
            return os.dup(held[-1]), None
        finally:
            for descriptor in held:
                os.close(descriptor)

    def _root(self, inside: str) -> tuple[str, str]:
        """Return the mount that ``inside`` begins in, and ``inside`` spelled so that it begins with it."""
        for spelled in (inside, posixpath.normpath(inside)):  # as it stands first: a/../b is not b where a is a link
            fitting = [
                mount for mount in self._mounts if spelled == mount or spelled.startswith(mount.rstrip("/") + "/")
            ]
            if fitting:
                return max(fitting, key=len), spelled
        raise FileNotFoundError(errno.ENOENT, "outside", inside)


def _lexical(steps: list[str]) -> list[str]:
    """Drop ``..`` together with the step before it; the steps have been walked, so none of them is a link."""
    kept: list[str] = []
    for step in steps:
        if step == "..":
            kept.pop()
        else:
            kept.append(step)
    return kept
