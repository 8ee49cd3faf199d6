"""How far two judges agree on the same answers: at the thresholds of an outcome, and in how they rank.

One judge is measured against another, the reference; neither is the truth. Intervals resample questions, since answers
to one question are alike. Measures have no value where the reference put all answers on one side.
It refuses to know what a judge is, and where answers come from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import rankdata

from backend.analysis.aucs import auc, auc_estimate
from backend.analysis.estimates import expanded_percentile
from backend.analysis.groups import Bools, Floats, Ints, group_codes, group_draws
from backend.analysis.rates.rates import em_rates
from backend.outcomes import EM, UNGATED, Band, Outcome
from backend.records import InputError

FEWEST = 10  # answers that both scored, below which nothing is compared
FEWEST_POSITIVE = 8  # on either side, below which a bootstrap says nothing of an AUC or of a verdict's kappa
ALPHA = "verdicts: Krippendorff's alpha"
_KEPT = ("response", "organism", "condition", "question_id", "question", "text")
_SCHEMA = {
    "measure": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n": pl.Int64,
    "positive": pl.Int64,
}


def pair(judge: pl.DataFrame, reference: pl.DataFrame, outcome: Outcome = EM) -> pl.DataFrame:
    """The answers to which both judges gave every score the outcome needs: those and the verdict, the reference's `_r`.

    Both frames have a row a response with these metrics; a verdict is one of `outcome.kinds`. Raises InputError below
    FEWEST such answers.
    """
    metrics = outcome.needs
    for frame in (judge, reference):
        missing = set(metrics) - set(frame.columns)
        if missing:
            raise InputError(f"a judge gives no score for {' and '.join(sorted(missing))}: choose one that does")
    scored = reference.select("response", *metrics).drop_nulls()
    both = judge.select(*_KEPT, *metrics).drop_nulls(metrics).join(scored, on="response", suffix="_r")
    if both.height < FEWEST:
        raise InputError(
            f"both judges scored {both.height} of the same answers: {FEWEST} at least are needed to compare them. "
            "Score or label more answers"
        )
    return both.with_columns(verdict=outcome.kind(), verdict_r=outcome.kind("_r"))


def verdict_counts(pairs: pl.DataFrame, outcome: Outcome = EM) -> pl.DataFrame:
    """[verdict, verdict_r, n]: every combination, also those that did not occur."""
    kinds = list(outcome.kinds)
    every = pl.DataFrame({"verdict": kinds}).join(pl.DataFrame({"verdict_r": kinds}), how="cross")
    counts = pairs.group_by("verdict", "verdict_r").len("n")
    return every.join(counts, on=["verdict", "verdict_r"], how="left", maintain_order="left").with_columns(
        pl.col("n").fill_null(0).cast(pl.Int64)
    )


def judge_agreement(pairs: pl.DataFrame, outcome: Outcome = EM, seed: int = 0) -> pl.DataFrame:
    """[measure, value, low, high, n, positive]: kappa and alpha of the verdicts, kappas of each, AUC, rank correlation.

    `pairs` are those of `outcome`. `positive` counts the reference's answers on the side that is asked for; an AUC is
    the judge's score against the reference's threshold, where that is a single one. Ends are null with fewer than
    FEWEST_POSITIVE answers on a side.
    """
    codes, counts = group_draws(group_codes(pairs["question_id"], pairs.height), np.random.default_rng(seed))
    given, told = (pairs[name].to_numpy() for name in ("verdict", "verdict_r"))
    kinds = outcome.kinds
    rows: list[tuple[Any, ...]] = []
    if len(kinds) > 2:
        rows.append(_kappa_row("three verdicts: kappa", given, told, kinds, codes, counts, None))
    rows.append(_kappa_row(ALPHA, given, told, kinds, codes, counts, None, alpha))
    for kind in kinds[1:]:
        sides = (np.where(given == kind, kind, "other"), np.where(told == kind, kind, "other"))
        positive = int((told == kind).sum())
        rows.append(_kappa_row(f"{kind} or not: kappa", *sides, (kind, "other"), codes, counts, positive))
    clear = told != UNGATED if outcome.gate else np.full(len(told), True)
    if outcome.gate:
        rows.append(_auc_row(f"{outcome.gate.metric}: AUC", _towards(pairs, outcome.gate), clear, codes))
    among = f" among {outcome.gate.metric}" if outcome.gate else ""
    for band in outcome.core:
        if band.complement is None:
            continue
        name = f"{kinds[1] if len(outcome.core) == 1 else band}{among}: AUC"
        positive_here = band.inside(pairs[f"{band.metric}_r"].to_numpy())[clear]
        rows.append(_auc_row(name, _towards(pairs, band)[clear], positive_here, codes[clear]))
    for metric in outcome.needs:
        scores = (pairs[metric].to_numpy(), pairs[f"{metric}_r"].to_numpy())
        rows.append(_rank_row(f"{metric}: rank correlation", *scores, codes, counts))
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row").with_columns(pl.col(pl.Float64).fill_nan(None))


def _towards(pairs: pl.DataFrame, band: Band) -> Floats:
    """The judge's scores, larger towards the band, which is open at one end."""
    scores: Floats = pairs[band.metric].to_numpy()
    return scores if band.high == np.inf else -scores


