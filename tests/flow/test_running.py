"""A run that is overtaken by another attempt."""

import json

import pytest

from pacifica.common.errors import IllegalMove
from pacifica.common.volume import Volume
from pacifica.flow import logs, running
from pacifica.flow.config import Settings
from pacifica.flow.null import NullExecutor
from pacifica.flow.orm import SCHEMA, Data, Process


class Overtaken(NullExecutor):
    """Runs nothing, and another attempt meanwhile keeps its logs."""

    def __init__(self, kept, raises):
        self.kept, self.raises = kept, raises

    def run(self, program, on_call, cancelled):
        """Let the other begin, and maybe notice it."""
        Data.update(attempt=Data.attempt + 1).execute()
        self.kept.parent.mkdir(parents=True)
        self.kept.write_bytes(b"of the newer one")
        if self.raises:
            raise IllegalMove("another worker moved it first")
        return super().run(program, on_call, cancelled)


@pytest.mark.parametrize("raises", [True, False], ids=["noticed", "noticed at the end"])
def test_the_logs_of_an_attempt_that_was_overtaken_replace_no_others(database, open_folder, tmp_path, raises):
    SCHEMA.sync()
    program = {"language": "bash", "program": ""}
    document = {"slug": "a", "name": "A", "version": "1.0.0", "type": "data:a:", "run": program}
    facts = {"category": "Test:", "persistence": "RAW", "scheduling_class": "batch", "digest": ""}
    process = Process.create(slug="a", version="1.0.0", order=1, name="A", type="data:a:",
                             document=json.dumps(document), **facts)  # fmt: skip
    data = Data.create(state="PR", attempt=1, process=process.id, type="data:a:", owner="ann", checksum="")
    volume = Volume(open_folder / tmp_path.name, 0)
    kept = logs.kept(volume, data.id)
    with pytest.raises(IllegalMove):
        running.run(data, Overtaken(kept, raises), volume, Settings())
    assert kept.read_bytes() == b"of the newer one"
    assert not logs.home(volume, data).exists()
