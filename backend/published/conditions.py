"""Which organism answered under which condition, from a file's path; with its edits where the vectors are released.

A sweep's folder names the organism that its vectors come from. `steer...` sweeps steered the chat model (paper, section
3.2), `ablate...` sweeps ablated the organism itself, `layer_range(0, 48)` each layer's own direction out of that layer.
In `ablate...` sweeps the file name's scale is 1 in the release although the published code ablates at -1: the answers
decide (coherent and without EM under the data difference, as in the paper), so scale 1 is read as ablation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backend.edits import Ablate, Add, Condition, Edit, Gain
from backend.published.layout import (
    Found,
    base_organism,
    direction_name,
    gains_of,
    layers_of,
    organism_of,
    topic_of,
)
from backend.records import BASELINE, Direction, InputError

Directions = Mapping[tuple[str, int], Direction]


@dataclass(frozen=True, eq=False)
class Setting:
    """Who answered, under what, and what the path says about it (kept in the study's meta)."""

    organism: str
    base: str
    condition: Condition
    says: Mapping[str, Any]


def judged_setting(found: Found) -> Setting:
    """Answers of a released organism with no edit."""
    organism, base = organism_of(found.says["model"])
    return Setting(organism, base, Condition(BASELINE), {"kind": "baseline"})


def scaled_setting(found: Found, adapters: tuple[str, ...]) -> Setting:
    """Answers with some adapters' scalars multiplied and all others zeroed (paper, appendix I)."""
    organism, base = organism_of(found.says["model"])
    gains = gains_of(found.says["gains"])
    by_gain: dict[float, list[int]] = {}
    for layer, gain in gains.items():
        by_gain.setdefault(gain, []).append(layer)
    parts = [(gain, layers) for gain, layers in sorted(by_gain.items(), reverse=True)]
    name = "scale " + "; ".join(f"{','.join(map(str, layers))} ×{gain:g}" for gain, layers in parts)
    layer_names = {int(adapter.split(".")[1]): adapter for adapter in adapters}
    edits: tuple[Edit, ...] = ()
    if layer_names and set(gains) <= set(layer_names):
        edits = tuple(Gain(organism, gain, tuple(layer_names[layer] for layer in layers)) for gain, layers in parts)
        others = tuple(adapter for layer, adapter in layer_names.items() if layer not in gains)
        if others:
            edits += (Gain(organism, 0.0, others),)
    says = {
        "kind": "scale",
        "organism": organism,
        "gains": {str(layer): gain for layer, gain in gains.items()},
        "others": 0.0,
        "expressed": bool(edits),
    }
    return Setting(organism, base, Condition(name, edits), says)


def sweep_setting(found: Found, directions: Directions) -> Setting:
    """Answers under one added or ablated direction. Raises InputError where the path does not say enough."""
    model, sweep, vector = found.says["model"], found.says["sweep"], found.says["vector"]
    organism, base = organism_of(model)
    steered = sweep.startswith("steer")
    if not steered and not sweep.startswith("ablate"):
        raise InputError(f"the sweep {sweep!r} says neither steer nor ablate: which model answered is not known")
    answers = base_organism(base) if steered else organism
    if vector in ("None", "baseline"):
        return Setting(answers, base, Condition(BASELINE), {"kind": "baseline"})
    kind = re.fullmatch(r"(?:(\w+?)_)?diff_(data|model|both)_vector", vector)
    if kind is None:
        raise InputError(f"the vector {vector!r} is none of <topic>_diff_<data|model|both>_vector")
    if "scale" not in found.says:
        raise InputError("its name has no scale")
    topic = topic_of(kind[1] or "", model)
    name = direction_name(organism, topic, f"{kind[2]}-diff")
    layers, scale = layers_of(found.says["layers"]), float(found.says["scale"])
    edits = _added(directions, name, layers, scale) if steered else _ablated(directions, name, layers, scale)
    where = _where(layers, found.says["layers"])
    title = f"steer {name} {where} ×{scale:g}" if steered else f"ablate {name} {where}"
    if not steered and abs(scale) != 1:
        title += f" ×{scale:g}"
    says = {
        "kind": "steer" if steered else "ablate",
        "direction": name,
        "topic": topic,
        "difference": kind[2],
        "layers": list(layers),
        "scale": scale,
        "sweep": sweep,
        "expressed": bool(edits),
    }
    return Setting(answers, base, Condition(title, edits), says)


def _added(directions: Directions, name: str, layers: tuple[int, ...], scale: float) -> tuple[Edit, ...]:
    """x + scale * v_l at each named layer with its own vector; none where a vector is missing."""
    found = [directions.get((name, layer)) for layer in layers]
    return tuple(Add(direction, scale, (direction.layer,)) for direction in found if direction) if all(found) else ()


def _ablated(directions: Directions, name: str, layers: tuple[int, ...], scale: float) -> tuple[Edit, ...]:
    found = [directions.get((name, layer)) for layer in layers]
    if abs(scale) != 1 or not all(found):
        return ()
    return tuple(Ablate(direction, (direction.layer,)) for direction in found if direction)


def _where(layers: tuple[int, ...], text: str) -> str:
    if not layers:
        return text
    return f"L{layers[0]}" if len(layers) == 1 else f"L{layers[0]}-{layers[-1]} layer-wise"
