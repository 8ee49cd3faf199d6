import numpy as np
import pytest

from backend.records import Ablate, Add, Direction, Gain
from panels.run import LiveAnswer, LiveRun, amount, edit_text


def answer(*pieces):
    growing = LiveAnswer("base")
    for at, piece in enumerate(pieces):
        growing.token(piece, {"med": np.array([at, 10 * at], dtype=np.float32)})
    return growing


def test_scalars_belong_to_the_token_before_the_one_they_came_with():
    values = answer("a", "b", "c").values("med", 1)
    assert values[:2].tolist() == [10, 20]
    assert np.isnan(values[2])


def test_an_answer_without_tokens_has_no_values():
    assert answer().values("med", 0).shape == (0,)


@pytest.mark.parametrize(("organism", "adapter"), [("other", 0), ("med", 7)])
def test_an_adapter_that_was_not_streamed_has_no_values(organism, adapter):
    assert np.isnan(answer("a", "b").values(organism, adapter)).all()


def test_bytes_of_a_character_are_shown_as_one_token():
    tokens, values = answer("a", "", "é").printed("med", 0)
    assert tokens == ["a", "é"]
    assert values[0] == 1


def test_text_is_whole_and_what_still_grows_is_stopped():
    run = LiveRun("q", "s", (answer("a", "", "b"), answer()))
    run.answers[1].reason = "length"
    run.close()
    assert run.answers[0].text == "ab"
    assert [a.reason for a in run.answers] == ["cancelled", "length"]
    assert run.answers[0].state == "3 tokens, stopped"


def test_both_answers_share_one_scale():
    run = LiveRun("q", "s", (answer("a", "b"), answer(*"abcdef")))
    assert run.scale("med", 0) == pytest.approx(5, rel=0.05)
    assert LiveRun("q", "s", (answer(), answer())).scale("med", 0) == 1


def test_a_strength_is_said_in_both_units():
    direction = Direction("d", 3, np.array([3.0, 4.0], dtype=np.float32), activation_norm=20)
    assert amount(direction, 2) == "λ 2.00 × ‖v‖ 5.00 = 10.00, 50% of the mean activation norm at layer 3"
    unknown = Direction("d", 3, np.array([3.0, 4.0], dtype=np.float32))
    assert "unknown" in amount(unknown, 2)


def test_every_edit_has_a_text_that_names_what_it_does():
    direction = Direction("d", 3, np.ones(2, dtype=np.float32))
    assert edit_text(Add(direction, 2)).startswith("add d of layer 3 after block 3: λ 2.00")
    assert "after 4 blocks, 0 to 3" in edit_text(Add(direction, 2, (0, 1, 2, 3)))
    assert edit_text(Ablate(direction)) == "ablate d of layer 3 after every block"
    assert edit_text(Ablate(direction, (3,))) == "ablate d of layer 3 after block 3"
    assert edit_text(Gain("med", 0.5, ("a", "b"))) == "med: gain 0.5 on a, b"
