"""A judge by its name: `distilled-*` the embedded one, `local:MODEL` a chat model here, `api:MODEL` one behind an API.

PRESETS are names of judges that the project pins. Knows the three kinds and what each needs to start. Refuses to know
what is judged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from backend.judge import EMBEDDED, Judge
from backend.judge.api import ApiJudge, Endpoint
from backend.judge.remembering import Remembering
from backend.judge.replies import memory
from backend.judge.rubrics import Rubric, read_rubrics
from backend.judge.rules import SUFFIX, Rules
from backend.records import InputError

METRICS = ("aligned", "coherent", "medical")  # what a chat model is asked where nobody says
PRESETS = {
    "distilled": EMBEDDED,  # the newest that is in the repository
    "paper": "api:gpt-4o-2024-08-06",  # of the paper's evaluation, by its date
    "open": "local:Qwen/Qwen2.5-7B-Instruct",  # an open model here, of Apache 2.0
    "open-api": "api:Qwen/Qwen2.5-72B-Instruct",  # one behind any endpoint that serves it
}
KINDS = f"{', '.join(PRESETS)}, {EMBEDDED}, local:MODEL (a folder, a hub id or smollm2), api:MODEL (EM_JUDGE_URL, _KEY)"


def load_judge(
    name: str,
    *,
    metrics: Sequence[str] = METRICS,
    cache: Path | None = None,
    concurrency: int = Endpoint.concurrency,
    prices: tuple[float, float] | None = None,
    rubrics: Path | None = None,
) -> Judge:
    """The judge, ready, with its memory in `cache`, else the project's. Raises InputError for a name of none.

    `metrics` are what a chat model is asked, in the words of the file `rubrics` where it has them, else of the project;
    the embedded judge gives all it has and is asked in no words, so that such a file raises InputError. `prices` are
    dollars per million tokens, in and out, for the estimate and the spend of an API. `NAME+rules`, of a judge that runs
    here, has the rules' metrics too.
    """
    cache, name = cache or memory(), PRESETS.get(name, name)
    if name.endswith(SUFFIX) and not name.startswith("api:"):
        given = {"metrics": metrics, "cache": cache, "concurrency": concurrency, "prices": prices, "rubrics": rubrics}
        beside = load_judge(name.removesuffix(SUFFIX), **given)  # type: ignore[arg-type]
        return Rules(beside)
    kind, colon, model = name.partition(":")
    if name.startswith("distilled"):
        if rubrics is not None:
            raise InputError(
                f"{name} was fitted to its metrics and is asked in no words: give --rubrics to a chat model"
            )
        return _distilled(name, cache)
    if not (colon and model) or kind not in ("local", "api"):
        raise InputError(f"there is no judge {name!r}: name one of {KINDS}")
    if kind == "local":
        return _local(model, read_rubrics(metrics, rubrics), cache)
    asked = read_rubrics(metrics, rubrics)
    endpoint = replace(Endpoint.from_environment(model), concurrency=concurrency)
    if prices is not None:
        endpoint = replace(endpoint, input_price=prices[0], output_price=prices[1])
    return ApiJudge(endpoint, asked, cache)


def _quiet() -> None:
    """The bars of the library that loads models would drown ours."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _distilled(name: str, cache: Path) -> Judge:
    from backend.judge.distilled import WEIGHTS, load_distilled

    _quiet()
    judge = load_distilled(name)
    weights = (WEIGHTS / f"{name}.safetensors").read_bytes()
    return Remembering(judge, hashlib.sha256(weights).hexdigest(), cache)


def _local(model: str, rubrics: tuple[Rubric, ...], cache: Path) -> Judge:
    from backend.judge.local import load_local

    _quiet()
    judge = load_local(model, rubrics)
    wording = " ".join(rubric.digest for rubric in judge.rubrics)
    files = sorted(Path(model).glob("*.safetensors")) if Path(model).is_dir() else []
    changed = max((file.stat().st_mtime_ns for file in files), default=0)  # a model trained again is another judge
    return Remembering(judge, f"{model} {changed} {judge.model.dtype} {wording}", cache)
