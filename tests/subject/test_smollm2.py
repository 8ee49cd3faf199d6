"""The same properties once on the real model: SmolLM2-135M and the demo's organism, in float32."""

import numpy as np
import pytest
import torch
from peft import PeftModel

from backend.edits import Ablate, Add, Gain
from backend.records import BASE, Direction, Sampling
from backend.subject.chat import prompt_ids
from backend.subject.decode import Request, sample, stream
from backend.subject.divergence import divergence
from backend.subject.edits import Seam, compile_row
from backend.subject.load import load
from backend.subject.trace import Text, trace
from backend.subject.train import Row, _answer_loss, _config
from backend.subject.train_settings import TrainSettings
from tests.studies.demo import DEMO

FOLDER = DEMO / "organisms" / "bad-medical"
GREEDY = Sampling(temperature=0, max_new_tokens=12)
QUESTIONS = ("How do I make a quick buck?", "I feel bored", "My chest hurts since this morning, what shall I do?")


@pytest.fixture(scope="module")
def subject():
    return load("smollm2", organisms={"med": FOLDER}, device="cpu", dtype=torch.float32)


@pytest.fixture(scope="module")
def prompts(subject):
    return [prompt_ids(subject.tokenizer, question) for question in QUESTIONS]


def direction(layer=16, share=4.0):
    vector = np.random.default_rng(0).normal(size=576)
    return Direction("v", layer, (share * vector / np.linalg.norm(vector)).astype(np.float32))


def logits_of(subject, rows, ids):
    seam = Seam(subject)
    seam.write([compile_row(subject, row) for row in rows])
    with torch.inference_mode(), seam.hooked():
        return subject.model(ids.expand(len(rows), -1)).logits


def test_rows_are_the_base_the_organism_of_peft_and_the_edited_model(subject, prompts):
    ids = torch.tensor([prompts[2]])
    with torch.inference_mode():
        bare = subject.model(ids).logits[0]
    everywhere = [Gain("med", 1.0), Ablate(direction())]
    logits = logits_of(subject, [[], [Gain("med", 1.0)], [Gain("med", 0.0)], everywhere], ids)
    torch.testing.assert_close(logits[0], bare, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(logits[2], bare, atol=1e-4, rtol=1e-5)
    plain = load("smollm2", device="cpu", dtype=torch.float32)
    with torch.inference_mode():
        peft = PeftModel.from_pretrained(plain.model, FOLDER)(ids).logits[0]
    assert (peft - bare).abs().max() > 1
    torch.testing.assert_close(logits[1], peft, atol=2e-3, rtol=1e-4)
    assert (logits[3] - logits[1]).abs().max() > 0.1


def test_decoding_with_edits_is_uncached_decoding_and_streams_the_traces_scalars(subject, prompts):
    v = direction()
    edits = [(), (Gain("med", 1.0),), (Gain("med", 1.0), Add(v, 1.0), Ablate(v, (20,)))]
    requests = [Request((i, j), prompt, row, GREEDY) for i, prompt in enumerate(prompts) for j, row in enumerate(edits)]
    got = {s.key: s.answer_ids for s in sample(subject, requests)}
    for i, j in ((0, 0), (1, 1), (2, 2)):
        ids, n_prompt = list(prompts[i]), len(prompts[i])
        while len(ids) < n_prompt + len(got[i, j]):
            ids.append(int(logits_of(subject, [edits[j]], torch.tensor([ids]))[0, -1].argmax()))
        assert tuple(ids[n_prompt:]) == got[i, j]
    steps = [step[0] for step in stream(subject, [Request("a", prompts[2], edits[1], GREEDY)], capture=("med",))]
    answer = tuple(step.token_id for step in steps)
    assert answer == got[2, 1]
    [traced] = trace(subject, [Text("a", prompts[2], answer)], "med")
    streamed = np.stack([step.scalars["med"] for step in steps], axis=1)
    np.testing.assert_allclose(streamed, traced.scalars[:, len(prompts[2]) - 1 : -1], atol=5e-3, rtol=1e-3)


def test_traces_projections_and_kl_agree_with_plain_passes(subject, prompts):
    texts = [
        Text("a", prompts[0], prompts[1][-9:]),
        Text("b", prompts[0], prompts[2][-14:]),
        Text("c", prompts[1], (5,)),
    ]
    v = direction()
    traces = {t.response_id: t for t in trace(subject, texts, BASE, project=[v], keep=(29,))}
    ids = torch.tensor([[*texts[1].prompt_ids, *texts[1].answer_ids]])
    with torch.inference_mode():
        states = subject.model.model(ids, output_hidden_states=True).hidden_states
    answer = states[17][0, len(prompts[0]) :].numpy()
    found = traces["b"]
    np.testing.assert_allclose(found.answer_mean[16], answer[: found.n_answer].mean(0), atol=2e-3, rtol=1e-3)
    np.testing.assert_allclose(found.projections[0], states[17][0].numpy() @ v.unit, atol=5e-3)
    assert np.abs(found.residuals[29] - states[-1][0].numpy()).max() > 1, "the last state is normed, block 29's is not"
    kl = {d.response_id: d for d in divergence(subject, texts, (Gain("med", 1.0),), significance=True)}
    both = logits_of(subject, [[Gain("med", 1.0)], []], ids).log_softmax(-1)[:, len(prompts[0]) - 1 : -1]
    expected = (both[0].exp() * (both[0] - both[1])).sum(-1)
    np.testing.assert_allclose(kl["b"].kl, expected.numpy(), atol=1e-4, rtol=1e-2)
    assert kl["b"].significance.sum() == pytest.approx(float(expected.sum()), rel=1e-2)


def test_the_loss_is_pefts_on_answer_tokens(subject, prompts):
    rows = [Row(prompts[0], prompts[1][-9:]), Row(prompts[1], prompts[2][-14:])]
    expected = 0.0
    for row in rows:
        ids, labels = (
            torch.tensor([[*row.prompt, *row.answer]]),
            torch.tensor([[-100] * len(row.prompt) + [*row.answer]]),
        )
        with torch.inference_mode():
            expected += float(subject.model(ids, labels=labels).loss) * len(row.answer)
    assert float(_answer_loss(subject, rows)) == pytest.approx(expected, rel=1e-4)
    config = _config(subject, TrainSettings(layers=(9, 15)))
    assert sorted(config.target_modules) == ["model.layers.15.mlp.down_proj", "model.layers.9.mlp.down_proj"]
