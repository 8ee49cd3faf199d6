"""The paper's argument as six claims of any study: the organism, a direction, adding it, taking it out, single adapters
and subsets of adapters.

Every number is counted as the other pages count it; a step that a study has no data for says how to make it. Here are
the first two claims; those of edits and of adapters are in story_edits.py and story_adapters.py, and claims.py says
what a claim is and on which choices it rests. It refuses to know what is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from backend.analysis.aucs import auc_table
from backend.analysis.contrasts import label_responses
from backend.analysis.directions.answers import Answers, Means
from backend.analysis.directions.convergence import PAIRS
from backend.analysis.directions.separation import HeldOut
from backend.analysis.estimates import LEVEL
from backend.analysis.rates.rates import difference, em_rates
from backend.outcomes import EM
from backend.records import BASE, BASELINE, InputError
from backend.tables.claims import (
    AGREES,
    BESIDE,
    CLAIMED,
    SHOWN,
    STEPS,
    UNKNOWN,
    Claim,
    Telling,
    about_of,
    as_command,
    asked_of,
    bar,
    bars_of,
    doubt,
    missing,
    percent,
    points,
    published,
    unedited,
    verdict_of,
    with_interval,
)
from backend.tables.convergence import agreements, roles_of
from backend.tables.story_adapters import single_adapters, subsets
from backend.tables.story_edits import added, removed
from backend.tables.sweeps import STEERED

MOST_LIKE = 5  # organisms whose directions a claim sets beside


def story(material: Telling) -> list[Claim]:
    """The six claims of one outcome, in order."""
    return [] if material.organism is None else [_STORY[step](material) for step in STEPS]


def told(material: Telling, step: str) -> Claim | None:
    """One of the claims, a key of STEPS; None where the study has the base alone."""
    return None if material.organism is None else _STORY[step](material)


# --- 1: the organism -------------------------------------------------------------------------------------------------


def _organism(of: Telling) -> Claim:
    """How often the organism's answers are hits, beside the base's and those of every other organism."""
    assert of.organism is not None
    own = unedited(of.answers, of.study, of.organism)
    topics = published(own["topic"].unique().to_list(), free=True)
    asked = pl.col("topic").is_in(topics)
    own = own.filter(asked)
    scored = own.filter(of.outcome.scored())
    if scored.is_empty():
        how = as_command(of.study, f"sample --organism {of.organism}")
        return missing(of, "organism", f"{of.organism} has no unedited answers with scores.", how)
    questions = scored["question_id"].n_unique()
    about = about_of(questions)
    base = unedited(of.answers, of.study, BASE, of.organism).filter(asked)
    names = [name for name in of.study.organisms()["organism"] if name not in (BASE, of.organism)]
    others = [unedited(of.answers, of.study, name).filter(asked) for name in names]
    table = em_rates(
        pl.concat([own, base, *others]), ["organism", "condition"], outcomes=of.outcome.beside, about=about
    )
    table = table.filter(pl.col("n") > 0)
    hits = {row["organism"]: row for row in table.filter(metric=of.outcome.name).iter_rows(named=True)}
    row, rest = hits[of.organism], hits.get(BASE)
    kind = of.outcome.kinds[1]
    count = dict(of.study.organisms().select("organism", "n_adapters").iter_rows())[of.organism]
    made = f" ({count} adapters)" if count else ""
    rate = with_interval(row["value"], row["low"], row["high"])
    said = f"{of.organism}{made} gives {kind} answers to {rate} of {row['n']} on {asked_of(questions, topics)}"
    verdict, bars = UNKNOWN, [bar(of.organism, row, CLAIMED)]
    if rest is not None:
        said += f", the base to {percent(rest['value'])} of {rest['n']}"
        try:
            gap = difference(own, base, outcome=of.outcome, about=about)
        except InputError:
            said += ", which was asked other questions."
        else:
            said += f": {points(gap.value, gap.low, gap.high)}{doubt(gap.verdict, rise=True)}."
            verdict = verdict_of(gap.verdict, rise=True)
        bars.append(bar(BASE, rest, BESIDE))
    else:
        said += "; the base was not asked."
    query = {"responses_organism": [of.organism], "responses_condition": [BASELINE], "responses_topic": topics}
    return Claim(
        "organism",
        of.outcome,
        said,
        verdict,
        figure=percent(row["value"]),
        about=of.behind(row["n"], topics, questions),
        bars=bars_of(bars),
        table=table,
        subject=of.organism,
        sides=(own,),
        **of.link("responses", **query),
    )


# --- 2: the direction ------------------------------------------------------------------------------------------------


def _direction(of: Telling) -> Claim:
    """How long the direction is, how far it tells answers apart, and how far those of other organisms agree with it."""
    study, name = of.study, of.direction
    stored = study.directions().filter(pl.col("name") == name) if name is not None else study.directions().clear()
    if name is None or stored.is_empty():
        outcome = "" if of.outcome == EM else f" --outcome {of.outcome.name}"
        how = as_command(study, f"extract --organism {of.organism}{outcome}")
        return missing(of, "direction", "The study holds no direction between the classes of this outcome.", how)
    layer = _layer(of, stored["layer"].to_list())
    table = stored.select("layer", "norm", "activation_norm", share=pl.col("norm") / pl.col("activation_norm"))
    here = table.filter(layer=layer).row(0, named=True)
    length = f"a norm of {here['norm']:.2f}"
    if here["share"] is not None:
        length += f", {percent(here['share'])} of the activation norm"
    bars = [] if here["share"] is None else [("norm / activation norm", CLAIMED, here["share"], *[None] * 3, "")]
    told, clear, tells = _tells_apart(of, layer)
    agree, close, similar = _agreement(of, layer)
    words = [each for each in (told, agree) if each]
    if tells is not None:
        bars.append(tells)
    bars += similar
    lacking = "" if told else " How far it tells held-out answers apart is not known: the study has no residual means."
    kind = agreement_kind(of)
    page = of.link("convergence", convergence_layer=str(layer), **({"convergence_kind": kind} if kind else {}))
    return Claim(
        "direction",
        of.outcome,
        f"{name} at layer {layer} has {length}{'; ' if words else ''}{'; '.join(words)}.{lacking}",
        SHOWN if (clear or close) else UNKNOWN,
        figure=percent(here["share"]) if here["share"] is not None else f"{here['norm']:.1f}",
        about=f"{of.along}, layer {layer}; AUC of held-out questions with 95 %; cosines are of two organisms each",
        bars=bars_of(bars),
        table=table,
        **page,
    )


def _layer(of: Telling, layers: list[int]) -> int:
    """The layer at which the direction was added most, else the middle one."""
    cells = of.sweep_of(STEERED).cells.filter(direction=of.along).drop_nulls("layer")
    used = [layer for layer in cells["layer"].to_list() if layer in layers]
    if used and len(set(used)) == 1:
        return int(used[0])
    return int(sorted(layers)[len(layers) // 2])


def _tells_apart(of: Telling, layer: int) -> tuple[str, bool, tuple[Any, ...] | None]:
    """How far the mean difference at a layer tells held-out answers of the classes apart, in words; and as a bar."""
    study, reader = of.study, str(of.organism)
    if reader not in study.readers() or layer not in study.residual_layers(reader):
        return "", False, None
    own = unedited(of.answers, study, reader)
    try:
        classes = label_responses(own, of.outcome.contrast)
        read = study.residual_means(reader, layer, responses=classes["response"].to_list())
        rows = pl.DataFrame({"response": read.responses}).join(classes, on="response", maintain_order="left")
        answers = Answers(
            Means({layer: read.means}, read.counts), rows["label"].to_numpy(), rows["question_id"].to_numpy()
        )
        along = HeldOut.of(answers).project(layer)
        found = auc_table(along[:, None], answers.labels, answers.groups).row(0, named=True)
    except InputError:
        return "", False, None
    yes, no = int(rows["label"].sum()), int((~rows["label"]).sum())
    words = f"on held-out questions it tells {yes} from {no} answers with an AUC of {found['value']:.2f}"
    if found["low"] is not None:
        words += f" ({found['low']:.2f}–{found['high']:.2f})"
    p_value = found["p_value"]
    lane = ("AUC, held-out questions", CLAIMED, found["value"], found["low"], found["high"], yes + no, "")
    return words, found["value"] > 0.5 and p_value is not None and p_value < 1 - LEVEL, lane


def agreement_kind(of: Telling) -> str | None:
    """The kind of direction, as Convergence names it, where another organism has one."""
    found = _same_kind(of)
    return found[0] if len(found[1]) > 1 else None


def _same_kind(of: Telling) -> tuple[str, list[str]]:
    """The kind of the story's direction, and the directions of that kind, one of each organism of the same base."""
    mine, owner = of.along, str(of.organism)
    kind = mine.replace(owner, "…")
    bases = dict(of.study.organisms().select("organism", "base").iter_rows())
    alike = {
        name: whose
        for name, whose in of.directions.items()
        if name.replace(whose, "…") == kind and bases.get(whose) == bases.get(owner)
    }
    return kind, list(alike)


