"""The workflow engine's program: steps and their inputs."""

import pytest

from pacifica.flow.template import Engine
from pacifica.flow.workflow import BadWorkflow, Step, read_steps, step_input

ENGINE = Engine()


def test_steps_are_read_in_order():
    assert read_steps([{"id": "a", "run": "p"}, {"id": "b", "run": "q", "input": {"x": 1}}]) == [
        Step("a", "p"),
        Step("b", "q", {"x": 1}),
    ]


@pytest.mark.parametrize(
    ("program", "text"),
    [
        ("echo", "Error in process script: Workflow program must be a list of steps."),
        ([{"id": "a"}], 'Error in process script: Incorrect definition of step "a", missing property "run".'),
        ([{"run": "a"}], 'Error in process script: Incorrect definition of step "0", missing property "id".'),
        (
            [{"id": "a", "run": "p", "input": []}],
            'Error in process script: Incorrect definition of step "a", input must be a dictionary.',
        ),
    ],
)
def test_bad_programs_are_refused_in_the_engines_words(program, text):
    with pytest.raises(BadWorkflow) as caught:
        read_steps(program)
    assert caught.value.message == text


def test_inputs_are_evaluated_in_objects_and_not_in_lists():
    step = Step(
        "b",
        "q",
        {
            "parent": "{{ steps.a }}",
            "deep": {"text": "n-{{ input.n }}", "none": "{{ input.x }}"},
            "list": ["{{ steps.a }}"],
            "native": " {{ input.n + 1 }} ",
            "number": 5,
        },
    )
    assert step_input(step, {"n": 4}, {"a": 12}, ENGINE.value) == {
        "parent": 12,
        "deep": {"text": "n-4"},
        "list": ["{{ steps.a }}"],
        "native": 5,
        "number": 5,
    }
    assert step_input(step, {}, {}, None) == step.input


def test_an_expression_that_fails_names_its_step():
    with pytest.raises(BadWorkflow, match='Error while evaluating expression for step "b"'):
        step_input(Step("b", "q", {"x": "{{ a }}{{ b }}"}), {}, {}, ENGINE.value)
