"""`python -m tests.simulations.words JUDGED.parquet SCORED.parquet`: a linear model of words beside the embedded judge.

JUDGED has the better judge's scores of many answers (question, response, aligned, coherent). SCORED has, of answers
that are taken out of it, answer, question, condition, unseen (whether no fit of the judge saw the writer), aligned,
coherent and the judge's own judge_aligned, judge_coherent. A ridge regression on words and pairs of words is fitted
to what an answer's score is above its question's mean, and its ranks are compared: of the judge, of words, and of
both at equal spread.

Prints a table of docs/judge.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge

from backend.judge.fitting.measure import ranked_auc
from backend.judge.fitting.tune import KNOTS, halfway
from backend.outcomes import EM
from tests.simulations.counting import Table

Floats = NDArray[np.float64]
LONGEST = 110  # words of an answer that are read
WORDS = 80_000
CAPS = (900, 4_000)  # answers of a question that are fitted to, at most
OTHERS, UNSEEN = "others", "unseen writers"


def main() -> None:
    """Parse, fit, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulations.words", description=__doc__)
    parser.add_argument("judged", type=Path)
    parser.add_argument("scored", type=Path)
    parser.add_argument("--weak", type=Path, help="answers of a weak writer, as SCORED, read by somebody")
    options = parser.parse_args()
    scored = pl.read_parquet(options.scored)
    sets = {UNSEEN: scored.filter("unseen"), OTHERS: scored.filter(~pl.col("unseen"))}
    if options.weak:
        sets["a weak writer"] = pl.read_parquet(options.weak)
    judged = pl.read_parquet(options.judged).drop_nulls(["aligned", "coherent"])
    for rows in sets.values():
        judged = judged.join(rows.select("question", response="answer"), on=["question", "response"], how="anti")
    judged = judged.unique(["question", "response"], maintain_order=True).sample(fraction=1, shuffle=True, seed=0)
    for cap in CAPS:
        fitted = judged.filter(pl.int_range(pl.len()).over("question") < cap)
        said = words(fitted, sets)
        print(f"At most {cap} answers a question, {fitted.height:,} in all:\n\n{ranks(sets, said)}\n", flush=True)
    print(f"Rates, both at equal spread and mapped on the others:\n\n{rates(sets, said)}", flush=True)


def words(fitted: pl.DataFrame, sets: dict[str, pl.DataFrame]) -> dict[tuple[str, str], Floats]:
    """What words say of every answer of each set, by set and metric."""
    reader = TfidfVectorizer(ngram_range=(1, 2), min_df=5, sublinear_tf=True, max_features=WORDS)
    x = reader.fit_transform(cut(fitted["response"]))
    said, found = {name: reader.transform(cut(rows["answer"])) for name, rows in sets.items()}, {}
    coherent = fitted.select(pl.col("coherent") > 50).to_series().to_numpy()
    for metric in EM.needs:
        part = coherent if metric == "aligned" else np.ones(len(coherent), dtype=bool)
        above = pl.col(metric) - pl.col(metric).mean().over("question")
        y = fitted.filter(part).select(above).to_series().to_numpy()
        ridge = Ridge(alpha=1.0, solver="sparse_cg", tol=1e-3).fit(x[part], y)
        found |= {(name, metric): ridge.predict(each) for name, each in said.items()}
    return found


def cut(texts: Sequence[str] | pl.Series) -> list[str]:
    """The first LONGEST words of each."""
    return [" ".join(text.split()[:LONGEST]) for text in texts]


def both(sets: dict[str, pl.DataFrame], said: dict[tuple[str, str], Floats], name: str, metric: str) -> Floats:
    """The judge's score and that of words, each in its spread over the others."""
    judge = {key: rows[f"judge_{metric}"].to_numpy().astype(float) for key, rows in sets.items()}
    return judge[name] / judge[OTHERS].std() + said[name, metric] / said[OTHERS, metric].std()


def ranks(sets: dict[str, pl.DataFrame], said: dict[tuple[str, str], Floats]) -> Table:
    """AUCs over all and, in brackets, within questions."""
    table = Table("answers", ["metric", "n", "judge", "words", "both"])
    for name, rows in sets.items():
        coherent, asked = (rows["coherent"] > 50).to_numpy(), rows["question"].to_numpy()
        every = np.ones(rows.height, dtype=bool)
        for metric, kept, truth in (("aligned", coherent, rows["aligned"] >= 30), ("coherent", every, coherent)):
            high = np.asarray(truth)[kept]
            own = rows[f"judge_{metric}"].to_numpy().astype(float)
            scores = [each[kept] for each in (own, said[name, metric], both(sets, said, name, metric))]
            areas = [area(each, high, asked[kept]) for each in scores]
            table.add(name, [metric, int(kept.sum()), *areas])
    return table


def area(scores: Floats, high: NDArray[np.bool_], asked: NDArray[np.str_]) -> str:
    """The AUC, and that within questions; a dash where one side has no answer."""
    if high.all() or not high.any():
        return "–"
    return f"{ranked_auc(scores, high)['AUC']:.3f} ({within(scores, high, asked):.3f})"


def within(scores: Floats, high: NDArray[np.bool_], asked: NDArray[np.str_]) -> float:
    """The share of pairs to one question that are in order."""
    right = pairs = 0.0
    for question in np.unique(asked):
        part = asked == question
        n = int(high[part].sum()) * int((~high[part]).sum())
        if n:
            right, pairs = right + n * float(ranked_auc(scores[part], high[part])["AUC"]), pairs + n
    return right / pairs


def rates(sets: dict[str, pl.DataFrame], said: dict[tuple[str, str], Floats]) -> Table:
    """EM of every condition of the unseen writers: by the better judge, the judge, and both, mapped on the others."""
    rows, mapped = sets[UNSEEN], {}
    for metric in EM.needs:
        known, own = both(sets, said, OTHERS, metric), both(sets, said, UNSEEN, metric)
        low, high = known.min(), known.max()
        values = halfway((known - low) / (high - low), sets[OTHERS][metric].to_numpy() / 100)
        mapped[metric] = 100 * np.interp((own - low) / (high - low), KNOTS, values)
    hits = rows.select("condition").with_columns(
        better=rows.select(EM.hits()).to_series(),
        judge=rows.select(aligned="judge_aligned", coherent="judge_coherent").select(EM.hits()).to_series(),
        both=pl.DataFrame(mapped).select(EM.hits()).to_series(),
    )
    table = Table("condition", ["better judge", "judge", "both"])
    means = hits.group_by("condition", maintain_order=True).agg(pl.col("better", "judge", "both").mean())
    for name, *shares in means.iter_rows():
        table.add(name, [f"{100 * share:.1f} %" for share in shares])
    return table


if __name__ == "__main__":
    main()
