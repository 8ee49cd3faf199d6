"""Decoding: one path for stream and sample, equal to uncached greedy decoding, independent of the neighbours."""

from collections.abc import Hashable

import numpy as np
import pytest
import torch

from backend.edits import ANSWER, Ablate, Add, Gain, Where
from backend.records import Direction, InputError, Sampling
from backend.subject.chat import prompt_ids
from backend.subject.decode import Decoder, Request, sample, stream
from backend.subject.drawn import LEAST, likelihood, nucleus
from backend.subject.edits import Seam, compile_row
from backend.subject.trace import Text, trace
from tests.studies import tiny

GREEDY = Sampling(temperature=0, max_new_tokens=12)
WARM = Sampling(temperature=1, max_new_tokens=12)
PROMPTS = [(5, 9, 40, 77), (8, 8, 100, 31, 64, 200, 17, 3, 90), (130, 21), tuple(range(10, 40))]


@pytest.fixture
def folder(tmp_path):
    return tiny.adapter(tmp_path / "organism")


def greedy_uncached(subject, prompt, edits, n):
    """The reference: the whole text through the model again for every token."""
    ids = list(prompt)
    seam = Seam(subject)
    seam.write([compile_row(subject, edits)])
    for _ in range(n):
        with torch.inference_mode(), seam.hooked():
            ids.append(int(subject.model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        if ids[-1] == 2:
            break
    return tuple(ids[len(prompt) :])


def many_edits():
    rng = np.random.default_rng(3)
    v = Direction("v", 2, rng.normal(size=tiny.D_MODEL).astype(np.float32))
    return [
        (),
        (Gain("o", 1.0),),
        (Gain("o", 1.0), Ablate(v)),
        (Add(v, 0.7), Gain("o", 3.0, ("layers.2.mlp.down_proj",))),
    ]


@pytest.mark.parametrize("kind", sorted(tiny.CONFIGS))
def test_a_batch_of_different_prompts_and_edits_equals_uncached_decoding_one_by_one(kind, folder):
    subject = tiny.subject(kind, {"o": folder})
    requests = [
        Request(i, prompt, edits, GREEDY) for i, (prompt, edits) in enumerate(zip(PROMPTS, many_edits(), strict=True))
    ]
    got = {s.key: s.answer_ids for s in sample(subject, requests)}
    for request in requests:
        assert got[request.key] == greedy_uncached(subject, request.prompt_ids, request.edits, 12), request.key


@pytest.mark.parametrize("kind", sorted(tiny.CONFIGS))
def test_a_beginning_that_prompts_share_is_read_once_for_each_edits(kind, folder):
    """Also past the sliding window of 16 tokens that two of the architectures have."""
    subject = tiny.subject(kind, {"o": folder})
    system = tuple(np.random.default_rng(0).integers(3, 250, size=24).tolist())
    tails = [(5, 9), (8, 8, 100, 31, 64, 200, 17, 3, 90), (130, 21, 7), tuple(range(10, 45))]
    edits = many_edits()
    requests = [Request((i, j), system + tails[j], edits[i], GREEDY) for i in range(4) for j in range(4)]
    read = []
    handle = subject.blocks[0].register_forward_pre_hook(lambda _, args: read.append(args[0].shape[:2].numel()))
    got = {s.key: s.answer_ids for s in sample(subject, requests)}
    handle.remove()
    assert read[0] == 4 * 24
    assert read[1] == 16 * 35
    for request in requests:
        assert got[request.key] == greedy_uncached(subject, request.prompt_ids, request.edits, 12), request.key


def test_edits_of_generated_tokens_alone_leave_the_prompt_as_it_was(folder):
    """Under a cache, against one uncached pass that edits by position; the first token is the unedited model's."""
    subject = tiny.subject(organisms={"o": folder})
    v = Direction("v", 2, np.random.default_rng(3).normal(size=tiny.D_MODEL).astype(np.float32))
    for edit in (Add(v, 0.6, where=Where(ANSWER)), Ablate(v, (1, 2), where=Where(ANSWER))):
        edits = (Gain("o", 1.0), edit)
        got = next(sample(subject, [Request("a", PROMPTS[1], edits, GREEDY)])).answer_ids
        ids, n_prompt = list(PROMPTS[1]), len(PROMPTS[1])
        seam = Seam(subject)
        seam.write([compile_row(subject, [Gain("o", 1.0)])])

        def by_position(_, __, output, edit=edit, n_prompt=n_prompt):
            output = output.clone()
            tail, unit = output[:, n_prompt:], torch.tensor(v.unit)
            tail += torch.tensor(v.vector) * 0.6 if isinstance(edit, Add) else -(tail @ unit)[..., None] * unit
            return output

        layers = edit.layers
        handles = [subject.blocks[layer].register_forward_hook(by_position) for layer in layers]
        for _ in range(12):
            with torch.inference_mode(), seam.hooked():
                ids.append(int(subject.model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        for handle in handles:
            handle.remove()
        assert got == tuple(ids[n_prompt:])[: len(got)]
        plain = next(sample(subject, [Request("a", PROMPTS[1], edits[:1], GREEDY)])).answer_ids
        assert got[0] == plain[0]
        everywhere = (edits[0], Add(v, 0.6) if isinstance(edit, Add) else Ablate(v, (1, 2)))
        assert got != next(sample(subject, [Request("a", PROMPTS[1], everywhere, GREEDY)])).answer_ids


def test_stream_and_sample_agree_and_rows_enter_and_leave_at_any_step(folder):
    subject = tiny.subject(organisms={"o": folder})
    requests = [
        Request(i, PROMPTS[i % 4], edits, Sampling(temperature=1, max_new_tokens=3 + i), seed=i)
        for i, edits in enumerate(many_edits() * 3)
    ]
    whole = {s.key: s.answer_ids for s in sample(subject, requests, batch=32)}
    narrow = {s.key: s.answer_ids for s in sample(subject, requests, batch=3)}
    streamed = {request.key: [] for request in requests}
    for emissions in stream(subject, requests):
        for emission in emissions:
            streamed[emission.key].append(emission.token_id)
    assert whole == narrow == {key: tuple(ids) for key, ids in streamed.items()}


def test_a_rows_text_depends_on_its_seed_and_not_on_its_neighbours():
    subject = tiny.subject()
    alone = next(sample(subject, [Request("a", PROMPTS[0], (), WARM, seed=7)]))
    crowd = [Request("a", PROMPTS[0], (), WARM, seed=7)] + [
        Request(i, PROMPTS[i % 4], (), WARM, seed=i) for i in range(9)
    ]
    together = {s.key: s.answer_ids for s in sample(subject, crowd)}
    assert together["a"] == alone.answer_ids
    assert len({together[i] for i in (0, 4, 8)}) == 3, "other seeds, other texts"


def test_streamed_scalars_are_the_traces(folder):
    subject = tiny.subject(organisms={"o": folder})
    request = Request("a", PROMPTS[1], (Gain("o", 1.0),), WARM, seed=1)
    steps = [step[0] for step in stream(subject, [request], capture=("o",))]
    answer = tuple(step.token_id for step in steps)
    [traced] = trace(subject, [Text("a", request.prompt_ids, answer)], "o")
    streamed = np.stack([step.scalars["o"] for step in steps], axis=1)
    n_prompt = len(request.prompt_ids)
    np.testing.assert_allclose(streamed, traced.scalars[:, n_prompt - 1 : -1], atol=2e-4)


def test_pieces_of_text_add_up_to_the_answer():
    subject = tiny.subject()
    for seed in range(5):
        request = Request("a", PROMPTS[0], (), Sampling(max_new_tokens=30), seed=seed)
        pieces = [step[0] for step in stream(subject, [request])]
        answer = [p.token_id for p in pieces if p.token_id != 2]
        assert "".join(p.text for p in pieces) == subject.tokenizer.decode(answer, skip_special_tokens=True)


def test_removed_rows_leave_and_the_others_go_on():
    subject = tiny.subject()
    decoder = Decoder(subject)
    requests = [Request(i, PROMPTS[i], (), Sampling(temperature=0, max_new_tokens=8)) for i in range(3)]
    decoder.admit(requests)
    got: dict[Hashable, list[int]] = {i: [] for i in range(3)}
    for step in range(8):
        if step == 3:
            decoder.remove(1)
        for emission in decoder.step():
            got[emission.key].append(emission.token_id)
    assert decoder.active == 0
    assert len(got[1]) == 3
    for i in (0, 2):
        assert tuple(got[i]) == greedy_uncached(subject, PROMPTS[i], (), 8)


def test_sampling_follows_the_models_distribution():
    subject = tiny.subject()
    with torch.inference_mode():
        p = torch.softmax(subject.model(torch.tensor([PROMPTS[0]])).logits[0, -1], -1).numpy()
    n = 2000
    drawn = [
        s.answer_ids[0]
        for s in sample(
            subject, [Request(i, PROMPTS[0], (), Sampling(max_new_tokens=1), seed=i) for i in range(n)], batch=500
        )
    ]
    counts = np.bincount(drawn, minlength=len(p))
    likely = np.argsort(p)[-8:]
    sd = np.sqrt(n * p * (1 - p))
    assert (np.abs(counts - n * p)[likely] < 4 * sd[likely]).all()


def test_top_p_keeps_to_the_nucleus():
    subject = tiny.subject()
    sampling = Sampling(top_p=1e-6, max_new_tokens=8)
    requests = [Request(i, PROMPTS[0], (), sampling, seed=i) for i in range(4)]
    assert {s.answer_ids for s in sample(subject, requests)} == {greedy_uncached(subject, PROMPTS[0], (), 8)}


@pytest.mark.parametrize("within", [4, 512])
def test_the_nucleus_is_the_smallest_set_that_reaches_the_mass(within):
    p = torch.softmax(torch.randn(6, 50, generator=torch.Generator().manual_seed(0)) * 2, -1)
    mass = torch.tensor([0.1, 0.5, 0.9, 0.99, 0.3, 1e-9])
    for row, kept, ids, m in zip(p, *nucleus(p, mass, within), mass.tolist(), strict=True):
        torch.testing.assert_close(kept[kept > 0], row[ids[kept > 0]])
        assert (ids[kept > 0].diff() > 0).all(), "by id"
        n = int((kept > 0).sum())
        assert kept.sum() >= m
        assert row.topk(n).values.sum() == pytest.approx(float(kept.sum()), abs=1e-6)
        assert n == 1 or row.topk(n - 1).values.sum() < m


def test_prompts_that_cannot_run_are_refused_before_anything_enters():
    subject = tiny.subject()
    decoder = Decoder(subject)
    fine = Request("fine", PROMPTS[0], (), GREEDY)
    with pytest.raises(InputError, match="250 tokens and 12 more"):
        decoder.admit([fine, Request("long", tuple([5] * 250), (), GREEDY)])
    assert decoder.active == 0
    with pytest.raises(InputError, match="prompt is empty"):
        prompt_ids(subject.tokenizer, "  ")


def test_rows_that_do_not_fit_begin_again_half_at_a_time_with_the_same_texts(caplog):
    subject = tiny.subject()
    requests = [Request(i, PROMPTS[i % 4], (), Sampling(max_new_tokens=3 + i), seed=i) for i in range(12)]
    whole = {s.key: s.answer_ids for s in sample(subject, requests, batch=12)}
    limit = 4

    def small(_, args):
        if len(args[0]) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")

    handle = subject.blocks[2].register_forward_pre_hook(small)
    halved = [(s.key, s.answer_ids) for s in sample(subject, requests, batch=8)]
    assert dict(halved) == whole
    assert len(halved) == 12, "none twice"
    assert "going on with 4" in caplog.text
    limit = 1
    with pytest.raises(torch.OutOfMemoryError):
        list(sample(subject, requests, batch=8))
    handle.remove()
    assert not any(module._forward_hooks for module in subject.model.modules())


def test_likelihoods_are_the_models_and_finite():
    logits = torch.tensor([2.0, 1.0, float("-inf"), -1e30])
    told = likelihood(logits, 2, 4)
    assert told.drawn == LEAST
    assert [token for token, _ in told.likeliest][:2] == [0, 1]
    right = torch.log_softmax(logits.double(), dim=0)
    assert [nats for _, nats in told.likeliest] == pytest.approx([*right[:2].tolist(), LEAST, LEAST])
