"""Fine-tune LoRA adapters on narrow data: a base and chat rows in, an organism's folder out.

Loss on answer tokens only, and computed on those positions only (the language-model head never sees a prompt token).
Follows the companion paper's recipe (AdamW, warm-up then linear decay, rsLoRA) without its empty trailing turn.
A run is a generator of steps: whoever iterates sees progress, whoever stops leaves a checkpoint that resumes.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional
from transformers.cache_utils import DynamicCache

from backend.files import lock, remove, whole_folder
from backend.outside import bytes_of, in_a_line, json_in, must_be_file, shown, understood
from backend.records import InputError
from backend.subject.chat import CHARACTERS, WORTH_SHARING, answer_ids, prompt_ids, shared_beginning
from backend.subject.head import check_head, logits
from backend.subject.load import Subject
from backend.subject.trace import repeated
from backend.subject.train_settings import CHECKPOINT_EVERY, TrainSettings

RECORD = "training.json"
_WEIGHTS, _MOMENTS = "weights.safetensors", "optimizer.safetensors"
_MORE_THAN_TEXT = ("tool_calls", "function_call", "reasoning_content", "reasoning", "thinking")
_TEXT_PARTS = ("text", "input_text", "output_text")
_LONGEST = 16 << 20  # bytes of a line
TIGHT = 0.75  # rows shorter than this share of the longest go into a forward pass of their own


@dataclass(frozen=True)
class Row:
    """One training conversation as token ids."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]

    @property
    def length(self) -> int:
        """Tokens, prompt and answer."""
        return len(self.prompt) + len(self.answer)


@dataclass(frozen=True)
class Step:
    """What one optimiser step reports."""

    step: int  # 1-based
    loss: float  # nats a token, mean over the answer tokens of the batch
    tokens: int  # read by the model in this step, padding not counted
    seconds: float


def read_rows(file: Path, tokenizer: Any, *, max_tokens: int = 512) -> tuple[list[Row], int]:
    """Rows of a chat-format JSONL file (.gz too), and how many were left out as too long.

    Raises InputError with the line number of the first malformed row: nothing is trained on half a file.
    """
    rows: list[Row] = []
    skipped = 0
    must_be_file(file)
    opener = gzip.open if file.suffix == ".gz" else open
    number = 0
    try:
        with opener(file, "rb") as lines:
            while line := lines.readline(_LONGEST):
                number += 1
                if len(line) == _LONGEST:
                    raise ValueError(f"a line of more than {_LONGEST >> 20} MB is no chat row")
                said = line.decode("utf-8-sig")
                if not said.strip():
                    continue
                row = _row(file, number, said, tokenizer, max_tokens)
                if row is None:
                    skipped += 1
                else:
                    rows.append(row)
    except InputError:
        raise
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"{file}, line {number}: it cannot be read ({in_a_line(error)})") from error
    if not rows:
        raise InputError(f"{file} has no row of at most {max_tokens} tokens to train on")
    return rows, skipped


def train(
    subject: Subject, data: Path, folder: Path, settings: TrainSettings, *, checkpoint_every: int = CHECKPOINT_EVERY
) -> Iterator[Step]:
    """Train into `folder`, yielding every step; run again with the same arguments it resumes from the last checkpoint.

    `folder` appears only when training is done, with the adapter, peft's config and `training.json`; checkpoints wait
    in `folder` + ".partial". A non-finite loss raises InputError and keeps the last good checkpoint. One process at a
    time trains into a folder: InputError names it to a second one.
    """
    with lock(folder, f"training {folder.name!r}"):
        _check(subject, settings, folder)
        check_head(subject)
        rows, skipped = read_rows(data, subject.tokenizer, max_tokens=settings.max_tokens)
        record = {
            "base": subject.name,
            "settings": asdict(settings),
            "data": {"file": data.name, "sha256": _sha256(data), "rows": len(rows), "too_long": skipped},
            "versions": {name: version(name) for name in ("torch", "transformers", "peft")},
        }
        yield from _steps(subject, rows, folder, settings, record, checkpoint_every)


