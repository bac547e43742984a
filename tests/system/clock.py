"""A wall clock that jumps while a process runs: a library below it, made of ``clock.c``."""

import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")


class Clock:
    """The wall clock of the processes that are started with ``environment``; it is made in the new ``folder``."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.offset, library = folder / "offset", folder / "clock.so"
        self.offset.write_bytes(bytes(8))
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", library, SOURCE, "-ldl"], check=True)
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(self.offset)}

    def jump(self, seconds: int) -> None:
        """Be ``seconds`` ahead of the true time from now on, or behind it (negative)."""
        with self.offset.open("r+b") as file:
            file.write(seconds.to_bytes(8, "little", signed=True))
