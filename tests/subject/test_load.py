"""A model is found block by block, wherever its weights lie and in whatever precision, or refused by name."""

import json

import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from safetensors.torch import load_file, save_file
from torch import nn

from backend.edits import Ablate, Add, Gain
from backend.records import Direction, InputError, Sampling
from backend.subject.decode import Request, sample
from backend.subject.divergence import divergence
from backend.subject.edits import Seam, compile_row
from backend.subject.load import dress, find_blocks, load
from backend.subject.trace import Text, trace
from tests.studies import tiny

TEXTS = [Text("a", (5, 9, 40, 77), (10, 11, 12)), Text("b", (5, 9, 40, 77), (50, 51))]


def edits():
    v = Direction("v", 2, np.random.default_rng(3).normal(size=tiny.D_MODEL).astype(np.float32))
    return (Gain("o", 1.0), Add(v, 0.5), Ablate(v, (4,)))


def everything(subject):
    """Sampled tokens, scalars, means and KL: all that a subject is asked for."""
    greedy = Sampling(temperature=0, max_new_tokens=8)
    prompts = [(5, 9, 40, 77), (8, 8, 100)]
    tokens = {s.key: s.answer_ids for s in sample(subject, [Request(p, p, edits(), greedy) for p in prompts])}
    traces = {t.response_id: t for t in trace(subject, TEXTS, "o")}
    kl = {d.response_id: d.kl for d in divergence(subject, TEXTS, edits())}
    return tokens, traces, kl


@pytest.mark.parametrize("kind", sorted(tiny.CONFIGS))
def test_an_offloaded_model_is_edited_where_its_modules_run(kind, tmp_path):
    """As with device_map="auto": a module's weights are elsewhere until it runs; hooks follow its input's device."""
    folder = tiny.adapter(tmp_path / "o")
    tokens, traces, kl = everything(tiny.subject(kind, {"o": folder}))
    model = tiny.model(kind)
    cpu_offload(model, execution_device=torch.device("cpu"))
    assert model.model.layers[3].mlp.down_proj.weight.device.type == "meta"
    offloaded = everything(dress("tiny", model, tiny.tokenizer(), {"o": folder}))
    assert offloaded[0] == tokens
    for key, found in offloaded[1].items():
        np.testing.assert_allclose(found.scalars, traces[key].scalars, atol=1e-4)
        np.testing.assert_allclose(found.answer_mean, traces[key].answer_mean, atol=1e-4)
        np.testing.assert_allclose(offloaded[2][key], kl[key], atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", sorted(tiny.CONFIGS))
def test_half_precision_reads_and_edits_like_single(kind, dtype, tmp_path):
    folder = tiny.adapter(tmp_path / "o")
    _, traces, _ = everything(tiny.subject(kind, {"o": folder}))
    half = dress("tiny", tiny.model(kind).to(dtype), tiny.tokenizer(), {"o": folder})
    tokens, found, kl = everything(half)
    assert all(len(ids) for ids in tokens.values())
    scale = np.abs(traces["a"].scalars).max()
    assert found["a"].scalars.dtype == np.float32
    assert np.abs(found["a"].scalars - traces["a"].scalars).max() < 0.1 * scale
    assert np.isfinite(kl["a"]).all()
    seam = Seam(half)
    seam.write([compile_row(half, edits()), compile_row(half, [])])
    ids = torch.tensor([[5, 9, 40, 77]] * 2)
    with torch.inference_mode(), seam.hooked():
        logits = half.model(ids).logits
    assert logits.dtype == dtype
    assert (logits[0] - logits[1]).abs().max() > 0.05
    torch.testing.assert_close(logits[1], half.model(ids).logits[1])


def test_a_model_without_blocks_is_told_where_they_were_looked_for():
    with pytest.raises(InputError, match=r"Linear.*model\.layers.*transformer\.h"):
        find_blocks(nn.Linear(2, 2))


def test_names_that_lead_nowhere_say_what_can_be_given(tmp_path):
    for name, says in (
        (str(tmp_path / "none.gguf"), "no GGUF file"),
        (str(tmp_path), "no config.json"),
        ("no/such-model-anywhere", "could not be loaded"),
    ):
        with pytest.raises(InputError, match=says):
            load(name)


def test_a_pointer_of_git_lfs_is_said_to_be_one(tmp_path):
    tiny.model().save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(InputError, match=r"model\.safetensors is a git-lfs pointer, .*git lfs pull"):
        load(str(tmp_path))


def test_tokens_of_another_model_are_refused_by_name():
    subject = tiny.subject()
    with pytest.raises(InputError, match=r"'far' has the token id 259: tiny has the ids 0 to 258"):
        list(trace(subject, [Text("far", (5, 9), (259,))], "base"))
    with pytest.raises(InputError, match=r"'less' has the token id -1"):
        list(divergence(subject, [Text("less", (-1, 9), (25,))], ()))
    with pytest.raises(InputError, match="a token that tiny lacks"):
        list(sample(subject, [Request(0, (5, 259))]))


@pytest.mark.parametrize(
    ("rope", "context"),
    [
        ({"rope_type": "default", "rope_theta": 1e4}, 128),
        ({"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}, 128),
        (
            {
                "rope_type": "longrope",
                "rope_theta": 1e4,
                "short_factor": [1.0] * 4,
                "long_factor": [4.0] * 4,
                "original_max_position_embeddings": 48,
            },
            48,
        ),
    ],
)
def test_a_text_ends_where_a_rotary_embedding_would_change_for_those_beside_it(rope, context):
    subject = tiny.subject(max_position_embeddings=128, rope_parameters=rope)
    assert subject.context == context
    short, long = torch.arange(3, 11), torch.arange(3, 3 + context)
    batch = torch.zeros((2, context), dtype=torch.long)
    batch[0, :8], batch[1] = short, long
    with torch.no_grad():
        together = subject.model(input_ids=batch).logits
        alone = subject.model(input_ids=short[None]).logits
        assert torch.allclose(together[0, :8], alone[0], atol=1e-4)
        if context < 128:  # one token more, and the short text would be read otherwise
            beyond = subject.model(input_ids=torch.cat([batch, batch[:, :1]], dim=1)).logits
            assert not torch.allclose(beyond[0, :8], alone[0], atol=1e-2)


def test_a_model_whose_files_lack_weights_is_refused(tmp_path):
    tiny.model(num_hidden_layers=2).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    assert len(load(str(tmp_path), device="cpu").blocks) == 2
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"1 of its weights are not in its files, 'model\.layers\.1\.mlp\.up_proj"):
        load(str(tmp_path), device="cpu")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"num_hidden_layers": 10**6}, "num_hidden_layers 1000000, and a model has at most 1000"),
        ({"vocab_size": 10**9}, "vocab_size 1000000000"),
        ({"model_type": ["llama"]}, "could not be loaded"),
        ({"rope_parameters": "none"}, "rope_parameters"),
    ],
)
def test_a_config_that_asks_for_what_no_model_has_is_refused_before_it_is_built(tmp_path, change, says):
    tiny.model(num_hidden_layers=1).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(InputError, match=says):
        load(str(tmp_path), device="cpu")