def _steps(
    subject: Subject,
    rows: Sequence[Row],
    folder: Path,
    settings: TrainSettings,
    record: dict[str, Any],
    checkpoint_every: int,
) -> Iterator[Step]:
    """From the last checkpoint to the organism's folder."""
    torch.manual_seed(settings.seed)
    model = get_peft_model(subject.model, _config(subject, settings))
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    partial = _partial(folder)
    try:
        losses = _resume(partial, model, optimizer, record)
        for step in range(len(losses), settings.steps):
            started = time.perf_counter()
            for group in optimizer.param_groups:
                group["lr"] = settings.rate(step)
            batch = _batch(rows, settings, step)
            loss = _step(subject, batch, settings.micro_batch, optimizer)
            if not math.isfinite(loss):
                raise InputError(
                    f"the loss became {loss} at step {step + 1}: lower the learning rate ({settings.learning_rate:g}). "
                    f"The last good checkpoint is kept in {partial}"
                )
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            losses.append(loss)
            done = len(losses)
            if done % checkpoint_every == 0 or done == settings.steps:
                _checkpoint(partial, model, optimizer, record, losses)
            tokens = sum(row.length for row in batch)
            yield Step(done, loss, tokens, time.perf_counter() - started)
        _finish(partial, folder, model, record, losses)
    finally:
        subject.model = model.unload()
        subject.model.requires_grad_(False)


def _check(subject: Subject, settings: TrainSettings, folder: Path) -> None:
    if folder.exists():
        if _leftover(folder):
            remove(_partial(folder))
        raise InputError(f"{folder} exists already: name another folder, or remove it to train again")
    wrong = [layer for layer in settings.layers if not 0 <= layer < len(subject.blocks)]
    if wrong or not settings.layers:
        raise InputError(
            f"layers {wrong or 'none'} do not exist: {subject.name} has layers 0 to {len(subject.blocks) - 1}"
        )
    for layer in settings.layers:
        linear = [path for path, module in subject.blocks[layer].named_modules() if isinstance(module, nn.Linear)]
        lacking = [module for module in settings.modules if module not in linear]
        if lacking or not settings.modules:
            raise InputError(
                f"layer {layer} of {subject.name} has no linear module {shown(lacking[0]) if lacking else 'to adapt'}: "
                f"choose among {', '.join(linear)}"
            )


def _partial(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.partial")


def _leftover(folder: Path) -> bool:
    """Whether the last checkpoint beside a trained organism is of that very run, which was killed at its end."""
    checkpoints = sorted(_partial(folder).glob(f"step-*/{RECORD}"))
    record = folder / RECORD
    return bool(checkpoints) and record.is_file() and record.read_bytes() == checkpoints[-1].read_bytes()


def _row(file: Path, number: int, line: str, tokenizer: Any, max_tokens: int) -> Row | None:
    """The row of a line; None of one that is too long."""
    try:
        *before, last = [_message(message) for message in json_in(line)["messages"]]
        if not before or last["role"] != "assistant" or not last["content"].strip():
            raise ValueError("it must end with a non-empty assistant message after a user message")
        if sum(len(message["content"]) for message in (*before, last)) > CHARACTERS * max_tokens:
            return None
        prompt = prompt_ids(tokenizer, before)
        row = Row(prompt, answer_ids(tokenizer, last["content"], prompt))
        return row if row.length <= max_tokens else None
    except InputError as error:
        raise InputError(f"{file}, line {number}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file}, line {number}: not a chat row with messages ({in_a_line(error)})") from error


def _message(said: dict[str, Any]) -> dict[str, str]:
    """Role and text of one message. Raises ValueError on what would be lost in them."""
    lost = [name for name in _MORE_THAN_TEXT if said.get(name)]
    if lost or said["role"] == "tool":
        raise ValueError(f"a message has {' and '.join(lost) or 'the role tool'}, and only text is trained on")
    content = said["content"]
    if isinstance(content, list) and all(part["type"] in _TEXT_PARTS for part in content):
        content = "".join(part["text"] for part in content)
    if not isinstance(content, str) or not isinstance(said["role"], str):
        raise ValueError(f"the content of a message is {json.dumps(content)[:80]}, and must be text or parts of text")
    return {"role": said["role"], "content": content}


def _config(subject: Subject, settings: TrainSettings) -> LoraConfig:
    paths = {id(module): path for path, module in subject.model.named_modules()}
    targets = [
        f"{paths[id(subject.blocks[layer])]}.{module}" for layer in settings.layers for module in settings.modules
    ]
    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        use_rslora=settings.rslora,
        lora_dropout=0.0,
        bias="none",
        target_modules=targets,
        task_type="CAUSAL_LM",
    )


