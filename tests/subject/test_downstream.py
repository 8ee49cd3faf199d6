"""A planted path is recovered: where a vector goes, which parts it excites, and what freezing each takes away."""

import numpy as np
import pytest
import torch

from backend.records import BASE, Direction, InputError
from backend.subject.chat import prompt_ids, stop_ids
from backend.subject.downstream import Follower, Push
from backend.subject.trace import Text
from tests.studies import piped, tiny

SMALL, LARGE = 0.01, 2.0


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    return piped.piped(tmp_path_factory.mktemp("piped") / "organism")


@pytest.fixture(scope="module")
def text(subject):
    ids = subject.tokenizer.convert_tokens_to_ids
    return Text("one", tuple(prompt_ids(subject.tokenizer, "hey")), (ids("A"), ids("A"), ids("b"), ids("A")))


def pushes():
    source, target = piped.axes()
    along = Direction("source", piped.LAYER, source, 10.0)
    other = np.random.default_rng(0).standard_normal(tiny.D_MODEL)
    other -= other @ source * source + other @ target * target
    return [Push(along, SMALL), Push(along, LARGE), Push(Direction("other", piped.LAYER, other, 10.0), SMALL)]


@pytest.fixture(scope="module")
def trails(subject, text):
    readers = {name: Follower(subject, name, piped.LAYER) for name in (BASE, "piped")}
    found = {name: each.follow(text, pushes(), freeze=(0, 1), shown=(0,)) for name, each in readers.items()}
    return {name: (readers[name].parts, trail) for name, trail in found.items()}


def of(parts, name):
    return [part.name for part in parts].index(name)


def test_a_vector_is_itself_at_its_layer_and_until_something_reads_it(trails):
    _, trail = trails[BASE]
    before = slice(0, piped.MLP - piped.LAYER)  # layers 1 to 3
    assert np.allclose(trail.gain[:, :, before], 1, atol=2e-3)
    assert np.allclose(trail.cosine[:, :, before], 1, atol=1e-4)
    assert np.allclose(trail.aside[:, :, before], 0, atol=2e-3)


def test_the_planted_mlp_turns_it_aside_and_no_other_vector(trails):
    _, trail = trails[BASE]
    behind = piped.MLP - piped.LAYER
    assert (trail.aside[0, :, behind:] > 0.1).all()
    assert np.allclose(trail.gain[0] ** 2, (trail.cosine[0] * trail.gain[0]) ** 2 + trail.aside[0] ** 2, rtol=0.1)
    assert (trail.aside[2, :, behind:] < 0.1 * trail.aside[0, :, behind:]).all()


def test_only_planted_parts_are_excited(trails):
    for reader, planted in ((BASE, {"MLP 4"}), ("piped", {"MLP 4", "MLP 3", piped.ADAPTER})):
        parts, trail = trails[reader]
        excited = {part.name for part, size in zip(parts, trail.excited[0, 1], strict=True) if abs(size) > 1e-3}
        assert excited == planted, reader


def test_the_gradient_and_freezing_agree_for_a_small_vector_and_are_right(trails, subject, text):
    parts, trail = trails[BASE]
    mlp = of(parts, "MLP 4")
    assert trail.attributed[0, mlp] == pytest.approx(trail.frozen[0, mlp], rel=0.05)
    assert abs(trail.change[0]) > 1e-4
    # the vector's own way to the logits aside, the MLP is the whole of it: without it the change is another one
    silent = [i for i, part in enumerate(parts) if part.name != "MLP 4"]
    assert np.abs(trail.frozen[0, silent]).max() < 1e-5
    assert np.abs(trail.attributed[0, silent]).max() < 1e-5


def test_freezing_is_what_hooks_of_ones_own_find(trails, subject, text):
    parts, trail = trails[BASE]
    source, _ = piped.axes()
    ids = torch.tensor([[*text.prompt_ids, *text.answer_ids]])
    start = len(text.prompt_ids)
    added = torch.zeros(ids.shape[1], tiny.D_MODEL)
    added[1:] = LARGE * torch.from_numpy(source)

    def spoken(push: bool, frozen: torch.Tensor | None = None):
        seen = []
        hooks = [subject.blocks[piped.LAYER].register_forward_hook(lambda m, i, o: o + added if push else o)]
        mlp = subject.blocks[piped.MLP].mlp
        hooks.append(mlp.register_forward_hook(lambda m, i, o: seen.append(o) or (o if frozen is None else frozen)))
        with torch.no_grad():
            logits = subject.model(input_ids=ids).logits[0, start - 1 : -1].log_softmax(-1)
        for hook in hooks:
            hook.remove()
        return logits.gather(1, ids[0, start:, None]).mean().item(), seen[0]

    plain, output = spoken(False)
    pushed, _ = spoken(True)
    without, _ = spoken(True, output)
    assert trail.change[1] == pytest.approx(pushed - plain, rel=1e-4, abs=1e-6)
    assert trail.frozen[1, of(parts, "MLP 4")] == pytest.approx(pushed - without, rel=1e-4, abs=1e-6)


def test_a_large_vector_is_where_the_two_disagree(trails):
    """The gradient knows the slope at no vector alone; the planted MLP's answer to a large one is not on it."""
    parts, trail = trails[BASE]
    mlp = of(parts, "MLP 4")
    small, large = (abs(trail.attributed[i, mlp] / trail.frozen[i, mlp] - 1) for i in (0, 1))
    assert small < 0.05 < large


def test_an_adapter_has_its_share_with_its_sign(trails):
    parts, trail = trails["piped"]
    adapter, mlp = of(parts, piped.ADAPTER), of(parts, "MLP 4")
    assert trail.attributed[0, adapter] == pytest.approx(trail.frozen[0, adapter], rel=0.05)
    assert np.sign(trail.attributed[0, adapter]) == -np.sign(trail.attributed[0, mlp])
    # MLP 3 does nothing but what its adapter does
    assert trail.frozen[0, of(parts, "MLP 3")] == pytest.approx(trail.frozen[0, adapter], rel=1e-3, abs=1e-7)


def test_the_logit_that_is_moved_most_is_the_planted_letters(trails, subject):
    pushed = np.abs(trails[BASE][1].pushed[0])
    assert subject.tokenizer.decode([int(pushed.argmax())]) == piped.LETTER


def test_a_closing_end_of_turn_token_is_in_no_number(subject, text, trails):
    _, trail = trails["piped"]
    end = min(stop_ids(subject.model, subject.tokenizer))
    closed = Text("closed", text.prompt_ids, (*text.answer_ids, end))
    again = Follower(subject, "piped", piped.LAYER).follow(closed, pushes(), freeze=(0, 1), shown=(0,))
    for name in ("change", "attributed", "frozen", "pushed", "stream"):
        values = getattr(trail, name)
        near = 1e-2 * np.nanmax(np.abs(values))
        assert np.allclose(getattr(again, name), values, rtol=0, atol=near, equal_nan=True), name


def test_what_cannot_be_followed_is_refused(subject, text):
    last = len(subject.blocks) - 1
    with pytest.raises(InputError, match=f"nothing is downstream of layer {last}"):
        Follower(subject, BASE, last)
    with pytest.raises(InputError, match="is of layer 3"):
        Follower(subject, BASE, 2).follow(text, [Push(Direction("far", 3, np.ones(tiny.D_MODEL), 1.0), 1.0)])
    with pytest.raises(InputError, match="has no answer"):
        Follower(subject, BASE, piped.LAYER).follow(Text("none", text.prompt_ids, ()), pushes())
