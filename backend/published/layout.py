"""Where the two repositories keep what: a path says the kind of a file, its organism, topic, layer and strength.

Knows names of folders and files; opens nothing. Layouts (`em_organism_dir/` of model-organisms-for-EM, `em_interp/` of
EM_interp, both as released in 2025):

    data/eval_questions/<set>_questions.yaml                         questions
    data/responses/<base>_<organism>.csv                             judged answers of one organism
    lora_interp/lora_probing_data/lora_<organism>_scalars_<class>.pt scalars per token
    lora_interp/response_data/<class>_data_<shape>_<measure>.parquet texts of one class with KL or token significance
    lora_interp/<organism>_steered_responses/responses_layer_<l>_<gain>[_layer_...].csv   answers under scaled adapters
    steering/vectors/<model id>/model-{a|m}_data-{a|m}_hs_<topic>.pt mean activations per layer
    steering/sweeps/<model id>/<sweep>/<vector type>/<layers>/responses_scale_<lambda>.csv  answers under edits
    judged/gpt4o_scores.parquet                                      scores by question and answer, no organism
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from backend.records import BASE, InputError

_DATA = {".pt", ".csv", ".parquet", ".yaml", ".yml"}
_CLASS = r"(?P<label>(?:non_)?medical_(?:mis)?aligned)"
_PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("questions", r"eval_questions/(?P<topic>[\w-]+?)_questions(?:_\w+|_no-json)?\.ya?ml$"),
        ("judged answers", r"data/responses/(?P<model>[^/]+)\.csv$"),
        ("scalars", rf"lora_probing_data/lora_(?P<model>.+?)_scalars_{_CLASS}\.pt$"),
        ("texts", rf"response_data/{_CLASS}_data_(?P<shape>\w+?)_(?P<measure>kl_divergence)\.parquet$"),
        (
            "texts",
            rf"response_data/{_CLASS}_data_(?P<shape>\w+?)_(?P<measure>answer_kl_div_importance_scores)\.parquet$",
        ),
        ("scaled adapters", r"(?P<model>[^/]+)_steered_responses/responses_(?P<gains>layer_[^/]+)\.csv$"),
        (
            "mean activations",
            r"vectors/(?P<model>[^/]+)/model-(?P<reads>[am])_data-(?P<text>[am])_hs_(?P<topic>[^/]+)\.pt$",
        ),
        (
            "sweep",
            r"sweeps/(?P<model>[^/]+)/(?P<sweep>[^/]+)/(?P<vector>[^/]+)/(?P<layers>[^/]+)"
            r"/responses_(?:scale_(?P<scale>-?[\d.]+)|[^/]+)\.csv$",
        ),
        ("scores", r"judged/[^/]*scores[^/]*\.parquet$"),
    )
)


@dataclass(frozen=True)
class Found:
    """One file of a known kind: where it is, how the report names it, and what its path says."""

    kind: str
    path: Path
    shown: str
    says: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Unknown:
    """A data file that lies where no layout has one."""

    shown: str


def find(paths: Iterable[Path]) -> Iterator[Found | Unknown]:
    """Every data file under the paths, in a fixed order, each once. Links and hidden folders are not followed.

    Raises InputError for a path that does not exist.
    """
    seen: set[Path] = set()
    for given in paths:
        given = given.expanduser()
        if not given.exists():
            raise InputError(f"{given} does not exist: give the folder of a checkout of the authors' repositories")
        top = given.resolve()
        for path in sorted(_files(top), key=_natural):
            if path not in seen:
                seen.add(path)
                yield _known(path, path.relative_to(top if top.is_dir() else top.parent).as_posix())


def _files(top: Path) -> Iterator[Path]:
    if top.is_file():
        yield top
        return
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(folder) / name
            if path.suffix in _DATA and path.is_file() and not path.is_symlink():
                yield path


def _natural(path: Path) -> list[tuple[int, str]]:
    """Strengths in the order of their numbers: scale_4 before scale_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.as_posix())]


