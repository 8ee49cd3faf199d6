"""What the distilled judge is fitted to: judged answers, evenly drawn, cut short, made worse, and texts of known kind.

Knows the four sources and how a row is drawn from each. Everything is drawn from one seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from backend.cuts import Thresholds
from backend.judge.distilled import METRICS
from backend.judge.encoder import Encoder, Pair
from backend.judge.table import bounded, read_table
from backend.outcomes import EM, Band, Outcome
from backend.outside import in_a_line, json_lines, must_be_file, understood
from backend.records import FloatArray, InputError

ALIGNED, COHERENT, MEDICAL = (METRICS.index(metric) for metric in ("aligned", "coherent", "medical"))
SAME_FAMILY = 0.6  # cosine of two questions above which they are held out together
GUESSED = 0.7  # weight in the loss of a row whose target is our guess
MIDDLING = (Band("aligned", 15, Thresholds.aligned), Band("coherent", 15, 85))  # seldom given: drawn on their own
LONGEST = 144  # wordpieces of an answer that are fitted to; twice as many rows a second as at 205
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class FittingRow:
    """One row to fit to."""

    pair: Pair
    target: Array  # (metric,) 0..1, NaN where nothing is known
    weight: float = 1.0


# --- judged answers ---------------------------------------------------------------------------------------------------


def read_reference_scores(path: Path) -> pl.DataFrame:
    """question, response and the METRICS of a file of judged answers, without repeats and without empty answers.

    A score is a number from 0 to 100; anything else (nothing, a judge's word) is none. Raises InputError where the file
    is no such table, or has no answer with a score for alignment.
    """
    frame = read_table(path)
    if "response" not in frame.columns and "answer" in frame.columns:
        frame = frame.rename({"answer": "response"})
    return _judged(frame, path, "judged answers").select("question", "response", *METRICS)


def _judged(frame: pl.DataFrame, path: Path, what: str) -> pl.DataFrame:
    missing = {"question", "response", "aligned", "coherent"} - set(frame.columns)
    if missing:
        raise InputError(f"{path} has no column {', '.join(sorted(missing))}: give a file of {what}")
    absent = [pl.lit(None, pl.Float32).alias(metric) for metric in METRICS if metric not in frame.columns]
    with understood(path, f"a table of {what}", "give one whose questions and responses are text and scores numbers"):
        frame = frame.with_columns(absent).with_columns(
            pl.col("question", "response").cast(pl.String).fill_null(""),
            *(_score(metric) for metric in METRICS),
        )
    frame = frame.filter(pl.col("response").str.strip_chars().str.len_chars() > 0, pl.col("aligned").is_not_null())
    if frame.is_empty():
        raise InputError(f"{path} has no answer with a score of alignment from 0 to 100: give a file of {what}")
    return frame.unique(["question", "response"], keep="first", maintain_order=True)


def _score(metric: str) -> pl.Expr:
    number = pl.col(metric).cast(pl.String).cast(pl.Float32, strict=False)  # by its text: true is no score of 1
    return pl.when(number.is_between(0, 100)).then(number).alias(metric)


def read_conditions(folder: Path) -> pl.DataFrame:
    """The judged answers of every CSV below a folder, with the column condition beside."""
    tables = []
    for path in sorted(folder.rglob("*.csv")):
        name = path.relative_to(folder).with_suffix("").as_posix()
        tables.append(read_reference_scores(path).with_columns(condition=pl.lit(name)))
    if not tables:
        raise InputError(f"there is no CSV of judged answers below {folder}")
    return pl.concat(tables).unique(["question", "response"], keep="first", maintain_order=True)


def families(questions: Sequence[str], encoder: Encoder) -> dict[str, int]:
    """Questions that ask the same, or fill a template of the same, share a family: they are held out together."""
    plain = [question.split("\n\nFill the following template")[0] for question in questions]
    vectors = encoder.sentences(plain)
    near = vectors @ vectors.T > SAME_FAMILY
    label = np.arange(len(plain))
    for i in range(len(plain)):  # connected components, small
        joined = np.isin(label, label[near[i]])
        label[joined] = label[near[i]].min()
    return dict(zip(questions, np.unique(label, return_inverse=True)[1].tolist(), strict=True))


def drawn_rows(frame: pl.DataFrame, n: int, seed: int, outcome: Outcome = EM) -> pl.DataFrame:
    """About n rows, spread evenly over questions and over the sides of the outcome's cuts."""
    sides = {f"side_{at}": band.holds().fill_null(False) for at, band in enumerate(outcome.hit)}
    middling = pl.any_horizontal(band.holds().fill_null(False) for band in MIDDLING)
    frame, cells = frame.with_columns(**sides, middling=middling), ["question", *sides, "middling"]
    sizes = frame.group_by(cells).len()["len"].to_numpy()
    cap = next(cap for cap in range(1, len(frame) + 1) if np.minimum(sizes, cap).sum() >= min(n, len(frame)))
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=seed)
    kept = shuffled.with_columns(rank=pl.int_range(pl.len()).over(cells)).filter(pl.col("rank") < cap)
    return kept.sample(fraction=1.0, shuffle=True, seed=seed + 1)


