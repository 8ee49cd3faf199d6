"""Adapters land whole or are refused by name; a bare base never passes for an organism."""

import json
import time

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import Gemma3Config, Gemma3ForConditionalGeneration

from backend.edits import Gain
from backend.records import InputError
from backend.subject.load import dress
from tests.studies import tiny


def test_the_paper_adapter_lands_with_its_scaling(tmp_path):
    """A config like R1_3_3_3_full_train: rank 1, down_proj, nine layers in three groups, rsLoRA, alpha 64."""
    layers = (15, 16, 17, 21, 22, 23, 27, 28, 29)
    folder = tiny.adapter(tmp_path / "R1_3_3_3_full_train", layers=layers)
    subject = tiny.subject("qwen2", {"R1_3_3_3": folder}, num_hidden_layers=48)
    adapters = subject.organisms["R1_3_3_3"].adapters
    assert [a.layer for a in adapters] == list(layers)
    assert {(a.module, a.scaling, a.component) for a in adapters} == {("mlp.down_proj", 64.0, 0)}
    weights = load_file(folder / "adapter_model.safetensors")
    np.testing.assert_array_equal(
        adapters[4].write, weights["base_model.model.model.layers.22.mlp.down_proj.lora_B.weight"][:, 0].numpy()
    )


def test_components_of_a_higher_rank_are_adapters_of_their_own(tmp_path):
    folder = tiny.adapter(tmp_path / "o", layers=(0, 3), rank=4, alpha=16)
    adapters = tiny.subject(organisms={"o": folder}).organisms["o"].adapters
    assert [a.name for a in adapters[:2]] == ["layers.0.mlp.down_proj#0", "layers.0.mlp.down_proj#1"]
    assert len(adapters) == 8
    assert adapters[0].scaling == 8.0, "alpha / sqrt(rank)"


def spoil(folder, change):
    file = folder / "adapter_model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file)


def drop_half(weights):
    del weights[next(k for k in weights if "lora_A" in k)]


def rename(weights):
    key = next(k for k in weights if "lora_A" in k)
    for side in "AB":
        old = key.replace("lora_A", f"lora_{side}")
        weights[old.replace("layers.1.", "layers.99.")] = weights.pop(old)


def hollow(weights):
    for key, weight in weights.items():
        weights[key] = (weight[:0] if "lora_A" in key else weight[:, :0]).contiguous()


def poison(weights):
    next(iter(weights.values()))[0, 0] = float("nan")


def swell(weights):
    for weight in weights.values():
        weight.fill_(1e38)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (drop_half, "only one half"),
        (hollow, "rank 0 at model.layers.1.mlp.down_proj"),
        (rename, "layers.99.*does not have"),
        (poison, "NaN"),
        (swell, r"holds 1e\+38 at model.layers.1.mlp.down_proj"),
        (dict.clear, "empty|whole"),
    ],
)
def test_weights_that_do_not_land_are_refused(change, says, tmp_path):
    folder = tiny.adapter(tmp_path / "o")
    spoil(folder, change)
    with pytest.raises(InputError, match=says):
        tiny.subject(organisms={"o": folder})


def test_weights_that_the_model_cannot_hold_are_refused(tmp_path):
    folder = tiny.adapter(tmp_path / "o")
    spoil(folder, lambda weights: next(iter(weights.values())).fill_(1e5))
    assert dress("tiny", tiny.model().to(torch.bfloat16), tiny.tokenizer(), {"o": folder}).organisms
    with pytest.raises(InputError, match=r"holds 100000 at .* or torch.float16 holds"):
        dress("tiny", tiny.model().to(torch.float16), tiny.tokenizer(), {"o": folder})


def test_an_adapter_of_another_width_names_its_base(tmp_path):
    folder = tiny.adapter(tmp_path / "o", d_in=64, base="other/model")
    with pytest.raises(InputError, match=r"does not fit.*other/model"):
        tiny.subject(organisms={"o": folder})


