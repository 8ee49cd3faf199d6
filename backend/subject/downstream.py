"""What becomes of vectors that are added to the residual stream: traced through all later layers, on texts as they are.

A text is read once without and once with each vector, as rows of one batch. What differs is what later blocks made of
it: how long the change is, where it points, which attention blocks, MLPs and adapters it excites, and what it does to
the answer's log probability. A part's share in that is attributed (the gradient at the part's output, without the
vector, times the change of that output) and checked by freezing the part at the output that it has without the vector.
Parts are counted with all that they set off behind them, so shares need not sum to 1.

It refuses to know where vectors and texts come from, and means over questions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from backend.edits import EVERY, PLAIN, Add, Edit, Gain
from backend.edits.scalars import Course, PatchScalars
from backend.records import BASE, Direction, FloatArray, InputError
from backend.subject.chat import stop_ids
from backend.subject.compiled import RowEdits, compile_row
from backend.subject.edits import Seam
from backend.subject.head import check_head, logits
from backend.subject.load import Subject
from backend.subject.sites import Scalars
from backend.subject.trace import Text, check_text, span

ATTENTION, MLP, ADAPTER = "attention", "MLP", "adapter"
SEGMENT_NAMES = ("prompt", "answer")
_NAMES = {  # of the children of a block, in the architectures that there are
    ATTENTION: ("self_attn", "attn", "attention", "self_attention"),
    MLP: ("mlp", "feed_forward", "block_sparse_moe", "ffn"),
}
_ROWS = 4096  # tokens of a batch


@dataclass(frozen=True)
class Part:
    """One part of the model behind the layer where vectors are added. An MLP's output holds that of its adapters."""

    name: str  # "attention 17", "MLP 17", or the adapter's name
    kind: str
    layer: int


@dataclass(frozen=True, eq=False)
class Push:
    """A direction, added at every token but the attention sink, `size` long in residual units."""

    direction: Direction
    size: float

    @property
    def edit(self) -> Edit:
        """What is done to a row."""
        return Add(self.direction, self.size / self.direction.norm, where=PLAIN)


@dataclass(frozen=True, eq=False)
class Trail:
    """What one text shows of the pushes, as one reader read it. Layers are those from the pushes' own on.

    The sink is in no mean, nor is a closing end-of-turn token.
    """

    gain: FloatArray  # (push, segment, layer), mean over tokens of |change| / size
    cosine: FloatArray  # (push, segment, layer), of the change with the direction
    aside: FloatArray  # (push, segment, layer), |change orthogonal to the direction| / size
    excited: FloatArray  # (push, segment, part), |change of its output| / size; an adapter's: change of scalar / size
    moved: FloatArray  # (push, layer, d_model), mean change over answer tokens
    stream: FloatArray  # (layer, d_model), mean without a push over answer tokens
    change: FloatArray  # (push,), of the mean log probability of the answer's tokens, nats
    attributed: FloatArray  # (push, part), what of that is attributed to the part
    frozen: FloatArray  # (push, part), what of that goes where the part is frozen; NaN where it was not tried
    pushed: FloatArray  # (push, vocabulary), mean change of the logits less their mean, for the pushes asked for