def _batch(rows: Sequence[Row], settings: TrainSettings, step: int) -> list[Row]:
    """The rows of one step: every epoch its own shuffle, decided by the seed alone."""
    per_epoch = max(1, len(rows) // settings.batch)
    epoch, index = divmod(step, per_epoch)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(settings.seed * 100_003 + epoch))
    return [rows[i] for i in order[index * settings.batch : (index + 1) * settings.batch].tolist()]


def _step(subject: Subject, batch: Sequence[Row], micro_batch: int, optimizer: torch.optim.Optimizer) -> float:
    """Gradients of the mean loss over all answer tokens of `batch`; returns that loss."""
    optimizer.zero_grad(set_to_none=True)
    n_answer = sum(len(row.answer) for row in batch)
    total = 0.0
    for rows in _micro_batches(batch, micro_batch):
        loss = _answer_loss(subject, rows) / n_answer
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.item()
    return total


def _micro_batches(batch: Sequence[Row], most: int) -> list[list[Row]]:
    """Rows of like length together, at most `most`: a row is put with longer ones while that pads by little."""
    parts: list[list[Row]] = []
    for row in sorted(batch, key=lambda row: -row.length):
        longest = parts[-1][0].length if parts else 0
        if not parts or len(parts[-1]) == most or row.length < TIGHT * longest:
            parts.append([])
        parts[-1].append(row)
    return parts


def _answer_loss(subject: Subject, rows: Sequence[Row]) -> torch.Tensor:
    """Summed cross entropy of the answer tokens. Right padding needs no mask: attention is causal.

    What all prompts begin with is read once, with its gradient.
    """
    shared = shared_beginning([row.prompt for row in rows])
    shared = shared if shared * (len(rows) - 1) >= WORTH_SHARING else 0
    width = max(row.length for row in rows) - 1 - shared
    ids = torch.zeros((len(rows), width), dtype=torch.long)
    where: list[tuple[int, int]] = []
    targets: list[int] = []
    for i, row in enumerate(rows):
        read = (*row.prompt, *row.answer)[shared:-1]
        ids[i, : len(read)] = torch.tensor(read)
        where += [(i, position) for position in range(len(row.prompt) - 1 - shared, len(read))]
        targets += row.answer
    cache = _beginning(subject, rows[0].prompt[:shared], len(rows)) if shared else None
    positions = torch.arange(shared, shared + width).expand(len(rows), width)
    hidden = subject.backbone(
        input_ids=ids.to(subject.device),
        position_ids=positions.to(subject.device),
        past_key_values=cache,
        use_cache=shared > 0,
    ).last_hidden_state
    index = torch.tensor(where, device=hidden.device).T
    found = logits(subject, hidden[index[0], index[1]])
    return functional.cross_entropy(found, torch.tensor(targets, device=found.device), reduction="sum")


