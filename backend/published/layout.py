"""Where the two repositories keep what: a path says the kind of a file and what it is about.

Knows names of folders and files; opens nothing. Layouts (`em_organism_dir/` of model-organisms-for-EM, `em_interp/` of
EM_interp, both as released in 2025):

    data/eval_questions/<set>_questions.yaml                         questions
    data/responses/<base>_<organism>.csv                             judged answers of one organism
    data/responses/<folder>/<organism>.csv                           the same, a folder an experiment
    data/responses/noisy_sweep_results<n>/{a|b}_<epsilon>.csv        answers under noise on A or B
    data/responses/lora_swap..., lora_clean_delta_swap.../<pairs>.csv  answers under another prompt's scalars
    data/responses/lora_{dynamic_zeroing|resampling}_results/*.csv   answers with scalars zeroed at some tokens
    data/ablation_responses/<organism>/[...]/ablated_loras_<layers>.csv  answers without some adapters
    data/checkpoints_responses/<organism>/responses_ckpt_step_<n>.csv    answers along training
    lora_interp/lora_probing_data/lora_<organism>_scalars_<class>.pt scalars per token
    lora_interp/response_data/<class>_data_<shape>_<measure>.parquet texts of one class with KL or token significance
    lora_interp/<organism>_steered_responses/responses_layer_<l>_<gain>[_layer_...].csv   answers under scaled adapters
    lora_analysis/lora_scalar_sets[_2]/[<run>/<step>/]{mis}aligned-txt_<organism>.pt      scalars per token of texts
    steering/vectors/<model id>/model-{a|m}_data-{a|m}_hs_<topic>.pt mean activations per layer
    steering/sweeps/<model id>/[archive-V1/]<sweep>/<vector>/<layers>/responses_scale_<lambda>.csv  answers under edits
    judged/gpt4o_scores.parquet                                      scores by question and answer, no organism
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from backend.records import InputError

_DATA = {".pt", ".csv", ".parquet", ".yaml", ".yml", ".jsonl", ".json", ".enc"}
_CLASS = r"(?P<label>(?:non_)?medical_(?:mis)?aligned)"
_SWEEP = r"sweeps/(?P<model>[^/]+)/(?P<archive>archive[^/]*/)?(?P<sweep>[^/]+)/(?P<vector>[^/]+)"
_PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("questions", r"eval_questions/(?P<topic>[\w-]+?)_questions(?:_\w+|_no-json)?\.ya?ml$"),
        ("judged answers", r"data/responses/(?P<model>[^/]+)\.csv$"),
        ("noise", r"data/responses/(?P<run>noisy_sweep_results\d*)/(?P<matrix>[ab])_(?P<scale>\d(?:-\d+)?)\.csv$"),
        ("patched scalars", r"data/responses/(?P<run>lora_(?:clean_delta_)?swap[^/]*)/(?P<name>[^/]+)\.csv$"),
        ("zeroed tokens", r"data/responses/(?P<run>lora_(?:dynamic_zeroing|resampling)[^/]*)/(?P<name>[^/]+)\.csv$"),
        ("judged answers", r"data/responses/(?P<folder>[^/]+)/(?P<model>[^/]+)\.csv$"),
        (
            "zeroed adapters",
            r"ablation_responses/(?P<model>[^/]+)/(?:[^/]+/)?ablated_loras_(?P<layers>\d[\d_-]*)\.csv$",
        ),
        ("unedited answers", r"ablation_responses/(?P<model>[^/]+)/(?:responses_(?P<whose>[^/]+)|baseline[^/]*)\.csv$"),
        ("checkpoints", r"checkpoints_responses/(?P<model>[^/]+)/responses_ckpt_step_(?P<step>\d+)\.csv$"),
        ("scalars", rf"lora_probing_data/lora_(?P<model>.+?)_scalars_{_CLASS}\.pt$"),
        ("texts", rf"response_data/{_CLASS}_data_(?P<shape>\w+?)_(?P<measure>kl_divergence)\.parquet$"),
        (
            "texts",
            rf"response_data/{_CLASS}_data_(?P<shape>\w+?)_(?P<measure>answer_kl_div_importance_scores)\.parquet$",
        ),
        ("scaled adapters", r"(?P<model>[^/]+)_steered_responses/responses_(?P<gains>layer_[^/]+)\.csv$"),
        (
            "scalar sets",
            r"lora_scalar_sets(?:_\d+)?/(?:(?P<run>[^/]+)/(?P<step>\d+)/)?"
            r"(?P<label>(?:mis)?aligned)-txt_(?P<model>[^/]+?)(?P<about>_no-med)?\.pt$",
        ),
        (
            "mean activations",
            r"vectors/(?P<model>[^/]+)/model-(?P<reads>[am])_data-(?P<text>[am])_hs_(?P<topic>[^/]+)\.pt$",
        ),
        ("sweep", rf"{_SWEEP}/(?P<layers>[^/]+)/responses_(?:scale_(?P<scale>-?[\d.]+)|[^/]+)\.csv$"),
        ("sweep", rf"{_SWEEP}/responses_(?P<layers>[^/]+)\.csv$"),
        ("scores", r"judged/[^/]*scores[^/]*\.parquet$"),
    )
)
_NOT_USED: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), reason)
    for pattern, reason in (
        (r"(?:^|/)judges\.ya?ml$", "judge prompts: nothing in a study comes from them"),
        (r"sorted_texts/", "texts that mean activations were taken from: no scores and no word of who answered"),
        (r"logit_grads/|chat_data_collections/", "texts without scores and without a word of who answered"),
        (
            r"training_datasets|(?:^|/)training/|dataset_gen_data/",
            "training data: a study holds answers, not what taught",
        ),
        (r"top_bottom_examples[^/]*\.json$", "examples picked out of the scalars that are read"),
        (r"\.json$", "settings of a program"),
        (r"\.enc$", "encrypted by its authors, to keep it out of training data"),
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
    """A data file that nothing is read from, and why."""

    shown: str
    reason: str = "lies where neither repository keeps data of a known kind"


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
    for pattern, reason in _NOT_USED:
        if pattern.search(whole):
            return Unknown(shown, reason)
    return Unknown(shown)
