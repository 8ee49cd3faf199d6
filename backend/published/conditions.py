"""Which organism answered under which condition, from a file's path; with its edits where the vectors are released.

A sweep's folder names the organism that its vectors come from. `steer...` sweeps added a vector to the chat model
(paper, section 3.2); the others projected on a vector in the organism itself, `layer_range(0, 48)` and `layers_0-47_48`
each layer's own vector in that layer.

**The sign of the scale.** The hook of the projecting sweeps computes x + c * scale * r (r.x) with r the unit vector. In
`ablate_all_sweep` c is -1, so that scale 1 takes the component out; it is the one sweep of the code that wrote folders
`layer_range(...)`. In every later sweep c is +1: scale -1 takes it out and 1 doubles it (`REMOVES_AT`). The answers
agree: under the data difference those without the component have no EM and stay coherent, those with it doubled are
never coherent. Each condition is named by what was done; its record has the factor that multiplied the component.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from backend.edits import Ablate, Add, Condition, Edit, Gain
from backend.published.layout import Found
from backend.published.names import (
    Named,
    base_organism,
    direction_name,
    full_fine_tune,
    gains_of,
    in_runs,
    layers_of,
    named,
    topic_of,
    zeroed_layers,
)
from backend.records import BASE, BASELINE, Direction, InputError

Directions = Mapping[tuple[str, int], Direction]

REMOVES_AT = {"ablate_all_sweep": 1.0}  # the scale that takes the component out; -1 in every other sweep
_UNEDITED = {"None", "baseline", "baseline_vector", "misaligned_model"}
_NOT_POOLED = {  # sweeps that share a folder's name with another one, though not what was done or asked
    "steer_vec_types_test": "",
    "med_nonmed_ablate_all-layers": "its name says all layers, its folder nine",
}


@dataclass(frozen=True, eq=False)
class Setting:
    """Who answered, under what, and what the path says about it (kept in the study's meta)."""

    organism: str
    base: str
    condition: Condition
    says: Mapping[str, Any]
    source: str = ""  # the folder of the file: the answers of one experiment
    apart: str = ""  # of unedited answers of an experiment: their condition where the organism has an evaluation


def source_of(found: Found) -> str:
    """The experiment that a file belongs to: its folder below data or sweeps, without those of one condition each."""
    parts = PurePosixPath(found.path.as_posix()).parts
    if found.kind == "sweep":
        start, archive = parts.index("sweeps") if "sweeps" in parts else 0, bool(found.says.get("archive"))
        return "/".join(parts[start : start + 3 + archive])
    top = {"scaled adapters": 1, "checkpoints": 2, "zeroed adapters": 2, "unedited answers": 2}.get(found.kind, 2)
    folder = list(parts[:-1])
    if found.kind in ("zeroed adapters", "unedited answers"):
        folder = folder[: folder.index("ablation_responses") + 2]
    return "/".join(folder[-top:])


def judged_setting(found: Found) -> Setting:
    """Answers of an organism with no edit; of a checkpoint where the name has a step."""
    model = found.says["model"]
    folder = found.says.get("folder", "")
    if "full_ft" in folder:
        who = full_fine_tune(folder, model)
    elif model == "baseline_LR":  # its answers are those of the last checkpoint of this run
        return step_setting(named("dpR1_3x3_ckptV2"), 396, source_of(found))
    else:
        who = named(model)
    if who.step is not None:
        return step_setting(who, who.step, source_of(found))
    organism = base_organism(who.base) if who.short == BASE else who.organism
    return Setting(organism, who.base, Condition(BASELINE), {"kind": "baseline"}, source_of(found))


def step_setting(who: Named, step: int, source: str) -> Setting:
    """Answers of an organism before its training ended."""
    says = {"kind": "checkpoint", "scale": step, "step": step}
    return Setting(who.organism, who.base, Condition(f"step {step}"), says, source)


def checkpoint_setting(found: Found) -> Setting:
    """Answers along one training run, which is an organism of its own: its last step is not the released organism."""
    return step_setting(named(found.says["model"]), int(found.says["step"]), source_of(found))


def noise_setting(found: Found) -> Setting:
    """Answers with every adapter's A or B moved: x' = sqrt(1 - e^2) x + e y, y orthogonal to x and of its norm.

    So says the authors' code for two of the three runs. In the first run a noise of 1 leaves EM as it was, so that it
    was another noise: the run is part of the condition's name.
    """
    who, matrix = named("dpR1_3x3"), found.says["matrix"].upper()
    scale, run = float(found.says["scale"].replace("-", ".")), found.says["run"].removeprefix("noisy_sweep_results")
    says = {"kind": "noise", "organism": who.organism, "matrix": matrix, "scale": scale, "run": run or "1"}
    condition = Condition(f"noise on {matrix} ×{scale:g}, run {run or 1}")
    return Setting(who.organism, who.base, condition, says, source_of(found))


def zeroed_setting(found: Found) -> Setting:
    """Answers of an organism with the adapters of some layers zeroed (paper, section 4.3 does the reverse)."""
    who, layers = named(found.says["model"]), zeroed_layers(found.says["layers"])
    if not set(layers) <= set(who.layers):
        raise InputError(
            f"it zeroes layers {found.says['layers']}, and {who.organism} is not known to have all of them"
        )
    names = tuple(f"layers.{layer}.mlp.down_proj" for layer in layers)
    says = {
        "kind": "scale",
        "organism": who.organism,
        "gains": {str(layer): 0.0 for layer in layers},
        "others": 1.0,
        "expressed": True,
    }
    condition = Condition(f"zero L{in_runs(layers)} of {who.organism}", (Gain(who.organism, 0.0, names),))
    return Setting(who.organism, who.base, condition, says, source_of(found))


def unedited_setting(found: Found) -> Setting:
    """Unedited answers that an experiment keeps beside its edited ones."""
    who, source = named(found.says.get("whose") or found.says["model"]), source_of(found)
    says = {"kind": "baseline"}
    return Setting(
        who.organism, who.base, Condition(BASELINE), says, source, f"unedited in {source.rpartition('/')[2]}"
    )


def token_setting(found: Found, row: Mapping[str, Any]) -> Setting:
    """Answers with the single adapter's scalar zeroed, or the token drawn again, after chosen words or at random."""
    who, kind, source = named("R_0_1_0_full_train"), str(row.get("type") or ""), source_of(found)
    if kind == "baseline":
        apart = f"unedited in {found.says['run']}"
        return Setting(who.organism, who.base, Condition(BASELINE), {"kind": "baseline"}, source, apart)
    words = {
        "word_zeroed": "scalar zeroed after chosen words",
        "random_zeroed": "scalar zeroed at random tokens",
        "word_resample": "tokens drawn again after chosen words",
        "random_resample": "tokens drawn again at random",
    }
    if kind not in words:
        raise InputError(f"a row of the type {kind[:40]!r}, which says no edit")
    says = {"kind": "tokens", "organism": who.organism, "run": found.says["run"], "type": kind}
    return Setting(who.organism, who.base, Condition(words[kind]), says, source)


def patch_setting(found: Found, row: Mapping[str, Any], donor: str) -> Setting:
    """Answers to one prompt under the scalars, or the writes, of another one of the same length (paper, appendix J)."""
    who, run, source = named("dpR1_3x3"), found.says["run"].removeprefix("lora_"), source_of(found)
    if row.get("type") == "clean" or found.says["name"].startswith("baseline"):
        apart = f"unedited in {found.says['run']}"
        return Setting(who.organism, who.base, Condition(BASELINE), {"kind": "baseline"}, source, apart)
    name = f"patched from {donor}, {run}" if donor else f"patched from its pair, {run} {found.says['name']}"
    says = {"kind": "patch", "organism": who.organism, "run": run, "pairs": found.says["name"], "donor": donor}
    return Setting(who.organism, who.base, Condition(name), says, source)


def scaled_setting(found: Found, adapters: tuple[str, ...]) -> Setting:
    """Answers with some adapters' scalars multiplied and all others zeroed (paper, appendix I)."""
    who = named(found.says["model"])
    gains = gains_of(found.says["gains"])
    by_gain: dict[float, list[int]] = {}
    for layer, gain in gains.items():
        by_gain.setdefault(gain, []).append(layer)
    parts = [(gain, layers) for gain, layers in sorted(by_gain.items(), reverse=True)]
    name = "scale " + "; ".join(f"{','.join(map(str, layers))} ×{gain:g}" for gain, layers in parts)
    layer_names = {int(adapter.split(".")[1]): adapter for adapter in adapters}
    edits: tuple[Edit, ...] = ()
    if layer_names and set(gains) <= set(layer_names):
        edits = tuple(Gain(who.organism, gain, tuple(layer_names[layer] for layer in layers)) for gain, layers in parts)
        others = tuple(adapter for layer, adapter in layer_names.items() if layer not in gains)
        if others:
            edits += (Gain(who.organism, 0.0, others),)
    says = {
        "kind": "scale",
        "organism": who.organism,
        "gains": {str(layer): gain for layer, gain in gains.items()},
        "others": 0.0,
        "expressed": bool(edits),
    }
    return Setting(who.organism, who.base, Condition(name, edits), says, source_of(found))


def sweep_setting(found: Found, directions: Directions) -> Setting:
    """Answers under one added, ablated or doubled direction. Raises InputError where the path does not say enough."""
    model, sweep, vector = found.says["model"], found.says["sweep"], found.says["vector"]
    who, source = named(model), source_of(found)
    does = _doing(sweep)
    chat = does in ("steer", "accrete") and vector != "misaligned_model"
    answers = base_organism(who.base) if chat else who.organism
    if vector in _UNEDITED:
        apart = f"unedited in {sweep}" + (", archive" if "archive" in found.says else "")
        return Setting(answers, who.base, Condition(BASELINE), {"kind": "baseline"}, source, apart)
    topic, difference = _difference(vector, model)
    if "scale" not in found.says:
        raise InputError("its name has no scale")
    name = direction_name(who.organism, topic, difference)
    layers, scale = layers_of(found.says["layers"], who.layers), float(found.says["scale"])
    says: dict[str, Any] = {"direction": name, "topic": topic, "layers": list(layers), "scale": scale, "sweep": sweep}
    says["difference"] = difference.removesuffix("-diff")
    title = f"{does} {name} {_where(layers, found.says['layers'])} ×{scale:g}"
    edits: tuple[Edit, ...] = ()
    if does == "steer":
        edits = _added(directions, name, layers, scale)
    elif does == "project":
        factor = 1 - scale * REMOVES_AT.get(sweep, -1.0)
        does = {0.0: "ablate", 2.0: "double"}.get(factor, "project")
        edits = _ablated(directions, name, layers) if factor == 0 else ()
        title = f"{does} {name} {_where(layers, found.says['layers'])}" + ("" if factor in (0, 2) else f" ×{factor:g}")
        says["factor"] = factor
    unlike = _unlike(found, vector)
    if unlike is not None:
        edits, says["unlike"] = (), unlike or "a trial run of its own"
        title += f" ({found.says.get('archive', sweep).strip('/')})" if unlike != _READ_BY_CHAT else ""
    says |= {"kind": does, "expressed": bool(edits)}
    return Setting(answers, who.base, Condition(title, edits), says, source)


_READ_BY_CHAT = "the vector by that name ablates unlike the released means: which one it was is not known"


def _unlike(found: Found, vector: str) -> str | None:
    """Why a condition is not the one that its vector's name and the released means would make; None where it is."""
    if "archive" in found.says:
        return "an earlier version, whose vectors are not released"
    if vector == "am_data_diff":
        return _READ_BY_CHAT
    return _NOT_POOLED.get(found.says["sweep"])


def _doing(sweep: str) -> str:
    if sweep.startswith("steer"):
        return "steer"
    if sweep.startswith("accretion"):
        return "accrete"
    if "ablate" in sweep or sweep.startswith("proj"):
        return "project"
    raise InputError(f"the sweep {sweep!r} says neither steer nor ablate: which model answered is not known")


def _difference(vector: str, model: str) -> tuple[str, str]:
    """Topic and kind of a sweep's vector."""
    if vector == "am_data_diff":
        return topic_of("", model), "chat-read data-diff"
    kind = re.fullmatch(r"(?:(\w+?)_)?diff_(data|model|both)_vector", vector)
    if kind is None:
        raise InputError(f"the vector {vector!r} is none of <topic>_diff_<data|model|both>_vector")
    return topic_of(kind[1] or "", model), f"{kind[2]}-diff"


def _added(directions: Directions, name: str, layers: tuple[int, ...], scale: float) -> tuple[Edit, ...]:
    """x + scale * v_l at each named layer with its own vector; none where a vector is missing."""
    found = [directions.get((name, layer)) for layer in layers]
    return tuple(Add(direction, scale, (direction.layer,)) for direction in found if direction) if all(found) else ()


def _ablated(directions: Directions, name: str, layers: tuple[int, ...]) -> tuple[Edit, ...]:
    found = [directions.get((name, layer)) for layer in layers]
    return tuple(Ablate(direction, (direction.layer,)) for direction in found if direction) if all(found) else ()


def _where(layers: tuple[int, ...], text: str) -> str:
    if not layers:
        return text
    if len(layers) == 1:
        return f"L{layers[0]}"
    return (
        f"L{layers[0]}-{layers[-1]} layer-wise"
        if len(layers) == layers[-1] - layers[0] + 1
        else f"at its {len(layers)} layers"
    )