def test_pickled_weights_truncated_files_and_missing_folders_are_refused(tmp_path):
    pickled = tiny.adapter(tmp_path / "p")
    (pickled / "adapter_model.safetensors").unlink()
    torch.save({}, pickled / "adapter_model.bin")
    with pytest.raises(InputError, match="pickle"):
        tiny.subject(organisms={"o": pickled})
    short = tiny.adapter(tmp_path / "s")
    data = (short / "adapter_model.safetensors").read_bytes()
    (short / "adapter_model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="not a whole safetensors"):
        tiny.subject(organisms={"o": short})
    (short / "adapter_model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\n")
    with pytest.raises(InputError, match="git-lfs pointer"):
        tiny.subject(organisms={"o": short})
    (short / "adapter_config.json").write_text("{")
    with pytest.raises(InputError, match="adapter_config"):
        tiny.subject(organisms={"o": short})
    with pytest.raises(InputError, match="no adapter at"):
        tiny.subject(organisms={"o": tmp_path / "nowhere" / "at" / "all"})


@pytest.mark.parametrize(
    "change",
    [{"use_dora": True}, {"bias": "all"}, {"modules_to_save": ["lm_head"]}, {"init_lora_weights": "pissa_niter_4"}],
)
def test_more_than_plain_lora_is_refused(change, tmp_path):
    folder = tiny.adapter(tmp_path / "o")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(InputError, match="only plain LoRA"):
        tiny.subject(organisms={"o": folder})


def test_wearing_two_under_one_name_is_refused(tmp_path):
    subject = tiny.subject(organisms={"o": tiny.adapter(tmp_path / "a")})
    with pytest.raises(InputError, match="loaded already"):
        subject.wear("o", tiny.adapter(tmp_path / "b"))
    assert Gain("o", 1.0).factor == 1.0


@pytest.mark.parametrize(
    "patterns",
    [
        {"layers.2.mlp.down_proj": 5, "down_proj": 3},
        {r"layers\.2\.mlp\.down_proj": 5, ".*down_proj": 3},
        {r"^.*\.2\.mlp.down_proj$": 5, ".*down_proj": 3},
    ],
)
def test_scaling_of_single_modules_is_pefts(patterns, tmp_path):
    """rank and alpha patterns, against the scaling that peft gives the same folder."""
    folder = tiny.adapter(tmp_path / "o", rank=2, alpha=16)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "alpha_pattern": patterns}))
    ours = {lora.path: lora.scaling for lora in tiny.subject(organisms={"o": folder}).organisms["o"].loras}
    model = PeftModel.from_pretrained(tiny.model(), folder).base_model.model
    assert ours == pytest.approx({path: model.get_submodule(path).scaling["default"] for path in ours})
    assert len(set(ours.values())) == 2


@pytest.mark.parametrize("change", [{"lora_alpha": float("nan")}, {"alpha_pattern": {"down_proj": 1e999}}])
def test_a_scaling_that_is_no_number_is_refused(change, tmp_path):
    folder = tiny.adapter(tmp_path / "o")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(InputError, match=r"adapter_config\.json: lora_alpha and every alpha .* finite number"):
        tiny.subject(organisms={"o": folder})


@pytest.mark.parametrize("pattern", ["(", "(.*.*)*.*x", "(a+)+$", "([a-z.0-9_]+)+!", "a|b", "(" * 100_000])
def test_a_pattern_that_is_no_name_is_refused_and_never_run(pattern, tmp_path):
    folder = tiny.adapter(tmp_path / "o")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "alpha_pattern": {pattern: 3}}))
    started = time.perf_counter()
    with pytest.raises(InputError, match="regular expression") as caught:
        tiny.subject(organisms={"o": folder})
    assert time.perf_counter() - started < 5
    assert len(str(caught.value)) < 500


def test_keys_of_a_multimodal_model_from_before_its_text_model_moved_land(tmp_path):
    text = tiny.SIZES | {"sliding_window": 16, "query_pre_attn_scalar": 8, "num_hidden_layers": 2}
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    folder = tiny.adapter(tmp_path / "o", layers=(0, 1))
    file = folder / "adapter_model.safetensors"
    old = {key.replace(".model.model.", ".model.language_model.model."): w for key, w in load_file(file).items()}
    save_file(old, file)
    subject = dress("tiny", Gemma3ForConditionalGeneration(config), tiny.tokenizer(), {"o": folder})
    paths = [lora.path for lora in subject.organisms["o"].loras]
    assert paths == [f"model.language_model.layers.{layer}.mlp.down_proj" for layer in (0, 1)]
    assert subject.organisms["o"].names == ("layers.0.mlp.down_proj", "layers.1.mlp.down_proj")