def rates_by_judge(
    judges: Mapping[str, pl.DataFrame], by: Sequence[str] = ("organism", "condition"), outcome: Outcome = EM
) -> pl.DataFrame:
    """Rates of an outcome and its gate in every group by every judge, over the answers that all gave every score.

    Returns the columns of `em_rates` and judge.
    """
    scored = [frame.drop_nulls(outcome.needs).select("response") for frame in judges.values()]
    shared = scored[0]
    for other in scored[1:]:
        shared = shared.join(other, on="response", how="semi")
    tables = []
    for judge, frame in judges.items():
        common = frame.join(shared, on="response", how="semi", maintain_order="left")
        tables.append(em_rates(common, list(by), outcomes=outcome.beside).with_columns(judge=pl.lit(judge)))
    return pl.concat(tables)


def apart(pairs: pl.DataFrame, metric: str, most: int = 200) -> pl.DataFrame:
    """The answers on whose `metric` the two judges differ most, the farthest first, with the column difference."""
    gap = (pl.col(metric) - pl.col(f"{metric}_r")).alias("difference")
    order = pl.col("difference").abs()
    return pairs.with_columns(gap).sort(order, "response", descending=[True, False]).head(most)


def spread(questions: Sequence[str], rng: np.random.Generator) -> list[int]:
    """An order of answers in which every question comes once before any comes twice, else random."""
    turn: dict[str, int] = {}
    order: list[tuple[int, float, int]] = []
    for i in rng.permutation(len(questions)).tolist():
        turn[questions[i]] = turn.get(questions[i], -1) + 1
        order.append((turn[questions[i]], float(rng.random()), i))
    return [i for _, _, i in sorted(order)]


def reading_order(frame: pl.DataFrame, seed: int = 0) -> pl.DataFrame:
    """The rows in random order such that every beginning is even over organisms, conditions and their questions."""
    rng = np.random.default_rng(seed)
    cells = frame.partition_by("organism", "condition", maintain_order=True)
    dealt = [cell[spread(cell["question_id"].to_list(), rng)].with_row_index("round") for cell in cells]
    drawn = pl.concat(dealt).with_columns(pl.Series("lot", rng.random(frame.height)))
    return drawn.sort("round", "lot").drop("round", "lot")


# --- one row each -----------------------------------------------------------------------------------------------------


def _kappa_row(
    name: str,
    a: Any,
    b: Any,
    kinds: Sequence[str],
    codes: Ints,
    counts: Floats,
    positive: int | None,
    agreed: Callable[[Floats], Floats] | None = None,
) -> tuple[Any, ...]:
    agreed = agreed or kappa
    place = {kind: i for i, kind in enumerate(kinds)}
    size = len(kinds)
    cells = np.array([place[x] * size + place[y] for x, y in zip(a, b, strict=True)])
    groups = counts.shape[1]
    table = np.bincount(codes * size**2 + cells, minlength=groups * size**2).reshape(groups, size, size)
    drawn = agreed(np.einsum("dg,gij->dij", counts, table))
    value = float(agreed(table.sum(0)[None])[0])
    if positive is not None and min(positive, len(a) - positive) < FEWEST_POSITIVE:
        drawn = np.array([np.nan])
    return (name, *_ends(value, drawn, len(np.unique(codes))), len(a), positive)


