"""Where, when and how far edits act, against plain hooks that know every token: holds, bounds, gates, surgeries."""

from typing import cast

import numpy as np
import pytest
import torch

from backend.edits import (
    ANSWER,
    EVERY,
    PLAIN,
    PROMPT,
    Ablate,
    Add,
    Clamp,
    ClampScalars,
    Course,
    Gain,
    Level,
    NoiseScalars,
    PatchScalars,
    Span,
    When,
    Where,
)
from backend.records import Direction, InputError, Sampling
from backend.subject.compiled import compile_row
from backend.subject.decode import Request, sample
from backend.subject.divergence import divergence
from backend.subject.edits import Seam, special_ids
from backend.subject.head import logits as logits_of
from backend.subject.trace import Text, trace
from tests.studies import tiny

GREEDY = Sampling(temperature=0, max_new_tokens=12)
PROMPTS = [(5, 9, 1, 77), (8, 8, 100, 31, 64, 200, 17, 3, 90), (130, 21), (1, *range(10, 39))]
IDS = torch.tensor([[1, 9, 40, 77, 130, 21, 9, 2], [8, 8, 100, 31, 64, 200, 9, 7]])
N_PROMPT = [3, 5]


def direction(layer=2, seed=0, name="v"):
    return Direction(name, layer, np.random.default_rng(seed).normal(size=tiny.D_MODEL).astype(np.float32))


V, W = direction(), direction(layer=3, seed=1, name="w")
UNIT, OTHER = torch.tensor(V.unit), torch.tensor(W.unit)


@pytest.fixture
def folder(tmp_path):
    return tiny.adapter(tmp_path / "organism")


def whole(n_prompt=N_PROMPT, ids=IDS):
    """The span of one pass over whole texts."""
    rows, width = ids.shape
    return Span(ids.numpy(), np.tile(np.arange(width), (rows, 1)), np.array(n_prompt))


def streams(subject, rows, span=None):
    """The edited residual stream (row, token, d_model) by layer, and logits."""
    seam, read = Seam(subject), {}
    seam.write([compile_row(subject, row) for row in rows])
    readers = {i: (lambda h, i=i: read.__setitem__(i, h.clone())) for i in range(tiny.N_LAYERS)}
    with torch.inference_mode(), seam.hooked(readers, span or whole()):
        return read, subject.model(IDS[: len(rows)]).logits


def by_hand(subject, changes):
    """The same with plain hooks: `changes` maps a layer to a function of the stream (row, token, d_model)."""
    read = {}

    def hook(layer):
        def edit(module, args, output):
            hidden = changes[layer](output.clone()) if layer in changes else output
            read[layer] = hidden.clone()
            return hidden

        return edit

    handles = [block.register_forward_hook(hook(i)) for i, block in enumerate(subject.blocks)]
    with torch.inference_mode():
        found = subject.model(IDS).logits
    for handle in handles:
        handle.remove()
    return read, found


def held(hidden, unit, value):
    return hidden + (value - hidden @ unit)[..., None] * unit


# --- which tokens ----------------------------------------------------------------------------------------------------

ROW = [[1, 9, 40, 77, 130, 21, 9, 2]]  # tokens 1 and 2 are special; three are of the prompt
WHERES = [
    (EVERY, [1, 1, 1, 1, 1, 1, 1, 1]),
    (PLAIN, [0, 1, 1, 1, 1, 1, 1, 1]),
    (Where(PROMPT), [0, 1, 1, 0, 0, 0, 0, 0]),
    (Where(PROMPT, sink=True), [1, 1, 1, 0, 0, 0, 0, 0]),
    (Where(ANSWER), [0, 0, 0, 1, 1, 1, 1, 1]),
    (Where(ANSWER, first=2), [0, 0, 0, 1, 1, 0, 0, 0]),
    (Where(ANSWER, after=2), [0, 0, 0, 0, 0, 1, 1, 1]),
    (Where(ANSWER, first=4, after=1), [0, 0, 0, 0, 1, 1, 1, 0]),
    (Where(first=2, sink=True), [1, 1, 0, 0, 0, 0, 0, 0]),
    (Where(tokens=(9, 21)), [0, 1, 0, 0, 0, 1, 1, 0]),
    (Where(special=False, sink=True), [0, 1, 1, 1, 1, 1, 1, 0]),
]


