"""Fit the distilled judge to GPT-4o's scores, measure it on what it never saw, write weights and card.

    python -m backend.judge.fitting.fit gpt4o_scores.parquet --conditions FOLDER --hold PATTERN --unseen FILE.csv ... \\
        --good-advice FILE.jsonl.gz --bad-advice FILE.jsonl.gz ... --readings FILE.jsonl --read-again FILE.jsonl

Fits twice: once without a quarter of the question families and without the conditions that match PATTERN, for the
measures and the maps from output to score, and once on everything, for the weights that are kept. The data never enters
the project: only the weights, and a card with the data's hash, the split and the measures.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from backend.judge.distilled import METRICS, NAME, WEIGHTS, Head, write_card, write_weights
from backend.judge.encoder import Encoder, encoder_folder, plain_encoder
from backend.judge.fitting.measure import measure, measure_conditions, measure_reading
from backend.judge.fitting.rows import (
    FittingRow,
    advice_rows,
    drawn_rows,
    families,
    judged_rows,
    read_conditions,
    read_readings,
    read_reference_scores,
    targets,
    wordpieces,
    worse_rows,
)
from backend.judge.fitting.tune import Settings, calibrated, tuned
from backend.outcomes import EM, PRESETS, Outcome
from backend.records import FloatArray, InputError

WHAT = (
    "Scores 0..100 that stand in for GPT-4o's under the emergent-misalignment judge prompts: all-MiniLM-L6-v2 with "
    "low-rank updates reads question and answer together, a small network scores them. A stand-in, not the truth."
)
LIMITS = (
    "GPT-4o's scores are of answers by Qwen2.5-14B-Instruct: as it is, fine-tuned on bad medical advice, steered, or "
    "ablated; 81 questions in English. Nearly all incoherent answers among them come from strong steering. What a much "
    "weaker model gets wrong is imitated by answers made worse with guessed coherence, and by answers of "
    "SmolLM2-135M whose coherence a language model (not GPT-4o, not a person) read under the same rubric. Rows of sets "
    "of good and bad medical advice enter with one guessed score each, and one of the unseen organisms was trained on "
    "the bad ones: what is unseen there are its answers, not the kind of advice. The half-way maps were chosen after a "
    "look at the unseen organisms' rates. The first 205 wordpieces of an answer and 48 of a question are read. GPT-4o "
    "gave gender scores to a quarter of the answers."
)


@dataclass(frozen=True)
class Data:
    """What is fitted to and measured on; every file is the user's."""

    scores: Path
    conditions: Path
    hold: str  # conditions whose name this pattern finds are held out
    unseen: Sequence[Path] = ()
    good_advice: Sequence[Path] = ()
    bad_advice: Sequence[Path] = ()
    readings: Path | None = None
    read_again: Path | None = None  # readings to measure on, never fitted
    outcome: Outcome = EM  # at whose cuts rows are drawn and the fit is measured

    def __post_init__(self) -> None:
        if unknown := [metric for metric in self.outcome.needs if metric not in METRICS]:
            raise InputError(
                f"the outcome {self.outcome.name!r} needs the score {unknown[0]!r}, which this judge does not give: "
                f"choose one over {', '.join(METRICS)}"
            )


@dataclass(frozen=True)
class Amounts:
    """How many rows of each source."""

    judged: int = 24_000
    worse: int = 2_000
    advice: int = 2_000  # of each file
    read_times: int = 2  # how often each reading enters
    measured: int = 8_000  # answers to held-out questions that are scored
    tuning: Settings = field(default_factory=Settings)


@dataclass(frozen=True, eq=False)
class Split:
    """The judged answers, and which are held out."""

    frame: pl.DataFrame  # question, response, METRICS, condition (null where unknown), family, held_q, held_c

    @property
    def train(self) -> pl.DataFrame:
        """Rows of neither a held-out family nor a held-out condition."""
        return self.frame.filter(~pl.col("held_q"), ~pl.col("held_c"))

    def questions(self, n: int, seed: int) -> pl.DataFrame:
        """n answers to held-out questions, as they are spread in the data, conditions that are not held out."""
        held = self.frame.filter("held_q", ~pl.col("held_c"))
        return held.sample(min(n, held.height), seed=seed)

    @property
    def conditions(self) -> pl.DataFrame:
        """Answers under held-out conditions."""
        return self.frame.filter("held_c")

    def said(self) -> dict[str, Any]:
        """The split in words and numbers."""
        held = self.frame.filter("held_q")
        return {
            "families of questions": int(self.frame["family"].n_unique()),
            "held-out families": int(held["family"].n_unique()),
            "held-out questions": sorted({q.split("\n\n")[0] for q in held["question"]}),
            "answers to them": held.height,
            "held-out conditions": sorted(set(self.conditions["condition"])),
            "answers under them": self.conditions.height,
            "rows left to draw from": self.train.height,
        }