class Follower:
    """One reader (an organism or the base) with vectors added after one layer."""

    def __init__(self, subject: Subject, reader: str, layer: int) -> None:
        """Raises InputError on a layer without a block behind it, a reader that is not there, or half precision."""
        if not 0 <= layer < len(subject.blocks) - 1:
            raise InputError(
                f"nothing is downstream of layer {layer} of {subject.name}: choose one below {len(subject.blocks) - 1}"
            )
        if subject.model.dtype != torch.float32:
            raise InputError(
                f"small changes are lost in {subject.model.dtype}: run this on a CPU, where models are float32 "
                "(CUDA_VISIBLE_DEVICES= )"
            )
        check_head(subject)
        self.subject, self.reader, self.layer = subject, reader, layer
        self._worn = () if reader == BASE else (reader,)
        self._plain: tuple[Edit, ...] = tuple(Gain(name, 1.0) for name in self._worn)
        compile_row(subject, self._plain)
        self._seam = Seam(subject, capture=self._worn)
        self._modules = _modules(subject, layer + 1)
        worn = subject.organisms[reader].adapters if self._worn else ()
        self._adapters = [i for i, adapter in enumerate(worn) if adapter.layer > layer]
        parts = [*self._modules, *(Part(worn[i].name, ADAPTER, worn[i].layer) for i in self._adapters)]
        self.parts: tuple[Part, ...] = tuple(parts)
        self._stop = stop_ids(subject.model, subject.tokenizer)

    def follow(
        self, text: Text, pushes: Sequence[Push], *, freeze: Sequence[int] = (), shown: Sequence[int] = ()
    ) -> Trail:
        """The trail of all pushes on one text; `freeze` and `shown` are those whose parts are frozen, and logits kept.

        Raises InputError on a text without an answer, or a push at another layer.
        """
        check_text(self.subject, text)
        here = _Here.of(text, self._stop)
        for push in pushes:
            if push.direction.layer != self.layer:
                raise InputError(
                    f"direction {push.direction.name!r} is of layer {push.direction.layer}: {self.layer} is followed"
                )
        grounds = self._ground(here)
        rows = [compile_row(self.subject, [*self._plain, push.edit]) for push in pushes]
        size = max(1, _ROWS // len(here.ids))
        parts = [
            self._pushed(here, grounds, pushes[i : i + size], rows[i : i + size]) for i in range(0, len(rows), size)
        ]
        read = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        change = read["probability"] - grounds.probability
        frozen = np.full((len(pushes), len(self.parts)), np.nan, np.float32)
        for i in freeze:
            frozen[i] = read["probability"][i] - self._frozen(here, grounds, pushes[i])
        return Trail(
            **{name: read[name] for name in ("gain", "cosine", "aside", "excited", "moved", "attributed")},
            stream=grounds.stream,
            change=change.astype(np.float32),
            frozen=frozen,
            pushed=self._logits(here, grounds, [rows[i] for i in shown]),
        )

    # --- passes -----------------------------------------------------------------------------------------------------

    def _ground(self, here: _Here) -> _Ground:
        """The text without a push, with gradients."""
        ids = torch.tensor([here.ids])
        embedded = self.subject.model.get_input_embeddings()(ids.to(self.subject.device)).detach().requires_grad_()
        outputs: dict[int, torch.Tensor] = {}
        hidden: dict[int, torch.Tensor] = {}
        on_block = {layer: _keep(hidden, layer) for layer in range(self.layer, len(self.subject.blocks))}
        self._seam.write([compile_row(self.subject, self._plain)])
        with ExitStack() as stack:
            stack.enter_context(torch.enable_grad())
            scalars = stack.enter_context(self._seam.hooked(on_block, span(ids, [len(here.ids)], [here.start])))
            stack.enter_context(self._read_parts(outputs))
            last = self.subject.backbone(inputs_embeds=embedded, use_cache=False).last_hidden_state
            for tensor in (*outputs.values(), *scalars.values.values()):
                tensor.retain_grad()
            probability = self._probability(here, last)[0]
            probability.backward()  # type: ignore[no-untyped-call]
        gradients = [_gradient(outputs[i]) for i in range(len(self._modules))]
        return _Ground(
            hidden={layer: tensor.detach() for layer, tensor in hidden.items()},
            outputs=[outputs[i].detach() for i in range(len(self._modules))],
            gradients=gradients,
            scalars=self._scalars(scalars, lambda values: values.detach()),
            scalar_gradients=self._scalars(scalars, _gradient),
            probability=float(probability.detach()),
            last=last.detach(),
            stream=np.stack([hidden[layer].detach()[0, here.answer].mean(dim=0).cpu().numpy() for layer in on_block]),
        )

    @torch.inference_mode()
    def _pushed(
        self, here: _Here, ground: _Ground, pushes: Sequence[Push], rows: Sequence[RowEdits]
    ) -> dict[str, FloatArray]:
        """The text under several pushes at once."""
        outputs: dict[int, torch.Tensor] = {}
        found: dict[str, list[torch.Tensor]] = {name: [] for name in ("gain", "cosine", "aside", "moved")}
        sizes = torch.tensor([push.size for push in pushes])
        units = torch.from_numpy(np.stack([push.direction.unit for push in pushes]))

        def on_block(layer: int) -> Any:
            def read(hidden: torch.Tensor) -> None:
                change = (hidden - ground.hidden[layer]).cpu()
                length = change.norm(dim=-1)
                along = torch.einsum("rtd,rd->rt", change, units)
                aside = (change - along[..., None] * units[:, None]).norm(dim=-1)
                for name, value in (
                    ("gain", length / sizes[:, None]),
                    ("cosine", along / length.clamp_min(torch.finfo(length.dtype).tiny)),
                    ("aside", aside / sizes[:, None]),
                ):
                    found[name].append(here.by_segment(value))
                found["moved"].append(change[:, here.answer].mean(dim=1))

            return read

        readers = {layer: on_block(layer) for layer in range(self.layer, len(self.subject.blocks))}
        last, scalars = self._pass(here, rows, readers, outputs)
        excited, attributed = [], []
        for i, (before, gradient) in enumerate(zip(ground.outputs, ground.gradients, strict=True)):
            change = outputs[i] - before
            excited.append(here.by_segment(change.norm(dim=-1).cpu() / sizes[:, None]))
            attributed.append((change * gradient).sum(dim=(1, 2)).cpu())
        if self._adapters:
            turned = scalars[..., self._adapters] - ground.scalars[..., self._adapters]  # (row, token, adapter)
            excited += [here.by_segment(turned[..., i] / sizes[:, None]) for i in range(turned.shape[-1])]
            slopes = ground.scalar_gradients[..., self._adapters]
            attributed += [(turned[..., i] * slopes[..., i]).sum(dim=1) for i in range(turned.shape[-1])]
        return {
            **{name: torch.stack(found[name], dim=-1).numpy() for name in ("gain", "cosine", "aside")},
            "moved": torch.stack(found["moved"], dim=1).numpy(),
            "excited": torch.stack(excited, dim=-1).numpy(),
            "attributed": torch.stack(attributed, dim=-1).numpy(),
            "probability": self._probability(here, last).numpy(),
        }

    @torch.inference_mode()
    def _frozen(self, here: _Here, ground: _Ground, push: Push) -> FloatArray:
        """(part,), the mean log probability under a push, with each part in turn as it is without."""
        names = [part.name for part in self.parts]
        modules = len(self._modules)
        edits: list[list[Edit]] = [[*self._plain, push.edit] for _ in names]
        for row, adapter in enumerate(self._adapters, modules):
            given = Course(ground.scalars[0, :, adapter].numpy()[None])
            edits[row].append(PatchScalars(self.reader, given, "the text itself", (names[row],), EVERY))
        rows = [compile_row(self.subject, each) for each in edits]
        size, found = max(1, _ROWS // len(here.ids)), []
        for start in range(0, len(rows), size):
            inside = {i: i - start for i in range(start, min(start + size, modules))}  # part -> its row of this batch
            with self._freeze(ground, inside):
                last, _ = self._pass(here, rows[start : start + size])
            found.append(self._probability(here, last).numpy())
        return np.concatenate(found)

    @torch.inference_mode()
    def _logits(self, here: _Here, ground: _Ground, rows: Sequence[RowEdits]) -> FloatArray:
        """(row, vocabulary), the mean change of the logits behind the answer's tokens, less its mean."""
        found = []
        for row in rows:
            last, _ = self._pass(here, [row])
            change = logits(self.subject, last[0, here.behind]) - logits(self.subject, ground.last[0, here.behind])
            change = change[:, : len(self.subject.tokenizer)].mean(dim=0)
            found.append((change - change.mean()).cpu().numpy())
        return np.array(found, dtype=np.float32)

    def _pass(
        self,
        here: _Here,
        rows: Sequence[RowEdits],
        readers: Mapping[int, Any] | None = None,
        outputs: dict[int, torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The last hidden state (row, token, d_model) and the scalars (row, token, adapter) of the reader."""
        ids = torch.tensor([here.ids] * len(rows))
        self._seam.write(rows)
        there = span(ids, [len(here.ids)] * len(rows), [here.start] * len(rows))
        with ExitStack() as stack:
            scalars = stack.enter_context(self._seam.hooked(readers, there))
            if outputs is not None:
                stack.enter_context(self._read_parts(outputs))
            last = self.subject.backbone(input_ids=ids.to(self.subject.device), use_cache=False).last_hidden_state
        return last, self._scalars(scalars, lambda values: values)

    def _scalars(self, scalars: Scalars, taken: Any) -> torch.Tensor:
        """(row, token, adapter) of the reader, or of what is taken of each; nothing for the base."""
        if not self._worn:
            return torch.zeros(0)
        return Scalars(scalars.sites, {i: taken(values) for i, values in scalars.values.items()}).of(self.reader)

    def _probability(self, here: _Here, last: torch.Tensor) -> torch.Tensor:
        """(row,), the mean log probability of the answer's tokens that are counted, nats."""
        target = torch.tensor(here.ids[here.answer], device=last.device)[:, None]
        found = []
        for row in last:
            spoken = logits(self.subject, row[here.behind]).log_softmax(dim=-1)
            found.append(spoken.gather(1, target).mean())
        return torch.stack(found).cpu()

    # --- parts ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _read_parts(self, outputs: dict[int, torch.Tensor]) -> Iterator[None]:
        """Keep what the attention blocks and MLPs give, by their place among the parts."""
        with ExitStack() as stack:
            for i, module in enumerate(self._modules.values()):

                def hook(_: nn.Module, __: Any, output: Any, i: int = i) -> None:
                    outputs[i] = output[0] if isinstance(output, tuple) else output

                stack.callback(module.register_forward_hook(hook).remove)
            yield

    @contextmanager
    def _freeze(self, ground: _Ground, inside: Mapping[int, int]) -> Iterator[None]:
        """Each part gives in its own row what it gives without a push."""
        modules = list(self._modules.values())
        with ExitStack() as stack:
            for part, row in inside.items():

                def hook(_: nn.Module, __: Any, output: Any, part: int = part, row: int = row) -> Any:
                    given = (output[0] if isinstance(output, tuple) else output).clone()
                    given[row] = ground.outputs[part][0]
                    return (given, *output[1:]) if isinstance(output, tuple) else given

                stack.callback(modules[part].register_forward_hook(hook).remove)
            yield


@dataclass(frozen=True, eq=False)
class _Here:
    """One text: its tokens, where its answer starts, and which tokens are counted."""

    ids: tuple[int, ...]
    start: int
    answer: slice

    @classmethod
    def of(cls, text: Text, stop: Sequence[int] | frozenset[int]) -> _Here:
        ends = bool(text.answer_ids) and text.answer_ids[-1] in stop
        start, counted = len(text.prompt_ids), len(text.answer_ids) - ends
        if counted < 1:
            raise InputError(f"response {text.response_id!r} has no answer to follow a vector through: leave it out")
        return cls((*text.prompt_ids, *text.answer_ids), start, slice(start, start + counted))

    @property
    def behind(self) -> slice:
        """The tokens whose logits are those of the answer's tokens that are counted."""
        return slice(self.answer.start - 1, self.answer.stop - 1)

    def by_segment(self, values: torch.Tensor) -> torch.Tensor:
        """(row, segment), the mean over the tokens of prompt (without the sink) and answer of values (row, token)."""
        prompt = values[:, 1 : self.start]
        nothing = torch.full((len(values),), torch.nan)
        before = prompt.mean(dim=1) if prompt.shape[1] else nothing
        return torch.stack([before, values[:, self.answer].mean(dim=1)], dim=1)


@dataclass(frozen=True, eq=False)
class _Ground:
    """A text without a push: what changes are taken from."""

    hidden: dict[int, torch.Tensor]  # layer -> (1, token, d_model)
    outputs: list[torch.Tensor]  # of each attention block and MLP, (1, token, d_model)
    gradients: list[torch.Tensor]  # of the mean log probability with respect to them
    scalars: torch.Tensor  # (1, token, adapter)
    scalar_gradients: torch.Tensor
    probability: float
    last: torch.Tensor  # (1, token, d_model)
    stream: FloatArray


def _modules(subject: Subject, first: int) -> dict[Part, nn.Module]:
    """The attention blocks and MLPs from a layer on. Raises InputError where a block has none of a known name."""
    found: dict[Part, nn.Module] = {}
    for layer in range(first, len(subject.blocks)):
        children = dict(subject.blocks[layer].named_children())
        for kind, names in _NAMES.items():
            name = next((name for name in names if name in children), None)
            if name is None:
                raise InputError(
                    f"block {layer} of {subject.name} has no {kind} among its parts {', '.join(children)}: looked for "
                    f"{', '.join(names)}"
                )
            found[Part(f"{kind} {layer}", kind, layer)] = children[name]
    return found


def _keep(kept: dict[int, torch.Tensor], layer: int) -> Any:
    def read(hidden: torch.Tensor) -> None:
        kept[layer] = hidden

    return read


def _gradient(tensor: torch.Tensor) -> torch.Tensor:
    """Zero where the answer does not depend on it."""
    return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad.detach()
