"""Make a bundle: ``python bundle.py FOLDER BUNDLE.tar`` packs FOLDER with its metadata.txt, which comes last."""

import hashlib
import io
import json
import sys
import tarfile
from datetime import UTC, datetime
from pathlib import Path


def main(folder: Path, bundle: Path) -> None:
    """Write ``bundle``: every file below ``folder`` as ``data/...``, then what is declared of them."""
    declared: list[dict[str, object]] = [
        {"destinationTable": "Transactions.submitter", "value": 10},
        {"destinationTable": "Transactions.project", "value": "demo"},
        {"destinationTable": "Transactions.instrument", "value": 54},
        {"destinationTable": "TransactionKeyValue", "key": "purpose", "value": "to see it run"},
    ]
    with tarfile.open(bundle, "w") as tar:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = path.relative_to(folder)
            tar.add(path, f"data/{name}", recursive=False)
            changed = datetime.fromtimestamp(int(path.stat().st_mtime), UTC).strftime("%Y-%m-%dT%H:%M:%S")
            declared.append(
                {
                    "destinationTable": "Files",
                    "name": name.name,
                    "subdir": "" if str(name.parent) == "." else str(name.parent),
                    "size": path.stat().st_size,
                    "mimetype": "text/plain",
                    "hashtype": "sha1",
                    "hashsum": hashlib.sha1(path.read_bytes()).hexdigest(),
                    "ctime": changed,
                    "mtime": changed,
                }
            )
        text = json.dumps(declared).encode()
        member = tarfile.TarInfo("metadata.txt")
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
