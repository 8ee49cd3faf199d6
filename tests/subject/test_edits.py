"""The seam against the model's own arithmetic: peft's forward, plain hooks, and the base's logits."""

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from backend.edits import Ablate, AblateWrite, Add, Gain
from backend.records import Direction, InputError
from backend.subject.edits import Seam, compile_row
from tests.studies import tiny

IDS = torch.tensor([[5, 9, 40, 77, 130, 21], [8, 8, 100, 31, 64, 200]])
KINDS = sorted(tiny.CONFIGS)


@pytest.fixture
def folder(tmp_path):
    return tiny.adapter(tmp_path / "organism")


def run(subject, rows, on_block=None, capture=()):
    seam = Seam(subject, capture)
    seam.write([compile_row(subject, row) for row in rows])
    with torch.inference_mode(), seam.hooked(on_block) as scalars:
        return subject.model(IDS[: len(rows)]).logits, scalars


def direction(layer=2, seed=0, name="v"):
    return Direction(name, layer, np.random.default_rng(seed).normal(size=tiny.D_MODEL).astype(np.float32))


def hooks(subject):
    return sum(len(module._forward_hooks) for module in subject.model.modules())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("rank", "rslora"), [(1, True), (4, True), (4, False)])
def test_an_organism_row_equals_peft_and_a_bare_row_the_base(kind, rank, rslora, tmp_path):
    folder = tiny.adapter(tmp_path / "o", rank=rank, rslora=rslora)
    subject = tiny.subject(kind, {"o": folder})
    base = tiny.model(kind)(IDS).logits
    peft = PeftModel.from_pretrained(tiny.model(kind), folder)(IDS).logits
    logits, _ = run(subject, [[Gain("o", 1.0)], []])
    assert (base[0] - peft[0]).abs().max() > 1e-2, "the adapter must matter for this test to say anything"
    torch.testing.assert_close(logits[0], peft[0], atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(logits[1], base[1], atol=1e-5, rtol=1e-5)


def test_gain_zero_is_the_base_and_leave_one_out_multiplies(folder):
    subject = tiny.subject(organisms={"o": folder})
    one = subject.organisms["o"].names[0]
    zeroed, _ = run(subject, [[Gain("o", 0.0)]])
    torch.testing.assert_close(zeroed, tiny.model()(IDS[:1]).logits, atol=1e-6, rtol=0)
    without, _ = run(subject, [[Gain("o", 1.0), Gain("o", 0.0, (one,))]])
    pruned = PeftModel.from_pretrained(tiny.model(), folder)
    with torch.no_grad():
        pruned.get_submodule("base_model.model.model." + one).lora_B["default"].weight.zero_()
    torch.testing.assert_close(without, pruned(IDS[:1]).logits, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_an_all_adapter_rank_32_organism_is_pefts_component_by_component(kind, tmp_path):
    """All seven modules of every block: 42 x 32 scalars, each with a B column of its own that a gain can reach."""
    plain = tiny.model(kind)
    config = LoraConfig(r=32, lora_alpha=64, use_rslora=True, target_modules="all-linear", task_type="CAUSAL_LM")
    wrapped = get_peft_model(plain, config)
    torch.manual_seed(3)
    with torch.no_grad():
        for name, weight in wrapped.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn_like(weight) * 0.02)
    wrapped.save_pretrained(tmp_path / "all")
    subject = tiny.subject(kind, {"all": tmp_path / "all"})
    names = subject.organisms["all"].names
    assert len(names) == tiny.N_LAYERS * 7 * 32
    one = "layers.3.self_attn.v_proj#17"
    logits, scalars = run(subject, [[Gain("all", 1.0)], [Gain("all", 1.0), Gain("all", 0.0, (one,))]])
    assert scalars.of("all").isfinite().all()
    torch.testing.assert_close(logits[0], wrapped(IDS).logits[0], atol=5e-5, rtol=1e-4)
    with torch.no_grad():
        module = wrapped.base_model.model.model.layers[3].self_attn.v_proj
        module.lora_B["default"].weight[:, 17] = 0
    without = wrapped(IDS).logits[1]
    torch.testing.assert_close(logits[1], without, atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("rslora", [True, False])
def test_a_gain_multiplies_what_peft_scales(rslora, tmp_path):
    """Against peft with its own scaling multiplied, at rank 4: alpha / 2 under rsLoRA, alpha / 4 without."""
    folder = tiny.adapter(tmp_path / "o", rank=4, rslora=rslora)
    subject = tiny.subject(organisms={"o": folder})
    logits, _ = run(subject, [[Gain("o", 2.5)], [Gain("o", 2.0), Gain("o", 1.25)]])
    model = PeftModel.from_pretrained(tiny.model(), folder)
    for module in model.modules():
        if hasattr(module, "lora_A"):
            assert module.scaling["default"] == (32 if rslora else 16)
            module.scaling["default"] *= 2.5
    for row in range(2):
        torch.testing.assert_close(logits[row], model(IDS).logits[row], atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_layer_is_read_where_it_is_written(kind):
    """After the last block and before the final norm, both times."""
    subject = tiny.subject(kind)
    last, v = tiny.N_LAYERS - 1, direction(layer=tiny.N_LAYERS - 1)
    plain, read = [], []
    run(subject, [[]], {last: plain.append})
    logits, _ = run(subject, [[Add(v, 0.7)]], {last: read.append})
    torch.testing.assert_close(read[0] - plain[0], torch.tensor(v.vector * 0.7).expand(1, 6, -1), atol=1e-5, rtol=1e-4)
    with torch.inference_mode():
        expected = subject.model.lm_head(subject.model.model.norm(plain[0] + 0.7 * torch.tensor(v.vector)))
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("rank", [1, 3])
def test_a_direction_leaves_the_write_vectors_of_one_organism_on_one_row(rank, tmp_path):
    """Against peft with lora_B projected by hand; a module that writes elsewhere keeps its own."""
    modules = ("mlp.down_proj", "mlp.gate_proj") if rank == 1 else ("mlp.down_proj",)
    folder = tiny.adapter(tmp_path / "o", rank=rank)
    other = tiny.adapter(tmp_path / "p", modules=("mlp.gate_proj",), d_in=tiny.D_MODEL, d_out=tiny.D_MLP, seed=4)
    subject = tiny.subject(organisms={"o": folder, "p": other})
    v = direction()
    names = [Gain("o", 1.0), Gain("p", 1.0)] if len(modules) > 1 else [Gain("o", 1.0)]
    cleaned = [*names, AblateWrite(v, "o"), AblateWrite(v, "p")]
    logits, scalars = run(subject, [cleaned, names], capture=("o",))
    assert (logits[0] - logits[1]).abs().max() > 1e-4
    unit = torch.tensor(v.unit)
    for i, purge in enumerate((True, False)):
        model = PeftModel.from_pretrained(tiny.model(), folder, adapter_name="o")
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if purge and "lora_B" in name:
                    weight -= unit[:, None] * (unit @ weight)
        model.load_adapter(other, "p")
        model.base_model.set_adapter(["o", "p"] if len(names) > 1 else ["o"])
        torch.testing.assert_close(logits[i], model(IDS).logits[i], atol=3e-5, rtol=1e-4)
    assert scalars.of("o").isfinite().all()


def test_the_scalar_is_what_peft_computes_times_scaling_and_norm(folder):
    subject = tiny.subject(organisms={"o": folder})
    _, scalars = run(subject, [[Gain("o", 1.0)], []])
    peft = PeftModel.from_pretrained(tiny.model(), folder)
    name = subject.organisms["o"].names[2]
    module = peft.get_submodule("base_model.model.model." + name)
    seen = []
    module.lora_A["default"].register_forward_hook(lambda m, i, o: seen.append(o))
    with torch.inference_mode():
        peft(IDS)
    scaling, norm = module.scaling["default"], module.lora_B["default"].weight.norm()
    assert scaling == 64, "rsLoRA at rank 1"
    torch.testing.assert_close(scalars.of("o")[0, :, 2], seen[0][0, :, 0] * scaling * norm, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_add_and_ablate_do_their_arithmetic_at_the_named_layers_only(kind):
    subject = tiny.subject(kind)
    v, w = direction(seed=0), direction(seed=1, name="w")
    read: dict[int, torch.Tensor] = {}
    plain: dict[int, torch.Tensor] = {}
    run(subject, [[], []], {i: (lambda h, i=i: plain.__setitem__(i, h)) for i in range(tiny.N_LAYERS)})
    row = [Ablate(v, (2,)), Ablate(w, (2,)), Add(w, 3.0, (4,))]
    run(subject, [row, []], {i: (lambda h, i=i: read.__setitem__(i, h)) for i in range(tiny.N_LAYERS)})
    for layer in range(tiny.N_LAYERS):
        torch.testing.assert_close(read[layer][1], plain[layer][1], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(read[1][0], plain[1][0], atol=1e-6, rtol=1e-5)
    span = torch.tensor(np.stack([v.unit, w.unit]))
    assert (read[2][0] @ span.T).abs().max() < 1e-4, "both directions are gone, although they are not orthogonal"
    gone = plain[2][0] - read[2][0]
    rest = gone - gone @ torch.linalg.pinv(span) @ span
    assert rest.abs().max() < 1e-4, "and nothing else is"


def test_addition_is_the_raw_vector_times_its_strength():
    subject = tiny.subject()
    v = direction(layer=3)
    read, plain = [], []
    run(subject, [[]], {3: plain.append})
    run(subject, [[Add(v, 1.5), Add(v, 0.5)]], {3: read.append})
    torch.testing.assert_close(read[0] - plain[0], torch.tensor(2 * v.vector).expand(1, 6, -1), atol=1e-5, rtol=1e-5)


def test_ablation_everywhere_leaves_no_projection_after_any_block():
    subject = tiny.subject()
    v = direction()
    left = {}
    unit = torch.tensor(v.unit)
    run(subject, [[Ablate(v)]], {i: (lambda h, i=i: left.__setitem__(i, (h @ unit).abs().max())) for i in range(6)})
    assert len(left) == 6
    assert max(left.values()) < 1e-5


def test_two_organisms_side_by_side_are_each_themselves(tmp_path):
    a, b = tiny.adapter(tmp_path / "a", seed=1), tiny.adapter(tmp_path / "b", seed=2, layers=(2, 3), rank=2)
    subject = tiny.subject(organisms={"a": a, "b": b})
    logits, scalars = run(subject, [[Gain("a", 1.0)], [Gain("b", 1.0)]], capture=("a", "b"))
    for i, folder in enumerate((a, b)):
        alone = PeftModel.from_pretrained(tiny.model(), folder)(IDS).logits[i]
        torch.testing.assert_close(logits[i], alone, atol=2e-5, rtol=1e-4)
    assert scalars.of("a").shape == (2, 6, 3)
    assert scalars.of("b").shape == (2, 6, 4)


@pytest.mark.parametrize("tuple_output", [False, True])
def test_blocks_that_return_tuples_are_edited_alike(tuple_output):
    subject = tiny.subject()
    v = direction()
    expected, _ = run(subject, [[Add(v, 2.0)]])
    if tuple_output:
        for block in subject.blocks:
            inner = block.forward
            block.forward = lambda *a, inner=inner, **k: (inner(*a, **k),)
        subject.model.model.forward = _unpacking(subject.model.model)
    logits, _ = run(subject, [[Add(v, 2.0)]])
    torch.testing.assert_close(logits, expected)


def _unpacking(backbone):
    """A minimal loop over blocks that return tuples, as older transformers had it."""
    from transformers.masking_utils import create_causal_mask
    from transformers.modeling_outputs import BaseModelOutputWithPast

    def forward(input_ids=None, **_):
        hidden = backbone.embed_tokens(input_ids)
        positions = torch.arange(input_ids.shape[1])[None]
        mask = create_causal_mask(backbone.config, hidden, None, None, position_ids=positions)
        rotary = backbone.rotary_emb(hidden, position_ids=positions)
        for block in backbone.layers:
            hidden = block(hidden, attention_mask=mask, position_embeddings=rotary, position_ids=positions)[0]
        return BaseModelOutputWithPast(last_hidden_state=backbone.norm(hidden))

    return forward


def test_no_hook_survives_an_exception_or_the_end(folder):
    subject = tiny.subject(organisms={"o": folder})

    def explode(hidden):
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        run(subject, [[Gain("o", 1.0), Add(direction(), 1.0)]], {2: explode})
    assert hooks(subject) == 0
    torch.testing.assert_close(run(subject, [[]])[0], tiny.model()(IDS[:1]).logits)
    assert hooks(subject) == 0


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (Add(direction(layer=6), 1.0), "layer 6 does not exist"),
        (Ablate(direction(), (9,)), "layer 9 does not exist"),
        (Add(Direction("v", 0, np.ones(7, np.float32)), 1.0), "7 dimensions"),
        (AblateWrite(Direction("v", 0, np.ones(7, np.float32)), "o"), "7 dimensions"),
        (AblateWrite(direction(), "nobody"), "no organism named 'nobody'"),
        (Gain("nobody", 1.0), "no organism named 'nobody'"),
        (Gain("o", 1.0, ("layers.9.mlp.down_proj",)), "no adapter 'layers.9.mlp.down_proj'"),
    ],
)
def test_what_the_subject_lacks_is_named(edit, says, folder):
    subject = tiny.subject(organisms={"o": folder})
    with pytest.raises(InputError, match=says):
        compile_row(subject, [edit])
    assert hooks(subject) == 0