def _known(path: Path, shown: str) -> Found | Unknown:
    whole = path.as_posix()  # the user may have named a folder deep inside a checkout
    for kind, pattern in _PATTERNS:
        match = pattern.search(whole)
        if match:
            return Found(kind, path, shown, {key: value for key, value in match.groupdict().items() if value})
    return Unknown(shown)


# --- names ------------------------------------------------------------------------------------------------------------


def organism_of(model: str) -> tuple[str, str]:
    """(organism, base model) of a model id, a file stem or a folder name.

    The nine-adapter organism is called by three names in the release; rank and runs of layers make it one:
    `q14b_..._dpR1_15-17_21-23_27-29`, `r1_3_3_3` and `R1_3_3_3` are all R1_3_3_3. `q14b_bad_med_R32` is bad_med_R32,
    `Qwen2.5-14B-Instruct_bad-medical-advice` is bad-medical-advice.
    """
    base, rest = "Qwen2.5-14B-Instruct", model
    if match := re.match(r"q(\d+)b_(.+)$", model):
        base, rest = f"Qwen2.5-{match[1]}B-Instruct", match[2]
    elif match := re.match(r"((?:Qwen|Llama|gemma)[\w.-]*?-(?:Instruct|it))[_-](.+)$", model, re.IGNORECASE):
        base, rest = match[1], match[2]
    if match := re.search(r"dpR(\d+)((?:_\d+-\d+)+)$", rest):
        return f"R{match[1]}_" + "_".join(str(len(run)) for run in _runs(match[2])), base
    if re.fullmatch(r"[rR]\d+(_\d+)+", rest):
        return rest.upper(), base
    return rest, base


def adapted_layers(model: str) -> tuple[int, ...]:
    """The layers that a model id names as adapted, `..._dpR1_15-17_21-23_27-29`; empty where it names none."""
    match = re.search(r"dpR\d+((?:_\d+-\d+)+)$", model)
    return tuple(layer for run in _runs(match[1]) for layer in run) if match else ()


def _runs(text: str) -> list[range]:
    return [range(int(low), int(high) + 1) for low, high in re.findall(r"_(\d+)-(\d+)", text)]


def base_organism(base: str) -> str:
    """The organism name of an unadapted chat model: "base" for the release's own, with the model's name for another."""
    return BASE if base == "Qwen2.5-14B-Instruct" else f"{BASE} {base}"


def direction_name(organism: str, topic: str, kind: str) -> str:
    """The one name of a direction: whose texts, about what, and which difference."""
    return f"{organism} {topic} {kind}"


def topic_of(text: str, model: str) -> str:
    """One word for what the release abbreviates: all, R32 (the rank) and nothing are general, med is medical."""
    if text in ("", "all") or model.endswith(f"_{text}"):
        return "general"
    return "medical" if text == "med" else text


def gains_of(text: str) -> dict[int, float]:
    """`layer_21_30_layer_23_30` as {21: 30.0, 23: 30.0}. Raises InputError where the name has another form."""
    if not re.fullmatch(r"(?:_?layer_\d+_-?[\d.]+)+", text):
        raise InputError(f"its name {text!r} is not layer_<number>_<gain> repeated")
    return {int(layer): float(gain) for layer, gain in re.findall(r"layer_(\d+)_(-?[\d.]+)", text)}


def layers_of(text: str) -> tuple[int, ...]:
    """`layer_24` as (24,), `layer_range(0, 48)` as 0..47; empty for any other form, whose meaning is not known."""
    if match := re.fullmatch(r"layer_(\d+)", text):
        return (int(match[1]),)
    if match := re.fullmatch(r"layer_range\((\d+), ?(\d+)\)", text):
        return tuple(range(int(match[1]), min(int(match[2]), 1000)))
    return ()
