"""Mean activations of one organism and topic into directions per layer.

`model-{a|m}_data-{a|m}_hs_<topic>.pt` = {"question" | "answer": {"layer_<l>": (d_model,)}}: the mean output of block l
over all answer tokens of aligned (data-a) or misaligned (data-m) texts, read by the chat model (model-a) or the
organism (model-m). The answer includes the assistant header and the end-of-turn suffix, pooled over tokens. The three
differences are those of the authors' steering code; the fourth shows how much of the first is a property of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from backend.published.layout import Found
from backend.published.names import direction_name, named, topic_of
from backend.published.report import Report
from backend.published.torchfile import read_torch
from backend.records import Direction, FloatArray, InputError

DATA_DIFF, MODEL_DIFF, BOTH_DIFF = "data-diff", "model-diff", "both-diff"
_KINDS: tuple[tuple[str, str, str, str], ...] = (  # kind, minuend and subtrahend as (model, text), what it says
    (DATA_DIFF, "mm", "ma", "misaligned minus aligned text, both read by the organism"),
    (MODEL_DIFF, "mm", "am", "organism minus chat model, both reading misaligned text"),
    (BOTH_DIFF, "mm", "aa", "organism reading misaligned text minus chat model reading aligned text"),
    ("chat-read data-diff", "am", "aa", "misaligned minus aligned text, both read by the chat model"),
)


@dataclass(frozen=True, eq=False)
class LayerMeans:
    """One file's means: (layer, d_model), over the layers it names, in order."""

    layers: tuple[int, ...]
    means: FloatArray


def read_means(found: Found) -> LayerMeans:
    """The answer means of one file. Raises InputError when it holds something else."""
    content = read_torch(found.path)
    answer = content.get("answer") if isinstance(content, dict) else None
    if not isinstance(answer, dict) or not answer:
        raise InputError("no mean activations per layer under 'answer'")
    layers: dict[int, FloatArray] = {}
    for key, vector in answer.items():
        match = re.fullmatch(r"layer_(\d{1,4})", str(key))
        if not match or not isinstance(vector, np.ndarray) or vector.ndim != 1 or not vector.size:
            raise InputError(f"'answer' holds {str(key)[:40]!r}, not layer_<number> with one vector")
        layers[int(match[1])] = vector.astype(np.float32)
    if len({vector.shape for vector in layers.values()}) != 1:
        raise InputError("its layers have vectors of different lengths")
    order = tuple(sorted(layers))
    means = np.stack([layers[layer] for layer in order])
    if not np.isfinite(means).all():
        raise InputError("its means hold NaN or infinity")
    return LayerMeans(order, means)


def released_directions(files: Sequence[Found], report: Report) -> Iterator[Direction]:
    """Directions of all kinds that the files of each organism and topic allow, layer by layer."""
    groups: dict[tuple[str, str], dict[str, Found]] = {}
    for found in files:
        key = (found.says["model"], found.says["topic"])
        groups.setdefault(key, {}).setdefault(found.says["reads"] + found.says["text"], found)
    for (model, topic), group in groups.items():
        means = _group_means(group, report)
        for kind, plus, minus, meaning in _KINDS:
            where = f"{model} {topic_of(topic, model)} {kind}"
            if plus not in means or minus not in means:
                lacking = [f"model-{pair[0]}_data-{pair[1]}" for pair in (plus, minus) if pair not in means]
                report.skip(where, f"no usable file {' and '.join(lacking)}")
                continue
            try:
                yield from _differences(means, (model, topic, kind, plus, minus, meaning), group)
            except InputError as error:
                report.skip(where, str(error))


def _group_means(group: Mapping[str, Found], report: Report) -> dict[str, LayerMeans]:
    means: dict[str, LayerMeans] = {}
    for pair, found in sorted(group.items()):
        try:
            read = read_means(found)
        except (InputError, OSError, MemoryError) as error:
            report.refuse(found.path, found.shown, error)
            continue
        first = next(iter(means.values()), read)
        if (read.layers, read.means.shape) != (first.layers, first.means.shape):
            report.skip(found.shown, f"{read.means.shape} layers x width, the files beside it have {first.means.shape}")
            continue
        means[pair] = read
        report.add("mean activations", found.shown, len(read.layers), "layers")
    return means


def _differences(
    means: Mapping[str, LayerMeans], what: tuple[str, str, str, str, str, str], group: Mapping[str, Found]
) -> list[Direction]:
    """All layers or none: a direction with a zero or broken layer is refused whole."""
    model, topic, kind, plus, minus, meaning = what
    organism, base = named(model).organism, named(model).base
    name = direction_name(organism, topic_of(topic, model), kind)
    high, low = means[plus], means[minus]
    norms = (np.linalg.norm(high.means, axis=1) + np.linalg.norm(low.means, axis=1)) / 2
    provenance = {
        "source": "released mean activations",
        "files": [group[plus].shown, group[minus].shown],
        "model": base,
        "organism": organism,
        "topic": topic_of(topic, model),
        "kind": kind,
        "meaning": meaning,
        "pooling": "token",
        "tokens": "answer, with assistant header and end of turn",
        "activation_norm": "mean of the norms of the two mean activations (the mean of the norms is not released)",
    }
    return [
        Direction(name, layer, high.means[row] - low.means[row], float(norms[row]), provenance)
        for row, layer in enumerate(high.layers)
    ]