@pytest.mark.parametrize(("where", "expected"), WHERES, ids=lambda x: x.words if isinstance(x, Where) else "")
def test_an_edit_acts_at_exactly_the_tokens_that_it_names(where, expected):
    special = special_ids(tiny.tokenizer())
    assert special == {0, 1, 2}
    span = Span(np.array(ROW), np.arange(8)[None], np.array([3]))
    assert where.holds(span, special)[0].astype(int).tolist() == expected
    padded = Span(np.array([[0, 0, *ROW[0]]]), np.arange(-2, 8)[None], np.array([3]))
    assert where.holds(padded, special)[0].astype(int).tolist() == [0, 0, *expected]
    assert Where.from_json(where.to_json()) == where


@pytest.mark.parametrize(
    "value",
    [
        {"part": "middle"},
        {"part": None},
        {"first": 0},
        {"first": 2, "after": 2},
        {"first": True},
        {"first": 1.5},
        {"after": -1},
        {"tokens": [-1]},
        {"tokens": "9"},
        {"tokens": list(range(300))},
        {"sink": 1},
        {"where": 1},
        [],
    ],
)
def test_tokens_that_cannot_be_meant_are_refused(value):
    with pytest.raises(InputError):
        Where.from_json(value)


# --- holds, bounds and gates against plain hooks ---------------------------------------------------------------------

ANSWERS = torch.tensor([[t >= n for t in range(8)] for n in N_PROMPT])[..., None]
LATER = torch.tensor([[t > 0 for t in range(8)]] * 2)[..., None]


def over(hidden, threshold):
    return (hidden @ UNIT > threshold)[..., None]


CASES = {
    "to a mean": ([Ablate(V, (2,), to=Level((1.5,)))], {2: lambda h: held(h, UNIT, 1.5)}),
    "to a value a layer": (
        [Ablate(V, (2, 4), PLAIN, to=Level((1.5, -2.0)))],
        {2: lambda h: torch.where(LATER, held(h, UNIT, 1.5), h), 4: lambda h: torch.where(LATER, held(h, UNIT, -2), h)},
    ),
    "held": ([Clamp(V, Level((0.7,)), Level((0.7,)), (2,))], {2: lambda h: held(h, UNIT, 0.7)}),
    "a cap": ([Clamp(V, None, Level((0.2,)), (2,))], {2: lambda h: held(h, UNIT, (h @ UNIT).clamp(max=0.2))}),
    "a floor at answer tokens": (
        [Clamp(V, Level((0.2,)), None, (2,), Where(ANSWER))],
        {2: lambda h: torch.where(ANSWERS, held(h, UNIT, (h @ UNIT).clamp(min=0.2)), h)},
    ),
    "an interval": (
        [Clamp(V, Level((-0.1,)), Level((0.3,)), (2,))],
        {2: lambda h: held(h, UNIT, (h @ UNIT).clamp(-0.1, 0.3))},
    ),
    "added at answer tokens": (
        [Add(V, 0.8, (3,), Where(ANSWER))],
        {3: lambda h: h + ANSWERS * 0.8 * torch.tensor(V.vector)},
    ),
    "bounded, then added": (
        [Add(W, 0.5, (2,)), Clamp(V, None, Level((0.0,)), (2,))],
        {2: lambda h: held(h, UNIT, (h @ UNIT).clamp(max=0)) + 0.5 * torch.tensor(W.vector)},
    ),
    "two parts of a text": (
        [Ablate(V, (2,), Where(PROMPT, sink=True)), Ablate(V, (2,), Where(ANSWER), to=Level((2.0,)))],
        {2: lambda h: torch.where(ANSWERS, held(h, UNIT, 2.0), held(h, UNIT, 0.0))},
    ),
}


@pytest.mark.parametrize("kind", sorted(tiny.CONFIGS))
@pytest.mark.parametrize("case", CASES)
def test_an_edit_is_what_a_plain_hook_makes_of_it(kind, case):
    subject = tiny.subject(kind)
    edits, changes = CASES[case]
    expected, logits = by_hand(subject, changes)
    got, found = streams(subject, [edits, edits])
    for layer in range(tiny.N_LAYERS):
        torch.testing.assert_close(got[layer], expected[layer], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found, logits, atol=1e-4, rtol=1e-4)


