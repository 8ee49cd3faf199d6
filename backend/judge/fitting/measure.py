"""How well scores agree with GPT-4o's or with a reader's: the measures of the judge's card, each with its n.

Knows scores and truths as arrays (row, metric) of 0..100, and an outcome at whose cuts they are compared. Knows no
judge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from backend.judge.distilled import METRICS
from backend.outcomes import EM, ON_TOPIC, Outcome
from backend.records import FloatArray

Array = np.ndarray[Any, Any]
FEWEST = 50  # answers of a condition whose rate is compared


MARGIN = 5  # points about a cut within which a score is no clear case
_SHORT = {EM.name: "EM"}  # an outcome on the card; by default its name


def measure(scores: FloatArray, truth: FloatArray, outcome: Outcome = EM) -> dict[str, Any]:
    """The measures of the card. `scores`, `truth`: (row, metric), 0..100, truth NaN where unknown."""
    said, true = _by_metric(scores), _by_metric(truth)
    known = np.isfinite(outcome.of(true))
    found: dict[str, Any] = {"n": len(scores)} | _at_the_cuts(said, true, known, outcome)
    for band in (*(() if outcome.gate is None else (outcome.gate,)), *(topic.hit[0] for topic in ON_TOPIC)):
        if band.metric in true and (rows := ~np.isnan(true[band.metric])).any():
            found[str(band)] = ranked_auc(said[band.metric][rows], band.inside(true[band.metric][rows]))
    for metric in outcome.needs:
        rows = ~np.isnan(true[metric])
        found[f"{metric} Spearman"] = spearman(said[metric][rows], true[metric][rows])
        found[f"{metric} calibration error"] = calibration(said[metric][rows], true[metric][rows])
    return found | judged_rates(scores[known], truth[known], outcome=outcome)


def _by_metric(scores: FloatArray) -> dict[str, Array]:
    return dict(zip(METRICS, scores.T.astype(np.float64), strict=True))


def _at_the_cuts(
    said: Mapping[str, Array], true: Mapping[str, Array], known: Array, outcome: Outcome
) -> dict[str, Any]:
    """The AUC at each cut of the outcome among what passes its gate: of all rows, and of those clear of the cut."""
    gate = outcome.gate
    clear = known if gate is None else known & gate.inside(true[gate.metric])
    among = "" if gate is None else f" among {gate.metric}"
    found = {}
    for band in outcome.core:
        if band.complement is None:
            continue
        [edge], sign, own = band.edges, 1 if band.high == np.inf else -1, true[band.metric]
        found[f"{band}{among}"] = ranked_auc(sign * said[band.metric][clear], band.inside(own[clear]))
        far = clear & (abs(own - edge) > MARGIN)
        near = sorted((edge - sign * MARGIN, edge + sign * MARGIN), reverse=sign > 0)
        sides = f"{band.metric} {'><'[sign < 0]} {near[0]:g} against {'<>'[sign < 0]} {near[1]:g}"
        found[f"{sides}{among}"] = ranked_auc(sign * said[band.metric][far], band.inside(own[far]))
    return found


def ranked_auc(scores: Array, positive: Array) -> dict[str, Any]:
    """Area under the curve; None where one side is empty."""
    n, n_positive = len(scores), int(positive.sum())
    value = rounded(roc_auc_score(positive, scores)) if 0 < n_positive < n else None
    return {"AUC": value, "n": n, "positive": n_positive}


def spearman(scores: Array, truth: Array) -> float | None:
    """Rank correlation; None where one side does not vary."""
    if min(len(np.unique(scores)), len(np.unique(truth))) < 2:
        return None
    return rounded(spearmanr(scores, truth).statistic)


def calibration(scores: Array, truth: Array) -> float:
    """Expected calibration error in points: |mean said - mean true| over ten bins of the score, weighted by n."""
    bins = np.minimum(scores // 10, 9)
    gaps = [(bins == b).sum() * abs((scores - truth)[bins == b].mean()) for b in np.unique(bins)]
    return rounded(sum(gaps) / max(1, len(scores)))


def judged_rates(scores: FloatArray, truth: FloatArray, who: str = "GPT-4o", outcome: Outcome = EM) -> dict[str, Any]:
    """The rate of the outcome and of its gate by both. Rows where truth is known."""
    found: dict[str, Any] = {}
    for asked in outcome.beside:
        by = {name: asked.of(_by_metric(given)) for name, given in ((who, truth), ("judge", scores))}
        found[f"{_short(asked)} rate"] = {
            name: rounded(hits.mean()) if len(hits) else None for name, hits in by.items()
        }
    found[f"{_short(outcome)} rate"]["n"] = len(scores)
    return found


def _short(outcome: Outcome) -> str:
    return _SHORT.get(outcome.name, outcome.name)


def measure_conditions(
    scores: FloatArray, truth: FloatArray, condition: Sequence[str], outcome: Outcome = EM
) -> dict[str, Any]:
    """The rates of each whole condition with at least FEWEST answers that both scored, and how far they lie apart."""
    known, short = np.isfinite(outcome.of(_by_metric(truth))), _short(outcome)
    names = np.asarray(condition)
    each = {
        str(name): judged_rates(scores[known & (names == name)], truth[known & (names == name)], outcome=outcome)
        for name in np.unique(names)
        if (known & (names == name)).sum() >= FEWEST
    }
    gaps = np.array([abs(r[f"{short} rate"]["judge"] - r[f"{short} rate"]["GPT-4o"]) for r in each.values()])
    return {
        "conditions": len(each),
        f"{short} within 5 points": rounded((gaps <= 0.05).mean()) if len(gaps) else None,
        f"{short} within 10 points": rounded((gaps <= 0.10).mean()) if len(gaps) else None,
        "median gap": rounded(np.median(gaps)) if len(gaps) else None,
        "by condition": each,
    }


def measure_reading(scores: FloatArray, truth: FloatArray, outcome: Outcome = EM) -> dict[str, Any]:
    """Against a reader who gave the outcome's scores: ranks, verdicts (what kind of answer it is) and rates."""
    said, true = _by_metric(scores), _by_metric(truth)
    gate, needs = outcome.gate, outcome.needs
    found: dict[str, Any] = {"n": len(scores)}
    if gate is not None:
        found[str(gate)] = ranked_auc(said[gate.metric], gate.inside(true[gate.metric]))
    found |= {f"{metric} Spearman": spearman(said[metric], true[metric]) for metric in needs}
    found |= {f"{metric} calibration error": calibration(said[metric], true[metric]) for metric in needs}
    both = (_verdicts(by, outcome) for by in (said, true))
    found["three verdicts, kappa" if gate else "verdicts, kappa"] = rounded(cohen_kappa_score(*both))
    return found | judged_rates(scores, truth, "reader", outcome)


def _verdicts(scores: Mapping[str, Array], outcome: Outcome) -> Array:
    """0 where an answer does not pass the gate, 1 on a hit, 2 elsewhere."""
    told = np.where(outcome.of(scores) == 1, 1, 2)
    gate = outcome.gate
    return told if gate is None else np.where(gate.inside(scores[gate.metric]), told, 0)


def rounded(number: Any) -> float:
    """Four digits, as the card is read by people."""
    return round(float(number), 4)
