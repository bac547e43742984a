"""A program's inputs: archived files, laid where the program will look for them, without a copy where one can do."""

import stat
from pathlib import Path

from ..common import ledger
from ..common.errors import NotFound
from ..common.pack import PackReader
from ..common.volume import Volume
from .orm import DataFile
from .world import SqlWorld, archived_name


def lay_out(world: SqlWorld, volume: Volume, copies: Path) -> dict[str, Path]:
    """Return what ``world`` was asked for: names below the inputs, and the host's files that stand for them.

    A file that is a pack of its own is read in place; a member of a bundle is copied into ``copies``, verified.
    NotFound when a file is no longer in the archive.
    """
    names: dict[str, int] = {archived_name(file_id): file_id for file_id in world.archived}
    for data_id, name in sorted(world.needed):
        inside = (DataFile.name == name) | DataFile.name.startswith(f"{name}/")
        for row in DataFile.select().where((DataFile.data == data_id) & inside):
            names[f"{data_id}/{row.name}"] = row.file_id
    held = ledger.locate(names.values())
    return {name: _place(file_id, held.get(file_id), volume, copies) for name, file_id in names.items()}


def _place(file_id: int, held: ledger.Located | None, volume: Volume, copies: Path) -> Path:
    if held is None:
        raise NotFound(f"File {file_id} is no longer in the archive.", file_id=file_id)
    path = volume.pack_path(held.pack)
    if held.kind == "file" and path.stat().st_mode & stat.S_IROTH:
        return path
    copies.mkdir(mode=0o755, exist_ok=True)
    target = copies / str(file_id)
    if not target.exists():
        with PackReader(volume, held.pack) as reader, target.open("xb") as file:
            file.writelines(reader.read(held.offset, held.size))
        target.chmod(0o644)
    return target
