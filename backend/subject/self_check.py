"""One adapter against its own arithmetic, for each organism when it is loaded: does the seam do what the weights say?

The output of an adapted module must gain scaling * B A x, and the scalar of a component be scaling * |B| * (A x),
computed here by another way than the seam's. Two passes of six tokens, ended behind the deepest module looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Any

import numpy as np
import torch
from torch import nn

from backend.records import InputError
from backend.subject.adapters import Lora
from backend.subject.edits import RowEdits, Seam
from backend.subject.load import Subject
from backend.subject.out_of_memory import ran_out

_ROWS, _TOKENS = 2, 3
_EXACT, _SHORT = 1e-3, 3e-2  # share by which float32, and shorter numbers, may be off
_LARGEST = 1e6  # gain at which what is written is as large as the module's own output, so that a fault shows

_Passed = dict[str, tuple[torch.Tensor, torch.Tensor]]  # path -> what a module read and what left it


class _Reached(Exception):
    """Raised behind the last module that is looked at, to end the forward pass there."""


@torch.no_grad()
def check_arithmetic(subject: Subject, organism: str) -> None:
    """Raise InputError, naming organism and module, unless one adapted module of each kind does its own arithmetic."""
    places: dict[str, tuple[Lora, slice]] = {}
    first = 0
    for lora in subject.organisms[organism].loras:
        rank = lora.read.shape[0]
        places.setdefault(lora.module, (lora, slice(first, first + rank)))
        first += rank
    loras = [lora for lora, _ in places.values()]
    gains = np.ones(first, dtype=np.float32)
    for path, (read, own) in _passed(subject, loras).items():
        lora, at = next(place for place in places.values() if place[0].path == path)
        written = float(_written(lora, read).norm())
        gains[at] = min(float(own.float().norm()) / written, _LARGEST) if written else 1.0
    seam = Seam(subject)
    seam.write([RowEdits((), {}, {organism: gains}, {})] * _ROWS)
    try:
        with seam.hooked() as scalars:
            passed = _passed(subject, loras)
            told = scalars.of(organism)
    except (IndexError, RuntimeError, TypeError, StopIteration) as error:
        if isinstance(error, RuntimeError) and ran_out(error):
            raise
        one_of = " or ".join(lora.path for lora in loras)
        raise _fault(subject, organism, one_of, f"cannot be read or written ({type(error).__name__})") from error
    for lora, at in places.values():
        read, output = passed[lora.path]
        added = (output - subject.model.get_submodule(lora.path).forward(read)).float() / float(gains[at][0])
        if share := _off(told[..., at], _scalars(lora, read), read.dtype):
            raise _fault(subject, organism, lora.path, f"has scalars that are {share} off scaling * |B| * (A x)")
        if share := _off(added, _written(lora, read), read.dtype):
            raise _fault(subject, organism, lora.path, f"writes what is {share} off scaling * B A x")


def _passed(subject: Subject, loras: Sequence[Lora]) -> _Passed:
    """What the modules read and what left them, in one pass; hooks that are there already have run before."""
    found: _Passed = {}

    def keep(path: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            [read] = [each for each in (*inputs, *named.values()) if isinstance(each, torch.Tensor)]
            found[path] = read, output
            if len(found) == len(loras):
                raise _Reached

        return hook

    ids = torch.arange(_ROWS * _TOKENS).reshape(_ROWS, _TOKENS) % subject.vocabulary
    with ExitStack() as stack:
        for lora in loras:
            module = subject.model.get_submodule(lora.path)
            stack.callback(module.register_forward_hook(keep(lora.path), with_kwargs=True).remove)
        with suppress(_Reached):
            subject.model.base_model(input_ids=ids.to(subject.device), use_cache=False)
    return found


def _scalars(lora: Lora, read: torch.Tensor) -> torch.Tensor:
    """scaling * |B| * (A x) of every component."""
    amounts = nn.functional.linear(read.float(), lora.read.to(read.device).float())
    lengths: torch.Tensor = lora.write.to(read.device).float().norm(dim=0)
    return amounts * (lengths * lora.scaling)


def _written(lora: Lora, read: torch.Tensor) -> torch.Tensor:
    """scaling * B A x, as peft has it."""
    down, up = (each.to(read.device).float() for each in (lora.read, lora.write))
    return nn.functional.linear(nn.functional.linear(read.float(), down), up) * lora.scaling


def _off(found: torch.Tensor, right: torch.Tensor, dtype: torch.dtype) -> str:
    """How far off, as a share in words; empty where it is not."""
    found, right = found.float().cpu().reshape(-1), right.cpu().reshape(-1)
    share = float((found - right).norm() / right.norm().clamp_min(1e-30)) if found.shape == right.shape else 1.0
    return "" if share <= (_EXACT if dtype == torch.float32 else _SHORT) else f"{share:.0%}"


def _fault(subject: Subject, organism: str, path: str, what: str) -> InputError:
    return InputError(
        f"the organism {organism!r} cannot be worn by {subject.name}: its module {path} {what}. Its weights are whole, "
        "so this is a fault of the program with this model, and answers and scalars would be wrong. EM_SELF_CHECK=0 "
        "loads it all the same"
    )