def kappa(tables: Floats) -> Floats:
    """Cohen's kappa of square tables of counts (table, kind, kind), NaN where both judges used one kind alone."""
    total = tables.sum((1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = np.trace(tables, axis1=1, axis2=2) / total
        expected = (tables.sum(2) * tables.sum(1)).sum(1) / total**2
        found: Floats = np.where(expected < 1, (observed - expected) / (1 - expected), np.nan)
    return found


def alpha(tables: Floats) -> Floats:
    """Krippendorff's nominal alpha of square tables of two readers' counts (table, kind, kind), NaN where all agree on
    one kind (2011, Computing Krippendorff's Alpha-Reliability)."""
    together = tables + tables.transpose(0, 2, 1)
    size = tables.shape[1]
    return krippendorff(together, 1 - np.eye(size))


def krippendorff(together: Floats, apart: Floats) -> Floats:
    """Alpha of coincidences (table, value, value), with how far two values are apart (value, value), 0 on the diagonal.

    1 - (n - 1) sum(o d) / sum(n_c n_k d), n_c the row sums; NaN where one value alone was given.
    """
    each = together.sum(2)
    n = each.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        seen = (together * apart).sum((1, 2)) * (n - 1)
        expected = np.einsum("tc,tk,ck->t", each, each, apart)
        found: Floats = np.where(expected > 0, 1 - seen / expected, np.nan)
    return found


def readers_alpha(said: Sequence[Mapping[str, str]], kinds: Sequence[str]) -> tuple[float, int]:
    """Krippendorff's nominal alpha of any number of readers, each (answer -> kind), and how many answers it is of.

    An answer counts that two or more of them read, every pair of its kinds by 1 / (readers - 1).
    """
    place = {kind: i for i, kind in enumerate(kinds)}
    together, answers = np.zeros((1, len(kinds), len(kinds))), 0
    for answer in dict.fromkeys(answer for reader in said for answer in reader):
        given = np.bincount([place[reader[answer]] for reader in said if answer in reader], minlength=len(kinds))
        if given.sum() > 1:
            answers += 1
            together[0] += (np.outer(given, given) - np.diag(given)) / (given.sum() - 1)
    return float(krippendorff(together, 1 - np.eye(len(kinds)))[0]), answers


def _auc_row(name: str, scores: Any, positive: Bools, codes: Ints) -> tuple[Any, ...]:
    value = auc(scores, positive) if len(scores) else np.nan
    low = high = np.nan
    if min(positive.sum(), (~positive).sum()) >= FEWEST_POSITIVE:
        found = auc_estimate(scores, positive, codes)
        low, high = found.low, found.high
    return (name, value, low, high, len(scores), int(positive.sum()))


def _rank_row(name: str, a: Any, b: Any, codes: Ints, counts: Floats) -> tuple[Any, ...]:
    """Spearman's correlation; draws weigh the ranks among all answers."""
    x, y = rankdata(a), rankdata(b)
    x, y = x - x.mean(), y - y.mean()
    parts = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y])
    sums = np.stack([np.bincount(codes, weights=part, minlength=counts.shape[1]) for part in parts])
    drawn = _correlation(*(counts @ sums.T).T)
    value = float(_correlation(*parts.sum(1)[:, None])[0])
    return (name, *_ends(value, drawn, len(np.unique(codes))), len(x), None)


def _correlation(n: Floats, x: Floats, y: Floats, xx: Floats, yy: Floats, xy: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = (xy - x * y / n) / np.sqrt((xx - x * x / n) * (yy - y * y / n))
    return found


def _ends(value: float, drawn: Floats, groups: int) -> tuple[float, float, float]:
    low, high = expanded_percentile(drawn, groups) if np.isfinite(value) else (np.nan, np.nan)
    return (value, np.nan, np.nan) if np.isnan(low) else (value, min(low, value), max(high, value))
