"""The process that docs/flow-process.md begins with does what the page says."""

import re
from pathlib import Path

from pacifica.flow.definition import define
from pacifica.flow.document import parse
from pacifica.flow.fields import check, complete
from pacifica.flow.template import Engine

PAGE = Path(__file__).parents[2] / "docs/flow-process.md"


def test_the_first_process_runs(run, sandbox, open_folder):
    text = re.search(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]
    definition = define(parse(text.encode()).part(0))
    upload = open_folder / "upload"
    upload.write_text("the cat sat on a mat\n")
    values = complete(definition.input, {"text": {"file": "a b; rm -rf ~.txt", "file_temp": "7"}, "least": 2})
    check(definition.input, values)
    context = {**values, "text": {**values["text"], "file_temp": "/inputs/a b; rm -rf ~.txt"}}
    assert Engine().name(definition.data_name, context) == "Words of a b; rm -rf ~.txt"
    ran = run(sandbox, Engine().program(definition.program, context), inputs={"a b; rm -rf ~.txt": upload})
    ran.report.output_schema = definition.output
    ran.report.finish(ran.outcome.returncode, values, definition.input)
    assert (ran.report.status, ran.report.error) == ("OK", [])
    assert ran.report.output["words"] == 5
    assert (ran.shelf / "words.txt").read_text().split() == ["the", "cat", "sat", "on", "mat"]
