"""What flow is held against: the least that Celery can do for a chain of programs, with no state and no files.

``celery -A raw worker``; RAW_BROKER is the broker's URL, RAW_FILE grows by a byte with each task that is done.
"""

import os
import subprocess
from pathlib import Path

import celery

app = celery.Celery("raw", broker=os.environ.get("RAW_BROKER"), set_as_current=False)
app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=1, task_default_queue="raw")


@app.task(name="raw.step")
def step(left: int) -> None:
    """Run bash, and let the next of ``left`` do the same."""
    subprocess.run(["bash", "-c", "true"], check=True)
    with Path(os.environ["RAW_FILE"]).open("ab") as file:
        file.write(b".")
    if left > 1:
        app.send_task("raw.step", args=[left - 1])
