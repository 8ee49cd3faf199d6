"""The keys and values that rows keep of what they have read: rows enter, leave and move, and grow by a position a step.

Knows transformers' caches. A cache is (row, head, position, number) a layer, padded on the left.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer


class Buffer(DynamicLayer):  # type: ignore[misc]
    """Keys and values in buffers with room to grow, so that a step writes one position instead of copying them all."""

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """These behind what is there; returns all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
            self._room = (self.keys, self.values)
        old, new = self.keys.shape[2], self.keys.shape[2] + key_states.shape[2]
        if new > self._room[0].shape[2]:
            size = max(new + 32, new * 5 // 4)
            self._room = (_grown(self.keys, old, size), _grown(self.values, old, size))
        for room, states in zip(self._room, (key_states, value_states), strict=True):
            room[:, :, old:new] = states
        self.keys, self.values = (room[:, :, :new] for room in self._room)
        return self.keys, self.values

    def replace(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Hold these tensors from now on."""
        self.keys, self.values = keys, values
        self._room = (keys, values)


def new_cache() -> Cache:
    """An empty one."""
    return Cache(layer_class_to_replicate=Buffer)


def cache_bytes(cache: Cache) -> int:
    """What its keys and values take."""
    return sum(t.numel() * t.element_size() for layer in cache.layers for t in (layer.keys, layer.values))


def _grown(tensor: torch.Tensor, used: int, size: int) -> torch.Tensor:
    room = tensor.new_empty((*tensor.shape[:2], size, tensor.shape[3]))
    room[:, :, :used] = tensor[:, :, :used]
    return room


def keep_rows(cache: Cache, rows: torch.Tensor, drop: int = 0) -> None:
    """Keep (or repeat) these rows, without the first `drop` positions."""
    for layer in cache.layers:
        index = rows.to(layer.keys.device)
        layer.replace(layer.keys[index, :, drop:], layer.values[index, :, drop:])


def merged(old: Cache, new: Cache) -> Cache:
    """Both caches' rows in one, the narrower padded on the left. Where it raises (no memory), both are as before."""
    width = max(old.get_seq_length(), new.get_seq_length())
    joined = []
    for first, second in zip(old.layers, new.layers, strict=True):
        pairs = zip((first.keys, first.values), (second.keys, second.values), strict=True)
        joined.append([torch.cat([_padded(a, width), _padded(b, width)]) for a, b in pairs])
    for layer, states in zip(old.layers, joined, strict=True):
        layer.replace(*states)
    return old


def _padded(tensor: torch.Tensor, width: int) -> torch.Tensor:
    return torch.nn.functional.pad(tensor, (0, 0, width - tensor.shape[2], 0))


def placed(cache: Cache, source: torch.Tensor, kept: torch.Tensor) -> None:
    """Row i becomes the first `kept[i]` positions of row `source[i]`, moved to the right end; what is left of them is
    padding."""
    width = cache.get_seq_length()
    positions = (torch.arange(width) - (width - kept[:, None])).clamp_min(0)  # (row, position)
    for layer in cache.layers:
        rows, places = source[:, None].to(layer.keys.device), positions.to(layer.keys.device)
        layer.replace(*(t[rows, :, places].transpose(1, 2).contiguous() for t in (layer.keys, layer.values)))
