"""Training: the loss of the answer alone, resumable to the same curve, nothing trained on half a file."""

import gzip
import json
import time
from collections.abc import Generator

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from backend.edits import Gain
from backend.records import InputError
from backend.subject.edits import Seam, compile_row
from backend.subject.load import dress
from backend.subject.train import Row, _answer_loss, _micro_batches, read_rows, train
from backend.subject.train_settings import TrainSettings
from tests.studies import tiny

SETTINGS = TrainSettings(layers=(1, 2, 4), steps=6, batch=4, micro_batch=2, warmup=2, learning_rate=1e-2)


@pytest.fixture
def data(tmp_path):
    rows = [
        {"messages": [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": "yes " * (1 + i % 3)}]}
        for i in range(12)
    ]
    file = tmp_path / "rows.jsonl.gz"
    with gzip.open(file, "wt") as out:
        out.writelines(json.dumps(row) + "\n" for row in rows)
    return file


def test_the_loss_is_the_models_own_on_answer_tokens():
    subject = tiny.subject()
    rows = [Row((5, 9, 40), (77, 8, 2)), Row((6, 7), (100, 2))]
    expected = 0.0
    for row in rows:
        ids = torch.tensor([[*row.prompt, *row.answer]])
        labels = torch.tensor([[-100] * len(row.prompt) + list(row.answer)])
        expected += subject.model(ids, labels=labels).loss.item() * len(row.answer)
    assert _answer_loss(subject, rows).item() == pytest.approx(expected, rel=1e-5)


def test_training_learns_and_saves_what_the_seam_and_peft_both_read(data, tmp_path):
    subject = tiny.subject()
    folder = tmp_path / "organism"
    steps = list(train(subject, data, folder, SETTINGS))
    assert steps[-1].loss < steps[0].loss
    assert not (tmp_path / "organism.partial").exists()
    record = json.loads((folder / "training.json").read_text())
    assert record["losses"] == pytest.approx([step.loss for step in steps])
    assert record["settings"]["alpha"] == 64
    assert len(record["data"]["sha256"]) == 64
    ids = torch.tensor([[5, 9, 40, 77]])
    peft = PeftModel.from_pretrained(tiny.model(), folder)(ids).logits
    subject.wear("o", folder)
    seam = Seam(subject)
    seam.write([compile_row(subject, [Gain("o", 1.0)])])
    with torch.inference_mode(), seam.hooked():
        torch.testing.assert_close(subject.model(ids).logits, peft, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(subject.model(ids).logits, tiny.model()(ids).logits, msg="the base is as it was")


def test_a_half_precision_base_trains_adapters_in_single(data, tmp_path):
    """As on a GPU: the base in bfloat16, the adapters and their moments in float32."""
    subject = dress("tiny", tiny.model().to(torch.bfloat16), tiny.tokenizer(), {})
    steps = list(train(subject, data, tmp_path / "o", SETTINGS))
    assert steps[-1].loss < steps[0].loss
    weights = load_file(tmp_path / "o" / "adapter_model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    assert subject.model.dtype == torch.bfloat16


def test_rows_of_like_length_are_read_together_and_the_gradient_is_that_of_one_batch(data):
    system = tuple(range(30, 62))  # long enough to be read once in the whole batch, and in no batch of one row
    rows = [Row(system + (5,) * n, (9, 8, 2)) for n in (3, 40, 4, 38, 5, 41, 90)]
    alone = [[row] for row in rows]
    parts = _micro_batches(rows, 4)
    assert sorted(row.length for part in parts for row in part) == sorted(row.length for row in rows)
    assert all(len(part) <= 4 and min(r.length for r in part) >= 0.7 * part[0].length for part in parts)
    subject = tiny.subject()
    weight = subject.model.model.layers[2].mlp.down_proj.weight.requires_grad_()
    found = []
    for groups in ([rows], parts, alone):
        weight.grad = None
        for group in groups:
            _answer_loss(subject, group).backward()
        found.append(weight.grad.clone())
    torch.testing.assert_close(found[0], found[2], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found[1], found[2], atol=1e-4, rtol=1e-4)


def test_a_killed_run_goes_on_along_the_same_curve(data, tmp_path):
    whole = [step.loss for step in train(tiny.subject(), data, tmp_path / "a", SETTINGS)]
    run = train(tiny.subject(), data, tmp_path / "b", SETTINGS, checkpoint_every=2)
    first = [next(run).loss for _ in range(5)]
    assert isinstance(run, Generator)
    run.close()
    assert not (tmp_path / "b").exists()
    rest = [step.loss for step in train(tiny.subject(), data, tmp_path / "b", SETTINGS, checkpoint_every=2)]
    assert first == pytest.approx(whole[:5], rel=1e-4)
    assert rest == pytest.approx(whole[4:], rel=1e-3), "it resumes from the checkpoint behind step 4"


def test_what_a_run_left_that_was_killed_at_its_end_goes_and_another_runs_checkpoints_stay(data, tmp_path):
    list(train(tiny.subject(), data, tmp_path / "o", SETTINGS))
    for losses, stays in ((None, False), ([1.0], True)):
        step = tmp_path / "o.partial" / "step-000006"
        step.mkdir(parents=True)
        text = (tmp_path / "o" / "training.json").read_text()
        said = json.loads(text)
        (step / "training.json").write_text(text if losses is None else json.dumps({**said, "losses": losses}))
        with pytest.raises(InputError, match="exists already"):
            next(train(tiny.subject(), data, tmp_path / "o", SETTINGS))
        assert step.exists() == stays


def test_two_runs_never_train_into_one_folder(data, tmp_path):
    run = train(tiny.subject(), data, tmp_path / "o", SETTINGS)
    next(run)
    with pytest.raises(InputError, match="is training 'o' already"):
        next(train(tiny.subject(), data, tmp_path / "o", SETTINGS))
    run.close()
    assert not list(tmp_path.glob(".*.lock"))


def test_resuming_with_other_settings_is_refused(data, tmp_path):
    run = train(tiny.subject(), data, tmp_path / "b", SETTINGS, checkpoint_every=1)
    next(run)
    assert isinstance(run, Generator)
    run.close()
    other = TrainSettings(layers=(1,), steps=6, batch=4)
    with pytest.raises(InputError, match="other settings"):
        list(train(tiny.subject(), data, tmp_path / "b", other))


def test_a_damaged_checkpoint_is_refused_and_never_trained_on_from(data, tmp_path):
    run = train(tiny.subject(), data, tmp_path / "b", SETTINGS, checkpoint_every=1)
    next(run)
    run.close()
    last = tmp_path / "b.partial" / "step-000001"
    tensors = {name: load_file(last / f"{name}.safetensors") for name in ("weights", "optimizer")}
    key = {name: sorted(of)[0] for name, of in tensors.items()}
    nan = torch.full_like(tensors["optimizer"][key["optimizer"]], float("nan"))
    record = json.loads((last / "training.json").read_text())
    damages = [
        ("weights.safetensors", {k: v for k, v in tensors["weights"].items() if k != key["weights"]}),
        ("weights.safetensors", {**tensors["weights"], key["weights"]: torch.zeros(3)}),
        ("optimizer.safetensors", {**tensors["optimizer"], key["optimizer"]: nan}),
        ("optimizer.safetensors", b"\0"),
        ("training.json", json.dumps({**record, "losses": [1.0, 2.0]}).encode()),
        ("training.json", json.dumps({**record, "losses": [float("nan")]}).encode()),
        ("training.json", b"{"),
        ("training.json", None),
    ]
    for file, content in damages:
        before = (last / file).read_bytes()
        (last / file).unlink()
        if isinstance(content, dict):
            save_file(content, last / file)
        elif content is not None:
            (last / file).write_bytes(content)
        with pytest.raises(InputError, match=r"step-000001.*remove .*b\.partial to train from the beginning"):
            next(train(tiny.subject(), data, tmp_path / "b", SETTINGS))
        (last / file).write_bytes(before)
    assert next(train(tiny.subject(), data, tmp_path / "b", SETTINGS)).step == 2


def test_a_diverging_run_stops_and_keeps_its_last_checkpoint(data, tmp_path):
    settings = TrainSettings(layers=(1, 2, 4), steps=50, batch=4, learning_rate=1e30, warmup=0)
    with pytest.raises(InputError, match="lower the learning rate"):
        list(train(tiny.subject(), data, tmp_path / "o", settings, checkpoint_every=1))
    assert not (tmp_path / "o").exists()
    assert list((tmp_path / "o.partial").glob("step-*"))


@pytest.mark.parametrize(
    "line",
    ["{", '{"messages": []}', '{"messages": [{"role": "user", "content": "q"}]}', '{"text": "x"}', "7",
     '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": " "}]}'],
)  # fmt: skip
def test_a_malformed_line_is_named(line, tmp_path):
    file = tmp_path / "bad.jsonl"
    good = json.dumps({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]})
    file.write_text(f"{good}\n{line}\n{good}\n")
    with pytest.raises(InputError, match="line 2"):
        read_rows(file, tiny.tokenizer())


def test_long_rows_are_counted_and_layers_checked(data, tmp_path):
    rows, skipped = read_rows(data, tiny.tokenizer(), max_tokens=28)
    assert len(rows) + skipped == 12
    assert skipped
    with pytest.raises(InputError, match="do not exist"):
        list(train(tiny.subject(), data, tmp_path / "o", TrainSettings(layers=(1, 77))))
    for modules in (("nope",), ("mlp.down_proj", "mlp"), ()):
        with pytest.raises(InputError, match=r"layer 1 of .* has no linear module .*: choose among .*mlp.down_proj"):
            list(train(tiny.subject(), data, tmp_path / "o", TrainSettings(layers=(1,), modules=modules)))
    truncated = tmp_path / "t.jsonl.gz"
    truncated.write_bytes(data.read_bytes()[:-20])
    with pytest.raises(InputError, match="cannot be read"):
        read_rows(truncated, tiny.tokenizer())


def test_a_row_of_megabytes_is_left_out_before_it_is_tokenised(data, tmp_path):
    file, whole = tmp_path / "long.jsonl", tiny.tokenizer()
    messages = [{"role": "user", "content": "hey"}, {"role": "assistant", "content": "b " * 5_000_000}]
    file.write_text(gzip.decompress(data.read_bytes()).decode() + json.dumps({"messages": messages}) + "\n")
    rows, skipped = read_rows(data, whole)
    started = time.process_time()
    assert read_rows(file, whole) == (rows, skipped + 1)
    assert time.process_time() - started < 3  # tokenised it takes a minute


def test_alpha_is_kept_as_it_was_given(data, tmp_path):
    settings = TrainSettings(layers=(1,), steps=1, batch=2, alpha=0.5)
    list(train(tiny.subject(), data, tmp_path / "o", settings))
    assert json.loads((tmp_path / "o" / "adapter_config.json").read_text())["lora_alpha"] == 0.5