def test_a_gate_opens_token_by_token_and_later_layers_follow_it():
    subject = tiny.subject()
    plain, _ = by_hand(subject, {})
    threshold = float((plain[2] @ UNIT).median())
    opened = {}

    def gate(hidden):
        opened["at"] = over(hidden, threshold)
        return torch.where(opened["at"], hidden + 0.9 * torch.tensor(V.vector), hidden)

    changes = {2: gate, 4: lambda h: torch.where(opened["at"], held(h, OTHER, 0.0), h)}
    expected, logits = by_hand(subject, changes)
    when = When(V, threshold)
    edits = [Add(V, 0.9, (2,), EVERY, when), Ablate(W, (4,), EVERY, when)]
    got, found = streams(subject, [edits, edits])
    assert 0 < opened["at"].float().mean() < 1
    torch.testing.assert_close(got[4], expected[4], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found, logits, atol=1e-4, rtol=1e-4)
    under = [Add(V, 0.9, (2,), EVERY, When(V, threshold, under=True))]
    both, _ = streams(subject, [under, [Add(V, 0.9, (2,), EVERY, When.probe(V, -threshold * V.norm))]])
    moved = (both[2] - plain[2]).norm(dim=-1) > 1e-3
    at = over(plain[2], threshold)[..., 0]
    assert moved[0].tolist() == (~at[0]).tolist()
    assert moved[1].tolist() == at[1].tolist()


def test_a_gate_without_layers_opens_every_block_from_its_own_on_and_one_behind_is_refused():
    subject = tiny.subject()
    always = When(W, -1e9)
    got, _ = streams(subject, [[Ablate(V, None, EVERY, always)], []])
    assert [float((got[i][0] @ UNIT).abs().max()) > 1e-4 for i in range(6)] == [True] * 3 + [False] * 3
    with pytest.raises(InputError, match="cannot open an edit at layer 2"):
        compile_row(subject, [Add(V, 1.0, (2,), EVERY, always)])
    with pytest.raises(InputError, match="layer 9 does not exist"):
        compile_row(subject, [Add(V, 1.0, (2,), EVERY, When(direction(9), 0.0))])


def test_directions_held_together_are_each_left_at_their_own_value():
    subject = tiny.subject()
    assert abs(UNIT @ OTHER) > 0.05, "not orthogonal"
    plain, _ = by_hand(subject, {})
    edits = [Ablate(V, (2,), to=Level((1.0,))), Clamp(W, Level((-3.0,)), Level((-3.0,)), (2,)), Ablate(V, (4,))]
    got, _ = streams(subject, [edits, []])
    torch.testing.assert_close(got[2][0] @ UNIT, torch.full((8,), 1.0), atol=1e-4, rtol=0)
    torch.testing.assert_close(got[2][0] @ OTHER, torch.full((8,), -3.0), atol=1e-4, rtol=0)
    span = torch.stack([UNIT, OTHER])
    gone = plain[2][0] - got[2][0]
    assert (gone - gone @ torch.linalg.pinv(span) @ span).abs().max() < 1e-4, "and nothing else changes"


