"""The workflow engine's program: a list of steps ``{id, run, input}``, each a process to be run.

Pure: what a step's process is and how objects are created is the dispatcher's part.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..common.errors import BadRequest
from .document import Document, Refused

PREFIX = "Error in process script: "
MAX_STEPS = 10_000


class BadWorkflow(BadRequest):
    """A workflow cannot be expanded into its steps."""

    code = "bad_workflow"


@dataclass(frozen=True)
class Step:
    """One step: the slug of a process (its newest version) and the inputs as they are written."""

    id: str
    run: str
    input: dict[str, Any] = field(default_factory=dict)


def read_steps(program: Any) -> list[Step]:
    """Return the steps of ``program`` in order.  Raises BadWorkflow in the engine's words."""
    if not isinstance(program, list):
        raise BadWorkflow(PREFIX + "Workflow program must be a list of steps.")
    return [_step(item, position) for position, item in enumerate(program)]


def check_program(program: Any, document: Document, slug: str = "") -> None:
    """Raise Refused, with its line, for what can be known of a workflow before it runs.

    Besides the shape: ids given twice, and a workflow that names itself as a step and so would never end.
    """
    if not isinstance(program, list):
        raise Refused("Workflow program must be a list of steps.", document.line(("program",)))
    if len(program) > MAX_STEPS:
        raise Refused(f"A workflow has at most {MAX_STEPS} steps", document.line(("program",)))
    seen: set[str] = set()
    for position, item in enumerate(program):
        line = document.line(("program", position))
        try:
            step = _step(item, position)
        except BadWorkflow as error:
            raise Refused(error.message.removeprefix(PREFIX), line) from error
        if step.id in seen:
            raise Refused(f'The step "{step.id}" is defined twice', line)
        if step.run == slug:
            raise Refused(f'The step "{step.id}" runs the workflow itself', line)
        seen.add(step.id)


def step_input(
    step: Step,
    workflow_input: Mapping[str, Any],
    steps: Mapping[str, int],
    evaluate: Callable[[str, Mapping[str, Any]], Any] | None,
) -> dict[str, Any]:
    """Return the inputs of ``step``'s object.

    ``evaluate(text, context)`` is the expression engine, or None where the workflow asks for none.  It sees
    ``input`` (the workflow's own, raw) and ``steps`` (id of each earlier step's object).  A None drops its key.
    Texts inside lists are not evaluated.  Raises BadWorkflow.
    """
    if evaluate is None:
        return dict(step.input)
    context = {"input": workflow_input, "steps": steps}
    try:
        return dict(evaluated(step.input, context, evaluate))
    except BadRequest as error:
        raise BadWorkflow(
            f'{PREFIX}Error while evaluating expression for step "{step.id}": {error.message}', step=step.id
        ) from error


def evaluated(
    values: Mapping[str, Any], context: Mapping[str, Any], evaluate: Callable[[str, Mapping[str, Any]], Any]
) -> Iterator[tuple[str, Any]]:
    """Yield keys and values with each text evaluated, in nested objects too but not in lists; None drops its key."""
    for key, value in values.items():
        if isinstance(value, str):
            value = evaluate(value, context)
        elif isinstance(value, dict):
            value = dict(evaluated(value, context, evaluate))
        if value is not None:
            yield key, value


def find_circle(start: str, runs: Callable[[str], list[str]]) -> list[str] | None:
    """Return the slugs of a circle that workflow ``start`` would run into, first and last the same; else None.

    ``runs(slug)`` gives the slugs that a workflow starts; nothing for any other process.
    """
    done: set[str] = set()
    trail: list[tuple[str, Iterator[str]]] = [(start, iter(runs(start)))]
    while trail:
        following = next(trail[-1][1], None)
        names = [name for name, _ in trail]
        if following is None:
            done.add(trail.pop()[0])
        elif following in names:
            return [*names[names.index(following) :], following]
        elif following not in done:
            trail.append((following, iter(runs(following))))
    return None


def _step(item: Any, position: int) -> Step:
    if not isinstance(item, dict):
        raise BadWorkflow(f'{PREFIX}Incorrect definition of step "{position}", it must be an object.')
    name = item.get("id", position)
    for key in ("id", "run"):
        if key not in item:
            raise BadWorkflow(f'{PREFIX}Incorrect definition of step "{name}", missing property "{key}".')
        if not isinstance(item[key], str):
            raise BadWorkflow(f'{PREFIX}Incorrect definition of step "{name}", property "{key}" must be text.')
    if not isinstance(item.get("input", {}), dict):
        raise BadWorkflow(f'{PREFIX}Incorrect definition of step "{name}", input must be a dictionary.')
    return Step(item["id"], item["run"], item.get("input", {}))