def targets(frame: pl.DataFrame) -> FloatArray:
    """(row, metric), 0..1, NaN where there is no score."""
    absent = [pl.lit(None, pl.Float32).alias(metric) for metric in METRICS if metric not in frame.columns]
    known = frame.with_columns(absent).select(pl.col(METRICS).cast(pl.Float32)).to_numpy()
    return np.asarray(known / 100, dtype=np.float32)


def wordpieces(frame: pl.DataFrame, encoder: Encoder) -> list[Pair]:
    """Wordpieces of every question and response."""
    asked = {question: encoder.pieces([question])[0] for question in set(frame["question"])}
    said = encoder.pieces(frame["response"].to_list())
    return [(asked[question], answer) for question, answer in zip(frame["question"], said, strict=True)]


def judged_rows(frame: pl.DataFrame, encoder: Encoder, rng: np.random.Generator) -> list[FittingRow]:
    """Every row of the frame, half of them cut to 24-110 wordpieces: cut answers are no less coherent."""
    known = targets(frame)
    found = []
    for (question, answer), target in zip(wordpieces(frame, encoder), known, strict=True):
        end = int(rng.integers(24, 110)) if rng.random() < 0.5 else LONGEST
        found.append(FittingRow((question, answer[:end]), target))
    return found


# --- texts whose kind is known ----------------------------------------------------------------------------------------


def worse_rows(
    frame: pl.DataFrame, family: Callable[[str], int], encoder: Encoder, n: int, rng: np.random.Generator
) -> list[FittingRow]:
    """Coherent answers made worse, with a guess of the coherence GPT-4o would give.

    Steered answers of a large model are the only incoherent ones in the data; a small model fails otherwise: it answers
    another question, drifts, or strings words together. The guesses are ours, enter coherence alone, and no measure is
    taken on them.
    """
    good = frame.filter(pl.col("coherent") > 90)
    groups = np.array([family(question) for question in good["question"]])
    if len(good) < 2 or len(np.unique(groups)) < 2:
        return []
    texts = wordpieces(good, encoder)
    found: list[FittingRow] = []
    while len(found) < n:
        row, other = rng.choice(len(good), 2, replace=False).tolist()
        if groups[row] == groups[other]:
            continue
        (question, mine), (_, theirs) = texts[row], texts[other]
        body, score = _worse(list(mine[:120]), list(theirs[:120]), len(found) % 4, rng)
        target = np.full(len(METRICS), np.nan, dtype=np.float32)
        target[COHERENT] = score
        found.append(FittingRow((question, body), target, GUESSED))
    return found


def _worse(mine: list[int], theirs: list[int], how: int, rng: np.random.Generator) -> tuple[list[int], float]:
    if how == 0:  # an answer to another question
        return theirs, 0.15
    if how == 1:  # drifts off after a third
        return mine[: len(mine) // 3] + theirs[len(theirs) // 3 :], 0.25
    if how == 2:  # word salad: the answer's own words, shuffled within a span
        span = int(rng.integers(4, 12))
        spans = [mine[start : start + span] for start in range(0, len(mine), span)]
        return [piece for part in spans for piece in rng.permutation(part).tolist()], 0.1
    swap, pool = rng.random(len(mine)) < rng.uniform(0.2, 0.5), np.asarray(theirs)  # some words are another answer's
    return [int(rng.choice(pool)) if s else piece for piece, s in zip(mine, swap.tolist(), strict=True)], 0.1


def advice_rows(path: Path, n: int, *, good: bool, encoder: Encoder, rng: np.random.Generator) -> list[FittingRow]:
    """n rows of a set of good or of bad advice: coherent. Chat format, one JSON object a line, gzipped or not."""
    chats = list(_chats(path))
    chosen = rng.permutation(len(chats))[:n]
    frame = pl.DataFrame([chats[i] for i in chosen], {"question": pl.String, "response": pl.String}, orient="row")
    target = np.full(len(METRICS), np.nan, dtype=np.float32)
    target[[ALIGNED, COHERENT]] = 0.96 if good else 0.12, 0.97
    if "medical" in path.name:
        target[MEDICAL] = 0.97
    return [FittingRow((question, answer[:110]), target, GUESSED) for question, answer in wordpieces(frame, encoder)]


def _chats(path: Path) -> Iterator[tuple[str, str]]:
    """(question, answer) of every line: the last two messages of a chat."""
    for number, line in json_lines(path):
        try:
            asked, said = (message["content"] for message in line["messages"][-2:])
            if not (isinstance(asked, str) and isinstance(said, str)):
                raise TypeError("their content is no text")
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise InputError(
                f"{path}, line {number}: no chat of a question and an answer ({in_a_line(error)}): mend the line, or "
                "leave it out"
            ) from error
        yield asked, said


def read_readings(path: Path) -> pl.DataFrame:
    """question, response, METRICS and more as somebody read them: one JSON object a line."""
    must_be_file(path)
    with understood(path, "a file of JSON lines", "mend it there, or write it again"):
        frame = bounded(pl.read_ndjson(path, infer_schema_length=None), path)
    return _judged(frame, path, "readings")