def test_rows_have_their_own_edits_places_and_gates_and_a_bare_row_is_the_base_exactly():
    subject = tiny.subject()
    base = tiny.model()(IDS).logits
    rows = [[Clamp(V, None, Level((0.0,)), None, Where(ANSWER)), Add(W, 1.0, (3,), PLAIN, When(V, 0.0))], []]
    _, found = streams(subject, rows)
    _, alone = streams(subject, [rows[0], rows[0]])
    torch.testing.assert_close(found[0], alone[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[1], base[1], atol=1e-5, rtol=1e-5)
    assert (found[0, N_PROMPT[0] :] - base[0, N_PROMPT[0] :]).abs().max() > 1e-2
    _, nothing = streams(subject, [[Add(V, 3.0, (2,), Where(tokens=(258,)))], []])
    torch.testing.assert_close(nothing[0], base[0], atol=1e-5, rtol=1e-5)


def test_edits_by_position_need_a_span():
    subject = tiny.subject()
    seam = Seam(subject)
    seam.write([compile_row(subject, [Add(V, 1.0, where=PLAIN)])])
    with pytest.raises(TypeError, match="give a span"), torch.inference_mode(), seam.hooked():
        subject.model(IDS[:1])


# --- decoding, tracing and divergence edit the same tokens -----------------------------------------------------------

SWEPT = {
    "the sink left out": (Add(V, 0.8, (2,), PLAIN),),
    "answer tokens": (Clamp(V, None, Level((0.0,)), (2, 3), Where(ANSWER)),),
    "the prompt": (Ablate(V, None, Where(PROMPT), to=Level((1.0,))),),
    "first answer tokens": (Add(V, 1.5, (2,), Where(ANSWER, first=3)),),
    "past some": (Add(V, 1.5, (2,), Where(after=6)),),
    "token ids": (Add(V, 1.5, (2,), Where(tokens=tuple(range(3, 120)))),),
    "no special ones": (Add(V, 1.5, (2,), Where(special=False)),),
    "a gate": (Add(W, 1.2, (3,), PLAIN, When(V, 0.0)), Ablate(V, (4,), Where(ANSWER), When(W, 0.5, under=True))),
    "noise": (Gain("o", 1.0), NoiseScalars("o", 3.0, 7, where=PLAIN)),
    "given": (Gain("o", 1.0), PatchScalars("o", Course(np.full((3, 4), 30.0)), where=Where(ANSWER))),
    "set": (Gain("o", 1.0), ClampScalars("o", Level((9.0,)), Level((9.0,)), where=Where(ANSWER), when=When(V, 0.0))),
}
SWEPT["set"] = (Gain("o", 1.0), ClampScalars("o", Level((9.0,)), Level((9.0,)), ("layers.4.mlp.down_proj",), PLAIN))


def uncached(subject, prompt, edits, n):
    """The whole text through the model again for every token."""
    ids, seam = list(prompt), Seam(subject)
    seam.write([compile_row(subject, edits)])
    for _ in range(n):
        span = Span(np.array([ids]), np.arange(len(ids))[None], np.array([len(prompt)]))
        with torch.inference_mode(), seam.hooked(span=span):
            ids.append(int(subject.model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        if ids[-1] == 2:
            break
    return tuple(ids[len(prompt) :])


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_a_padded_batch_of_every_edit_equals_uncached_decoding_one_by_one(kind, folder):
    subject = tiny.subject(kind, {"o": folder})
    requests = [Request((i, name), PROMPTS[i], edits, GREEDY) for name, edits in SWEPT.items() for i in range(4)]
    got = {each.key: each.answer_ids for each in sample(subject, requests)}
    plain = [uncached(subject, prompt, (), 12) for prompt in PROMPTS]
    differ = set()
    for request in requests:
        i, name = cast(tuple[int, str], request.key)
        assert got[request.key] == uncached(subject, request.prompt_ids, request.edits, 12), request.key
        differ |= {name} if got[request.key] != plain[i] else set()
    assert differ == set(SWEPT), "each edit must matter for this test to say anything"


def test_a_beginning_that_is_read_once_is_edited_as_when_it_is_read_alone(folder):
    subject = tiny.subject(organisms={"o": folder})
    system = tuple(np.random.default_rng(0).integers(3, 250, size=40).tolist())
    tails = [(5, 9), (8, 8, 100, 31, 64, 200, 17, 3, 90), (130, 21, 7)]
    requests = [
        Request((j, name), system + tail, edits, GREEDY, receipts=True)
        for name, edits in SWEPT.items()
        for j, tail in enumerate(tails)
    ]
    together = {each.key: each for each in sample(subject, requests)}
    for request in requests:
        [alone] = sample(subject, [request])
        assert together[request.key].answer_ids == alone.answer_ids
        for one, other in zip(together[request.key].receipts, alone.receipts, strict=True):
            assert (one.layers, one.prompt, one.answer, one.places) == (
                other.layers,
                other.prompt,
                other.answer,
                other.places,
            ), request.key
            assert one.changed == pytest.approx(other.changed, rel=1e-3)
            assert one.stream == pytest.approx(other.stream, rel=1e-3)


@pytest.mark.parametrize("name", SWEPT)
def test_a_text_that_is_read_again_under_its_edits_gives_the_logits_that_it_was_drawn_with(name, folder):
    subject = tiny.subject(organisms={"o": folder})
    edits = SWEPT[name]
    requests = [Request(i, PROMPTS[i], edits, GREEDY) for i in range(4)]
    texts = [Text(str(each.key), PROMPTS[cast(int, each.key)], each.answer_ids) for each in sample(subject, requests)]
    texts += [Text(f"again {text.response_id}", text.prompt_ids, text.answer_ids) for text in texts[:2]]
    worn, rest = ("o", edits[1:]) if isinstance(edits[0], Gain) else ("base", edits)
    last = tiny.N_LAYERS - 1
    for traced in trace(subject, texts, worn, edits=rest, keep=(last,)):
        text = next(text for text in texts if text.response_id == traced.response_id)
        n_prompt, n = len(text.prompt_ids), len(text.answer_ids)
        stream = torch.from_numpy(traced.residuals[last][n_prompt - 1 : n_prompt + n - 1])
        with torch.inference_mode():
            drawn = logits_of(subject, subject.backbone.norm(stream)).argmax(dim=-1)
        assert tuple(drawn.tolist()) == text.answer_ids, name
    again = divergence(subject, texts, edits, against=edits)
    assert max(float(np.abs(each.kl).max()) for each in again) < 1e-5
    apart = {
        each.response_id: each.kl for each in divergence(subject, texts, edits, against=edits[: len(edits) - len(rest)])
    }
    seam = Seam(subject)
    text = texts[1]
    ids = [*text.prompt_ids, *text.answer_ids]
    found = []
    for row in (edits, edits[: len(edits) - len(rest)]):
        seam.write([compile_row(subject, row)])
        span = Span(np.array([ids]), np.arange(len(ids))[None], np.array([len(text.prompt_ids)]))
        with torch.inference_mode(), seam.hooked(span=span):
            logits = subject.model(torch.tensor([ids])).logits[0, len(text.prompt_ids) - 1 : -1]
        found.append(torch.log_softmax(logits, -1))
    expected = (found[0].exp() * (found[0] - found[1])).sum(-1).numpy()
    np.testing.assert_allclose(apart[text.response_id], expected, atol=1e-4)


# --- surgeries of scalars --------------------------------------------------------------------------------------------


def written(subject, edits, site="layers.2.mlp.down_proj"):
    """What the module's output gained, per token, along its unit write vector."""
    lora = next(lora for lora in subject.organisms["o"].loras if site in lora.names)
    module, outputs = subject.model.get_submodule(lora.path), []
    seam = Seam(subject, capture=("o",))
    for row in ([], edits):
        seam.write([compile_row(subject, row)])
        with torch.inference_mode(), seam.hooked(span=whole(N_PROMPT[:1], IDS[:1])) as scalars:
            inside = module.register_forward_hook(lambda m, i, o: outputs.append((i[0], o)))
            subject.model(IDS[:1])
            inside.remove()
    inputs, output = outputs[1]
    unit = (lora.write / lora.write.norm())[:, 0]
    gained = output - torch.nn.functional.linear(inputs, module.weight)
    raw = scalars.of("o")[0, :, subject.organisms["o"].names.index(site)]
    return (gained @ unit)[0].numpy(), raw.numpy()


def test_scalars_are_set_bounded_patched_disturbed_and_flipped_at_their_tokens(folder):
    subject = tiny.subject(organisms={"o": folder})
    worn, answers, one = Gain("o", 1.0), Where(ANSWER), ("layers.2.mlp.down_proj",)
    plain, raw = written(subject, [worn])
    np.testing.assert_allclose(plain, raw, atol=1e-4)

    def at_answers(value):
        return np.concatenate([raw[:3], np.broadcast_to(value, 8)[3:]])

    def check(edits, expected):
        np.testing.assert_allclose(written(subject, edits)[0], expected, atol=1e-4)

    check([worn, ClampScalars("o", Level((4.0,)), Level((4.0,)), one, answers)], at_answers(4.0))
    check([worn, ClampScalars("o", Level((0.0,)), None, one, EVERY)], raw.clip(min=0))
    check([worn, ClampScalars("o", Level((4.0,)), Level((4.0,)), one), Gain("o", -1.0)], np.full(8, -4.0))
    check([worn, Gain("o", -1.0, one)], -raw)
    given = Course(np.array([[1.0, np.nan, 3.0]]))
    check([worn, PatchScalars("o", given, "x", one, answers)], [*raw[:3], 1.0, raw[4], 3.0, *raw[6:]])
    noise = NoiseScalars("o", 0.5, 3, one)
    drawn = [noise.drawn(token, 3)[subject.organisms["o"].names.index(one[0])] for token in range(8)]
    check([worn, noise], raw + drawn)
    assert np.std(drawn) > 0.1
    check([ClampScalars("o", Level((4.0,)), Level((4.0,)))], np.zeros(8))
    with pytest.raises(InputError, match="scalars of 2 adapters are given for 1"):
        compile_row(subject, [worn, PatchScalars("o", Course(np.ones((2, 3))), "x", one)])
    with pytest.raises(InputError, match="cannot open an edit of layers"):
        compile_row(subject, [worn, NoiseScalars("o", 1.0, when=When(V, 0.0))])


def test_a_prompt_patched_with_anothers_scalars_writes_what_that_one_wrote(folder):
    subject = tiny.subject(organisms={"o": folder})
    names = subject.organisms["o"].names
    [other] = trace(subject, [Text("other", (9, 9, 60, 200, 31), (33, 44, 55))], "o")
    patch = PatchScalars.of(other, names, where=Where(PROMPT, sink=True), adapters=names[1:2])
    gained, raw = written(subject, [Gain("o", 1.0), patch])
    np.testing.assert_allclose(gained[:3], other.scalars[1, :3], atol=1e-4)
    np.testing.assert_allclose(gained[3:], raw[3:], atol=1e-4)
    answer = PatchScalars.of(other, names, where=Where(ANSWER))
    assert answer.given.values.shape == (3, 3)
    gained, raw = written(subject, [Gain("o", 1.0), answer])
    np.testing.assert_allclose(gained, [*raw[:3], *other.scalars[1, 5:8], *raw[6:]], atol=1e-4)


# --- receipts --------------------------------------------------------------------------------------------------------


def test_receipts_say_where_an_edit_acted_and_how_far(folder):
    subject = tiny.subject(organisms={"o": folder})
    edits = (
        Gain("o", 1.0),
        Add(V, 0.5, (2, 4), Where(ANSWER)),
        Ablate(W, (3,), PLAIN),
        Add(V, 1.0, (2,), Where(tokens=(258,))),
        Gain("o", 0.0, ("layers.4.mlp.down_proj",)),
    )
    [answered] = sample(subject, [Request("a", PROMPTS[1], edits, GREEDY, receipts=True)])
    added, ablated, nothing, scaled = answered.receipts
    read = len(answered.answer_ids) - 1  # the last token is drawn, and read by nobody
    assert (added.kind, added.layers, added.prompt, added.answer, added.places) == ("steer", (2, 4), 0, read, 2 * read)
    assert added.change == pytest.approx(0.5 * V.norm, rel=1e-5)
    assert (ablated.prompt, ablated.answer, ablated.layers) == (8, read, (3,)), "all but the sink"
    assert (nothing.tokens, nothing.layers, nothing.change) == (0, (), 0)
    assert nothing.words == "steer v: did nothing, no token was changed"
    assert (scaled.layers, scaled.prompt, scaled.answer) == ((4,), 9, read)
    ids = torch.tensor([[*PROMPTS[1], *answered.answer_ids[:-1]]])
    seam, read_at = Seam(subject), {}
    seam.write([compile_row(subject, edits[:2])])
    span = whole([9], ids)
    keep = {i: (lambda h, i=i: read_at.__setitem__(i, h[0])) for i in (2, 3, 4)}
    with torch.inference_mode(), seam.hooked(keep, span):
        subject.model(ids)
    along, norms = (read_at[3] @ OTHER)[1:].abs(), read_at[3].norm(dim=-1)[1:]
    assert ablated.changed == pytest.approx(float(along.sum()), rel=1e-3)
    assert ablated.share == pytest.approx(float(along.sum() / norms.sum()), rel=1e-3)
    assert "8 prompt tokens" in ablated.words
    assert "of the stream's norm" in ablated.words
    assert (added + added).answer == 2 * read
    [silent] = sample(subject, [Request("a", PROMPTS[1], edits, GREEDY)])
    assert silent.receipts == ()
    assert silent.answer_ids == answered.answer_ids


def test_a_cap_counts_the_tokens_that_it_binds(folder):
    subject = tiny.subject()
    high = 1.0
    [answered] = sample(
        subject, [Request("a", PROMPTS[1], (Clamp(V, None, Level((high,)), (2,)),), GREEDY, receipts=True)]
    )
    ids = torch.tensor([[*PROMPTS[1], *answered.answer_ids[:-1]]])
    read = []
    handle = subject.blocks[2].register_forward_hook(lambda m, i, o: read.append(o[0] @ UNIT))
    seam = Seam(subject)
    seam.write([compile_row(subject, [])])
    with torch.inference_mode():
        subject.model(ids)
    handle.remove()
    [receipt] = answered.receipts
    binding = read[0] > high  # at layer 2 nothing is changed by what is edited there
    assert (receipt.prompt, receipt.answer) == (int(binding[:9].sum()), int(binding[9:].sum()))
    assert 0 < receipt.prompt < 9
