"""What a cell of a sweep is sent to Live as: the same edit at the same tokens, or nothing."""

import numpy as np
import pytest

from backend.edits import EVERY, PLAIN, Ablate, Add, Condition, Gain, Level, When, Where
from backend.records import BASE, Direction, Question, Response
from backend.study import Draft, open_study
from panels.stacks import ALL, OWN
from panels.sweeps import edit_of

V = [Direction("v", layer, np.full(4, layer, np.float32), 10.0) for layer in (1, 2)]
CELLS = {
    "paper": Add(V[1], 2.0, where=EVERY),
    "plain": Add(V[1], 2.0, where=PLAIN),
    "answers": Ablate(V[1], None, Where("answer")),
    "some": Ablate(V[1], None, Where("answer", first=5)),
    "gated": Add(V[1], 2.0, when=When(V[0], 0.5)),
    "to a mean": Ablate(V[1], (2,), PLAIN, to=Level((1.0,), "base")),
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("sent")
    with Draft("s", root) as draft:
        draft.add_organism(BASE, base="b", adapters=(), record={})
        draft.add_organism("o", base="b", adapters=(), record={})
        draft.add_questions([Question("q", "Q", "t")])
        draft.add_conditions(Condition(name, (Gain("o", 1.0), edit)) for name, edit in CELLS.items())
        draft.add_responses(Response(name, "o", name, "q", "Q", "t", 0, "so") for name in CELLS)
        draft.add_directions(V)
        draft.publish()
    return open_study("s", root)


def sent(study, cell):
    found = edit_of(study, cell)
    assert found is not None
    return found[1:]


def test_a_cell_is_sent_with_its_tokens(study):
    assert sent(study, "paper") == (2, 2.0, OWN, "every token (paper)")
    assert sent(study, "plain") == (2, 2.0, OWN, "every token but the sink")
    assert sent(study, "answers") == (2, None, ALL, "answer tokens")


@pytest.mark.parametrize("cell", ["some", "gated", "to a mean"])
def test_what_live_would_do_otherwise_is_not_sent(study, cell):
    assert edit_of(study, cell) is None