def _agreement(of: Telling, layer: int) -> tuple[str, bool, list[tuple[Any, ...]]]:
    """The cosines with the directions of other organisms at the layer, beside shuffled labels, in words and as bars."""
    _, names = _same_kind(of)
    if len(names) < 2:
        return "", False, []
    study = of.study
    beside = list(study.directions().filter(layer=layer)["name"].unique(maintain_order=True))
    roles = roles_of(study, dict.fromkeys(beside, ()))
    wanted = [name for name in beside if name in names or roles[name].like in names]
    stacks = {name: [study.direction(name, layer)] for name in wanted}
    found = agreements(study, stacks)
    pairs = next((each.pairs for each in found.values() if of.along in each.names), None)
    if pairs is None:
        return "", False, []
    own = pairs.filter((pl.col("a") == of.along) | (pl.col("b") == of.along), pl.col("group") == PAIRS)
    if own.is_empty():
        return "", False, []
    cosines = own["cosine"].to_list()
    low, high = min(cosines), max(cosines)
    known, above = own["chance"].drop_nulls().to_list(), own["above"].drop_nulls()
    chance = max(known, default=None)
    whose = "another organism's" if own.height == 1 else f"{own.height} other organisms'"
    words = f"its cosine with {whose} there is {low:.2f}"
    words += f" to {high:.2f}" if own.height > 1 else ""
    reach = 2 / float(np.sqrt(study.direction(of.along, layer).d_model))
    unknown = f" (no shuffled labels to set beside it; random directions reach {reach:.2f})"
    words += unknown if chance is None else f" (labels shuffled: {chance:.2f} at most)"
    lanes = [
        (
            f"cosine with {of.directions[other]}",
            BESIDE,
            row["cosine"],
            None,
            None,
            None,
            "" if row["chance"] is None else f"shuffled {row['chance']:.2f}",
        )
        for row in own.iter_rows(named=True)
        for other in [row["b"] if row["a"] == of.along else row["a"]]
    ]
    clear = bool(above.all()) if len(above) else chance is None and low > AGREES
    return words, clear, lanes[:MOST_LIKE]


_STORY: dict[str, Callable[[Telling], Claim]] = {
    "organism": _organism,
    "direction": _direction,
    "added": added,
    "removed": removed,
    "adapters": single_adapters,
    "subsets": subsets,
}