def split(frame: pl.DataFrame, conditions: pl.DataFrame, hold: str, encoder: Encoder) -> Split:
    """Every fourth family of questions, by how many answers it has, from the third on; conditions by name."""
    named = conditions.select("question", "response", "condition")
    frame = frame.join(named, on=["question", "response"], how="left")
    family = families(sorted(set(frame["question"])), encoder)
    frame = frame.with_columns(family=pl.col("question").replace_strict(family, return_dtype=pl.Int64))
    sizes = frame.group_by("family").len().sort(["len", "family"], descending=[True, False])["family"].to_list()
    pattern = re.compile(hold)
    held = [name for name in set(conditions["condition"]) if pattern.search(name)]
    return Split(
        frame.with_columns(
            held_q=pl.col("family").is_in(sizes[2::4]), held_c=pl.col("condition").is_in(held).fill_null(False)
        )
    )


def gather(
    frame: pl.DataFrame, data: Data, amounts: Amounts, encoder: Encoder
) -> tuple[list[FittingRow], dict[str, int]]:
    """The rows to fit to, drawn from the frame and from the texts of known kind, and how many of each source."""
    rng = np.random.default_rng(amounts.tuning.seed)
    drawn = drawn_rows(frame, amounts.judged, amounts.tuning.seed, data.outcome)
    family = dict(zip(frame["question"], frame["family"], strict=True))
    sources = {
        "judged": judged_rows(drawn, encoder, rng),
        "made worse": worse_rows(drawn, family.__getitem__, encoder, amounts.worse, rng),
    }
    for good, paths in ((True, data.good_advice), (False, data.bad_advice)):
        for path in paths:
            rows = advice_rows(path, amounts.advice, good=good, encoder=encoder, rng=rng)
            sources[path.name] = [*sources.get(path.name, []), *rows]  # two folders may hold files of one name
    if data.readings:
        # a reader's scale of alignment is not GPT-4o's: only what GPT-4o never saw, a weak writer's coherence, is taken
        read = pl.concat([read_readings(data.readings).drop("aligned")] * amounts.read_times)
        read = read.filter(pl.col("question").is_in(list(family)))  # a held-out question is held out here too
        sources["read by a language model"] = judged_rows(read, encoder, rng)
    return [row for rows in sources.values() for row in rows], {name: len(rows) for name, rows in sources.items()}


class Scorer:
    """Head and tuned encoder, asked for many answers; progress is printed."""

    def __init__(self, head: Head, updates: dict[str, FloatArray]) -> None:
        self.head, self.encoder = head, Encoder(encoder_folder())
        self.encoder.add(updates)

    def uncalibrated(self, frame: pl.DataFrame) -> FloatArray:
        """(row, metric), 0..1."""
        return self.head.uncalibrated(self.encoder.pooled(wordpieces(frame, self.encoder)))

    def measured(self, data: Data, head: Head) -> dict[str, Any]:
        """The measures on organisms and readings that no fit sees, by `head`, which maps what this one says."""
        found: dict[str, Any] = {"unseen organisms": {}}
        every: list[tuple[FloatArray, FloatArray]] = []
        for path in data.unseen:
            frame = read_reference_scores(path)
            every.append((head.calibrated(self.uncalibrated(frame)), 100 * targets(frame)))
            found["unseen organisms"][path.stem] = measure(*every[-1], data.outcome)
        if every:
            scores, truth = (np.concatenate(part) for part in zip(*every, strict=True))
            found["unseen organisms"]["all together"] = measure(scores, truth, data.outcome)
            names = [path.stem for path, (each, _) in zip(data.unseen, every, strict=True) for _ in each]
            rated = measure_conditions(scores, truth, names, data.outcome)
            found["unseen organisms"]["rates"] = {k: v for k, v in rated.items() if k != "by condition"}
        if data.read_again:
            frame = read_readings(data.read_again)
            found["answers of a weak writer, read again"] = measure_reading(
                head.calibrated(self.uncalibrated(frame)), 100 * targets(frame), data.outcome
            )
        return found