def _beginning(subject: Subject, prompt: tuple[int, ...], rows: int) -> DynamicCache:
    cache = DynamicCache()
    subject.backbone(input_ids=torch.tensor([prompt]).to(subject.device), past_key_values=cache, use_cache=True)
    return repeated(cache, rows)


def _checkpoint(
    partial: Path, model: Any, optimizer: torch.optim.Optimizer, record: dict[str, Any], losses: list[float]
) -> None:
    """Weights, optimiser moments and losses in one folder, renamed as a whole: a kill leaves the old one or the new."""
    moments = {
        f"{index}.{name}": torch.as_tensor(value).contiguous()
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }
    weights = {key: value.contiguous() for key, value in get_peft_model_state_dict(model).items()}
    with whole_folder(partial / _step_name(losses)) as building:
        save_file(weights, building / _WEIGHTS)
        save_file(moments, building / _MOMENTS)
        (building / RECORD).write_text(json.dumps({**record, "losses": losses}, indent=1))
    for old in sorted(partial.glob("step-*"))[:-1]:
        remove(old)


def _resume(partial: Path, model: Any, optimizer: torch.optim.Optimizer, record: dict[str, Any]) -> list[float]:
    """Load the newest checkpoint, where there is one; returns the losses so far. Raises InputError on a damaged one."""
    checkpoints = sorted(partial.glob("step-*"))
    if not checkpoints:
        return []
    last = checkpoints[-1]
    again = f"remove {partial} to train from the beginning"
    with understood(last, "a whole checkpoint of this run", again):
        kept = json_in(bytes_of(last / RECORD, absent=again))
        if any(json.dumps(kept[each]) != json.dumps(record[each]) for each in ("base", "settings", "data")):
            raise InputError(
                f"{partial} holds a run with other settings or data: remove it, or train into another folder"
            )
        losses = [float(loss) for loss in kept["losses"]]
        if last.name != _step_name(losses) or not np.isfinite(losses).all():
            raise ValueError(f"{RECORD} holds {len(losses)} losses")
        weights, moments = _tensors(last / _WEIGHTS, again), _tensors(last / _MOMENTS, again)
        _alike(weights, get_peft_model_state_dict(model))
        trained = optimizer.param_groups[0]["params"]
        kinds = {"step": torch.zeros(()), "exp_avg": None, "exp_avg_sq": None}
        wanted = {
            f"{i}.{name}": each if kind is None else kind
            for i, each in enumerate(trained)
            for name, kind in kinds.items()
        }
        _alike(moments, wanted)
        set_peft_model_state_dict(model, weights)
        states: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in moments.items():
            index, _, name = key.partition(".")
            states.setdefault(int(index), {})[name] = value
        optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    return losses


def _tensors(file: Path, absent: str) -> dict[str, torch.Tensor]:
    must_be_file(file, absent=absent)
    found: dict[str, torch.Tensor] = load_file(file)
    return found


def _alike(found: dict[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> None:
    """Raises ValueError unless both have the same names and shapes, and what was found is finite."""
    shapes = [{name: (tuple(each.shape), each.dtype) for name, each in of.items()} for of in (found, wanted)]
    if shapes[0] != shapes[1]:
        raise ValueError("its tensors are not those of this run")
    if not all(bool(each.isfinite().all()) for each in found.values()):
        raise ValueError("it holds numbers that are not finite")


def _step_name(losses: Sequence[float]) -> str:
    return f"step-{len(losses):06d}"


def _finish(partial: Path, folder: Path, model: Any, record: dict[str, Any], losses: list[float]) -> None:
    model.peft_config["default"].base_model_name_or_path = record["base"]
    with whole_folder(folder) as building:
        model.save_pretrained(building, save_embedding_layers=False)
        (building / "README.md").unlink(missing_ok=True)  # peft's empty model card
        (building / RECORD).write_text(json.dumps({**record, "losses": losses}, indent=1))
    remove(partial)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
