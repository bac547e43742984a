"""What a run leaves beside its outputs: all that it printed, and its ``re-*`` messages."""

import json
import shutil
from pathlib import Path
from typing import IO, BinaryIO

from ..common.volume import Volume
from .executor import Workplace
from .messages import Message
from .orm import Data

SUFFIXES = {"stdout": ".txt", "jsonout": ".json"}


def kept(volume: Volume, data_id: int, part: str = "stdout") -> Path:
    """Return where ``part`` (``stdout`` or ``jsonout``) of an object lies once its run is over."""
    return volume.root / "flow" / f"{data_id % 256:02x}" / f"{data_id}{SUFFIXES[part]}"


def home(volume: Volume, data: Data) -> Path:
    """Return the run directory of the attempt at work."""
    return volume.work / "flow" / f"{data.id}.{data.attempt}"


def current(volume: Volume, data: Data, part: str = "stdout") -> Path:
    """Return where ``part`` of an object can be read now, which may not be there yet."""
    if data.state in Data.FINAL:
        return kept(volume, data.origin or data.id, part)
    return home(volume, data) / f"{part}.txt"


def opened(volume: Volume, data: Data, part: str = "stdout") -> BinaryIO | None:
    """Open ``part`` of an object as it is now, for the caller to close; None where there is nothing yet."""
    while True:
        try:
            return current(volume, data, part).open("rb")
        except FileNotFoundError:  # the run that ``data`` tells of may have ended, and its directory is gone then
            fresh = Data.get_or_none(Data.id == data.id)
            if fresh is None or (fresh.state, fresh.attempt) == (data.state, data.attempt):
                return None
            data = fresh


def keep(volume: Volume, data: Data, place: Workplace) -> None:
    """Keep both logs of the run that was in ``place``, where they stay as well; nothing is written to them any more."""
    folder = kept(volume, data.id).parent
    folder.mkdir(parents=True, exist_ok=True)
    for part, source in (("stdout", place.stdout), ("jsonout", place.messages)):
        target = folder / f"{data.id}{SUFFIXES[part]}"
        target.unlink(missing_ok=True)
        try:
            target.hardlink_to(source)
        except OSError:  # no links here, or an attempt that was given up for dead does the same just now
            shutil.copyfile(source, target)


def forget(volume: Volume, data: Data) -> None:
    """Remove the logs of a deleted object, unless an object that uses its result shows them."""
    for id in {data.id, data.origin or data.id}:
        if not Data.select().where((Data.id == id) | (Data.origin == id)).exists():
            for part in SUFFIXES:
                kept(volume, id, part).unlink(missing_ok=True)


class Journal:
    """Appends messages to ``jsonout.txt``, at most ``room`` bytes of them; what comes after is left out.

    Others read them once ``flush`` was called, or ``file`` is closed.
    """

    def __init__(self, file: IO[bytes], room: int) -> None:
        self._file, self._room = file, room
        self.size = 0

    def add(self, message: Message) -> None:
        """Append one message as a line in the original's words."""
        said = {"type": "COMMAND", "type_data": message.kind, "data": message.data}
        line = json.dumps(said).encode() + b"\n"
        if self.size + len(line) <= self._room:
            self._file.write(line)
            self.size += len(line)

    def flush(self) -> None:
        """Show what there is: not with each message, whose program may wait."""
        self._file.flush()
