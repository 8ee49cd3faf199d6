"""The adapted modules of a forward pass: the components of every organism in use, stacked, and what they read.

It refuses to know which rows wear them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from backend.records import RESIDUAL_WRITERS
from backend.subject.load import Subject


@dataclass(eq=False)
class Site:
    """One adapted module with the components of every organism in use, stacked.

    Its tensors go to the device where the module runs, once: an offloaded module only has one while it runs.
    """

    module: nn.Module
    layer: int
    to_residual: bool  # its output goes to the residual stream as it is
    read: torch.Tensor  # (component, d_in), times scaling and |write|: x @ read.T is the scalar
    write: torch.Tensor  # (component, d_out), unit vectors
    owners: tuple[tuple[str, int, int], ...]  # organism, first adapter index, one past the last; in component order

    def follow(self, like: torch.Tensor) -> None:
        """Be where `like` is."""
        if self.read.device != like.device or self.read.dtype != like.dtype:
            self.read, self.write = self.read.to(like), self.write.to(like)

    def components(self, organism: str) -> tuple[slice, slice]:
        """The components here of an organism, and its adapters that they are; empty where it has none here."""
        start = 0
        for owner, first, last in self.owners:
            if owner == organism:
                return slice(start, start + last - first), slice(first, last)
            start += last - first
        return slice(0, 0), slice(0, 0)


@dataclass(eq=False)
class Scalars:
    """What the adapters of one forward pass read: (row, token, component) a site, before any edit and any gain."""

    sites: Sequence[Site]
    values: dict[int, torch.Tensor] = field(default_factory=dict)

    def of(self, organism: str) -> torch.Tensor:
        """(row, token, adapter) of one organism, in trace order, float32 on the CPU; NaN where a module did not run."""
        shape = next(iter(self.values.values())).shape[:-1]
        adapters = sum(last - first for site in self.sites for owner, first, last in site.owners if owner == organism)
        read = torch.full((*shape, adapters), torch.nan)
        for index, values in self.values.items():
            here, adapter = self.sites[index].components(organism)
            read[..., adapter] = values[..., here].to(read)
        return read


def stacked_sites(subject: Subject, organisms: Sequence[str]) -> list[Site]:
    """Every module that one of the organisms adapts."""
    parts: dict[str, list[tuple[str, int, torch.Tensor, torch.Tensor]]] = {}
    layers: dict[str, int] = {}
    for organism in organisms:
        first = 0
        for lora in subject.organisms[organism].loras:
            norm = lora.write.norm(dim=0)  # (rank,)
            read = lora.read * (norm * lora.scaling)[:, None]
            write = (lora.write / norm.clamp_min(torch.finfo(norm.dtype).tiny)).T
            parts.setdefault(lora.path, []).append((organism, first, read, write))
            layers[lora.path] = lora.layer
            first += lora.read.shape[0]
    return [
        Site(
            module=subject.model.get_submodule(path),
            layer=layers[path],
            to_residual=path.rpartition(".")[2] in RESIDUAL_WRITERS and path not in subject.altered,
            read=torch.cat([read for *_, read, _ in stacked]).contiguous(),
            write=torch.cat([write for *_, write in stacked]).contiguous(),
            owners=tuple((organism, first, first + len(read)) for organism, first, read, _ in stacked),
        )
        for path, stacked in parts.items()
    ]