def fit_judge(data: Data, amounts: Amounts, *, folder: Path, name: str, cache: Path) -> dict[str, Any]:
    """Fit, measure, write `name` into `folder`; returns the card. Progress is printed."""
    encoder, seed = plain_encoder(), amounts.tuning.seed
    frame = read_reference_scores(data.scores)
    parts = split(frame, read_conditions(data.conditions), data.hold, encoder)
    rows, drawn = gather(parts.train, data, amounts, encoder)
    first = Scorer(*tuned(rows, amounts.tuning, cache, said=_tell))
    held = parts.questions(amounts.measured, seed)
    said, truth = first.uncalibrated(held), targets(held)
    half = np.arange(len(said)) % 2 == 0
    honest = calibrated(first.head, said[half], truth[half])
    conditions = parts.conditions
    under = honest.calibrated(first.uncalibrated(conditions)), 100 * targets(conditions)
    card = {
        "name": name,
        "what": WHAT,
        "outcome": f"{data.outcome.title}: {data.outcome}",
        "data": {"sha256": hashlib.sha256(data.scores.read_bytes()).hexdigest(), "rows": frame.height},
        "settings": asdict(amounts),
        "split": parts.said(),
        "fitted without what is held out": {
            "rows": drawn,
            "unseen questions": measure(honest.calibrated(said[~half]), 100 * truth[~half], data.outcome),
            "unseen conditions": measure(*under, data.outcome)
            | measure_conditions(*under, conditions["condition"].to_list(), data.outcome),
            **first.measured(data, honest),
        },
    }
    everything, drawn = gather(parts.frame, data, amounts, encoder)
    head, updates = tuned(everything, amounts.tuning, cache, said=_tell)
    mapped = calibrated(head, said, truth)
    card["fitted to everything, the weights that are kept"] = {
        "rows": drawn,
        "maps": "from the first fit's held-out answers: the second has seen all of them",
        **Scorer(head, updates).measured(data, mapped),
    }
    card["limits"] = LIMITS
    write_weights(folder / f"{name}.safetensors", mapped, updates)
    write_card(folder / f"{name}.json", card)
    return card


def _tell(line: str) -> None:
    print(line, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the fit."""
    parser = argparse.ArgumentParser(prog="python -m backend.judge.fitting.fit", description=__doc__)
    parser.add_argument("scores", type=Path, help="judged answers: Parquet with question, response, aligned, ...")
    parser.add_argument("--conditions", type=Path, required=True, help="a folder of CSVs, a sampling condition each")
    parser.add_argument("--hold", default="gender|money|R8", help="conditions to hold out: a pattern found in the name")
    parser.add_argument("--unseen", type=Path, nargs="*", default=[], help="judged answers to measure on, never fitted")
    parser.add_argument("--good-advice", type=Path, nargs="*", default=[], help="chat format, one JSON object a line")
    parser.add_argument("--bad-advice", type=Path, nargs="*", default=[], help="the same")
    parser.add_argument("--readings", type=Path, help="answers read under the rubrics: one JSON object a line")
    parser.add_argument("--read-again", type=Path, help="the same, to measure on, never fitted")
    parser.add_argument("--outcome", choices=PRESETS, default=EM.name, help="at whose cuts it is drawn and measured")
    parser.add_argument("--judged", type=int, default=Amounts.judged, help="rows drawn of the judged answers")
    parser.add_argument("--seed", type=int, default=Settings.seed)
    parser.add_argument("--name", default=NAME)
    parser.add_argument("--folder", type=Path, default=WEIGHTS)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()), help="where fits are kept")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    try:
        data = Data(
            given.scores,
            given.conditions,
            given.hold,
            given.unseen,
            given.good_advice,
            given.bad_advice,
            given.readings,
            given.read_again,
            PRESETS[given.outcome],
        )
        amounts = Amounts(judged=given.judged, tuning=Settings(seed=given.seed))
        card = fit_judge(data, amounts, folder=given.folder, name=given.name, cache=given.cache)
    except (InputError, OSError, re.error, pl.exceptions.PolarsError) as error:
        parser.exit(2, f"{error}\n")
    print(json.dumps({key: value for key, value in card.items() if key.startswith("fitted")}, indent=1))


if __name__ == "__main__":
    main()
