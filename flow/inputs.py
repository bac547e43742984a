"""A program's inputs: archived files, laid where the program will look for them, without a copy where one can do."""

import stat
from contextlib import ExitStack
from pathlib import Path

from ..common import catalog, ledger
from ..common.batch import batches
from ..common.errors import NotFound
from ..common.pack import PackReader
from ..common.volume import Volume
from .orm import DataFile
from .world import SqlWorld, archived_name, transaction_name


def lay_out(world: SqlWorld, volume: Volume, copies: Path) -> dict[str, Path]:
    """Return what ``world`` was asked for: names below the inputs, and the host's files that stand for them.

    A file that is a pack of its own is read in place; a member of a bundle is copied into ``copies``, verified.
    A transaction becomes a folder with its files at their paths.  NotFound when a file is no longer in the archive.
    """
    names: dict[str, int] = {archived_name(file_id): file_id for file_id in world.archived}
    for data_id, name in sorted(world.needed):
        inside = (DataFile.name == name) | DataFile.name.startswith(f"{name}/")
        for row in DataFile.select().where((DataFile.data == data_id) & inside):
            names[f"{data_id}/{row.name}"] = row.file_id
    held = ledger.locate(names.values())
    laid = {name: _place(file_id, held.get(file_id), volume, copies) for name, file_id in names.items()}
    for transaction in sorted(world.transactions):
        laid[transaction_name(transaction)] = _folder(transaction, volume, copies / f"transaction-{transaction}")
    return laid


def _folder(transaction: int, volume: Volume, root: Path) -> Path:
    """Fill ``root`` with the files of ``transaction``; room for them is held meanwhile."""
    root.mkdir(mode=0o755, parents=True)
    with ExitStack() as stack:
        readers: dict[str, PackReader] = {}
        for batch in batches(catalog.files_of(transaction), 10_000):
            held = ledger.locate(file["_id"] for file in batch)
            with volume.reserve(sum(file["size"] for file in batch)):
                for file in batch:
                    located = held.get(file["_id"])
                    if located is None:
                        raise NotFound(f"File {file['_id']} is no longer in the archive.", file_id=file["_id"])
                    if located.pack not in readers:
                        readers[located.pack] = stack.enter_context(PackReader(volume, located.pack))
                    _copy(readers[located.pack], located, _below(root, file["subdir"], file["name"]))
    return root


def _below(root: Path, subdir: str, name: str) -> Path:
    """Return the place of a file below ``root``, its folders made.  NotFound for a path that would leave it."""
    steps = [step for step in f"{subdir}/{name}".split("/") if step not in ("", ".")]
    if not steps or ".." in steps:
        raise NotFound("A file of the transaction has a path that is no place in a folder.", path=f"{subdir}/{name}")
    target = root.joinpath(*steps)
    missing = [folder for folder in target.parents if folder.is_relative_to(root) and not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o755)
    return target


def _place(file_id: int, held: ledger.Located | None, volume: Volume, copies: Path) -> Path:
    if held is None:
        raise NotFound(f"File {file_id} is no longer in the archive.", file_id=file_id)
    path = volume.pack_path(held.pack)
    if held.kind == "file" and path.stat().st_mode & stat.S_IROTH:
        return path
    copies.mkdir(mode=0o755, exist_ok=True)
    target = copies / str(file_id)
    if not target.exists():
        with PackReader(volume, held.pack) as reader:
            _copy(reader, held, target)
    return target


def _copy(reader: PackReader, held: ledger.Located, target: Path) -> None:
    with target.open("xb") as file:
        file.writelines(reader.read(held.offset, held.size))
    target.chmod(0o644)
