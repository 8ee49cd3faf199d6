"""What a direction sets off behind its layer, as tables: a run's numbers with intervals, beside its controls.

A direction's own numbers are means over questions with a t interval over them. A control is one draw of its kind, so
what they give is the range that holds one more of them. It refuses to know how anything was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from scipy.special import stdtr

from backend.analysis.directions.convergence import FEWEST_DRAWS
from backend.analysis.directions.decomposition import decomposed
from backend.analysis.estimates import one_more_draw, without_each
from backend.analysis.rates.families import with_family
from backend.analysis.rates.rates import FEWEST_QUESTIONS as FEWEST_QUESTIONS
from backend.records import RESIDUAL_WRITERS, FloatArray, InputError
from backend.study import Study

KIND = "downstream"
COURSES = ("gain", "cosine", "aside")
BETWEEN = "between"  # the side of positive less negative texts, a question


def runs(study: Study) -> dict[str, dict[str, Any]]:
    """The records of the study's runs, by name."""
    return study.measurements(KIND)


# --- what all tables are made of --------------------------------------------------------------------------------------


def estimates(rows: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """[*by, value, low, high, questions]: means over questions of a direction's own rows."""
    found = []
    for key, part in rows.group_by(by, maintain_order=True):
        each = part.group_by("question", maintain_order=True).agg(pl.col("value").mean())["value"].to_numpy()
        size = len(each)
        left = (each.sum() - each) / (size - 1) if size > 1 else np.full(1, np.nan)
        mean = without_each(float(each.mean()), left, size)
        found.append((*key, mean.value, mean.low, mean.high, size))
    schema: dict[str, Any] = {name: rows.schema[name] for name in by}
    schema |= {"value": pl.Float64, "low": pl.Float64, "high": pl.Float64, "questions": pl.Int64}
    table = pl.DataFrame(found, schema, orient="row")
    return table.with_columns(pl.col("low", "high").fill_nan(None))  # of one question there is no interval


def ranges(rows: pl.DataFrame, kinds: dict[str, str], by: Sequence[str]) -> pl.DataFrame:
    """[kind, *by, value, low, high, draws]: of every kind of control, the mean and what holds one more of them.

    Of fewer than `FEWEST_DRAWS` no range is given.
    """
    named = pl.DataFrame(list(kinds.items()), {"vector": pl.String, "kind": pl.String}, orient="row")
    rows = rows.join(named, on="vector", how="inner", maintain_order="left")
    found = []
    for key, part in rows.group_by(["kind", *by], maintain_order=True):
        draw = one_more_draw(part["value"].to_numpy())
        low, high = (draw.low, draw.high) if part.height >= FEWEST_DRAWS else (None, None)
        found.append((*key, draw.value, low, high, part.height))
    schema: dict[str, Any] = {"kind": pl.String, **{name: rows.schema[name] for name in by}}
    schema |= {"value": pl.Float64, "low": pl.Float64, "high": pl.Float64, "draws": pl.Int64}
    return pl.DataFrame(found, schema, orient="row")


def _sides(study: Study, run: str, *measures: str) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, str]]:
    """The direction's own rows of some measures, those of controls, and the kind of every control."""
    rows = study.measured(KIND, run).filter(pl.col("measure").is_in(measures))
    return rows.filter(pl.col("question") != ""), rows.filter(pl.col("question") == ""), runs(study)[run]["controls"]


# --- through the layers -----------------------------------------------------------------------------------------------


def course(study: Study, run: str, measure: str, segment: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """One of `COURSES` at every layer, at the smallest length: [reader, layer, *columns of `estimates`], and controls:
    [kind, reader, layer, *columns of `ranges`]."""
    own, controls, kinds = _sides(study, run, measure)
    least = pl.col("strength") == own["strength"].min(), pl.col("segment") == segment
    by = ["reader", "layer"]
    return estimates(own.filter(*least), by).sort(by), ranges(controls.filter(*least), kinds, by).sort("kind", *by)


def linearity(study: Study, run: str) -> pl.DataFrame:
    """[reader, strength, *columns of `estimates`]: the gain at answer tokens of the last layer, by the smallest's.

    Where it is 1, twice the length is twice the change.
    """
    own, _, _ = _sides(study, run, "gain")
    own = own.filter(pl.col("segment") == "answer", pl.col("layer") == own["layer"].max())
    least = own.filter(pl.col("strength") == own["strength"].min()).select("reader", "question", least="value")
    ratios = own.join(least, on=["reader", "question"]).with_columns(pl.col("value") / pl.col("least"))
    return estimates(ratios, ["reader", "strength"]).sort("reader", "strength")


def resemblance(study: Study, run: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The paper's appendix D: [side, layer, *columns of `estimates`], and controls: [kind, side, layer, ...]."""
    own, controls, kinds = _sides(study, run, "resemblance")
    return estimates(own, ["side", "layer"]).sort("side", "layer"), ranges(controls, kinds, ["side", "layer"])


def highest_resemblance(study: Study, run: str) -> pl.DataFrame:
    """[kind, side, value, low, high, draws]: of each control the largest over the layers, as a peak is."""
    _, controls, kinds = _sides(study, run, "resemblance")
    most = controls.group_by("vector", "side", maintain_order=True).agg(pl.col("value").max())
    return ranges(most, kinds, ["side"]).sort("kind", "side")


# --- parts and tokens -------------------------------------------------------------------------------------------------


def excited(study: Study, run: str) -> pl.DataFrame:
    """How far each part's output changes at answer tokens, by the length of what was added.

    [reader, part, kind, layer, strength, *columns of `estimates`, random, random_low, random_high]: beside what random
    directions of equal length do.
    """
    own, controls, kinds = _sides(study, run, "excited")
    by = ["reader", "part", "layer", "strength"]
    chance = ranges(controls, kinds, by).filter(pl.col("kind") == "random")
    chance = chance.select(*by, random="value", random_low="low", random_high="high")
    table = estimates(own, by).join(chance, on=by, how="left", maintain_order="left")
    return _with_kinds(study, run, table).sort("reader", "strength", "layer", "part")


def shares(study: Study, run: str, reader: str, side: str) -> pl.DataFrame:
    """What of the change of the answer's log probability is each part's, attributed and by freezing it, in nats.

    At the largest length.

    [part, kind, layer, attributed, frozen, apart, each with _low and _high, p_value, q_value, family, disagree,
    questions, change]: `apart` is attributed less frozen, a question; they disagree where it is not 0 after correction
    over the parts of the table, of which one with fewer than `FEWEST_QUESTIONS` questions has no p-value. `change` is
    the whole change. `side` is a class of texts, or `BETWEEN`: the positive class less the negative one, of questions
    that have both.
    """
    own, _, _ = _sides(study, run, "attributed", "frozen", "change")
    own = own.filter(pl.col("reader") == reader, pl.col("strength") == own["strength"].max())
    own = _between(own, runs(study)[run]) if side == BETWEEN else own.filter(pl.col("side") == side)
    change = own.filter(pl.col("measure") == "change")["value"].mean()
    own = own.filter(pl.col("measure") != "change")
    both = own.pivot("measure", index=["part", "layer", "question"], values="value").drop_nulls()
    if both.is_empty():
        return pl.DataFrame()
    both = both.with_columns(apart=pl.col("attributed") - pl.col("frozen"))
    table = None
    for name in ("attributed", "frozen", "apart"):
        found = estimates(both.with_columns(value=name), ["part", "layer"])
        found = found.rename({"value": name, "low": f"{name}_low", "high": f"{name}_high"})
        table = found if table is None else table.join(found.drop("questions"), on=["part", "layer"])
    assert table is not None
    by_part = {part: _chance(rows["apart"].to_numpy()) for (part,), rows in both.group_by("part")}
    table = table.with_columns(p_value=pl.Series([by_part[part] for part in table["part"]], dtype=pl.Float64))
    table = with_family(table).with_columns(change=pl.lit(change), stands=pl.col("stands").fill_null(value=False))
    table = table.rename({"stands": "disagree"})
    return _with_kinds(study, run, table).sort(pl.col("frozen").abs(), descending=True)


def changes(study: Study, run: str) -> pl.DataFrame:
    """The change of the answer's log probability, nats a token: [reader, side, strength, *columns of `estimates`,
    random, random_low, random_high], of each class and `BETWEEN` them.

    Between the classes a run made before controls were paired there has none: null.
    """
    own, controls, kinds = _sides(study, run, "change")
    by = ["reader", "side", "strength"]
    table = estimates(pl.concat([own, _between(own, runs(study)[run])]), by)
    chance = ranges(controls, kinds, by).filter(pl.col("kind") == "random")
    chance = chance.select(*by, random="value", random_low="low", random_high="high")
    return table.join(chance, on=by, how="left", maintain_order="left").sort(by)


def tokens(study: Study, run: str) -> pl.DataFrame:
    """[reader, token, *columns of `estimates`]: the tokens whose logits moved most, the highest first.

    They were chosen among all by these same means, so their intervals are on the narrow side.
    """
    own, _, _ = _sides(study, run, "logit")
    return estimates(own.rename({"part": "token"}), ["reader", "token"]).sort(
        "reader", "value", descending=[False, True]
    )


def class_difference(rows: pl.DataFrame, positive: str, negative: str) -> pl.DataFrame:
    """Rows of the positive class less those of the negative one, as the side `BETWEEN`, of questions that have both."""
    by = [name for name in rows.columns if name not in ("side", "value")]
    left, right = (rows.filter(pl.col("side") == side) for side in (positive, negative))
    both = left.join(right, on=by, suffix="_negative", nulls_equal=True, maintain_order="left")
    return both.with_columns(pl.col("value") - pl.col("value_negative"), side=pl.lit(BETWEEN)).select(rows.columns)


def _between(own: pl.DataFrame, record: dict[str, Any]) -> pl.DataFrame:
    return class_difference(own, record["positive"], record["negative"])


def _chance(values: FloatArray) -> float:
    """The p-value of a mean of 0 over questions, by a two-sided t test; NaN below `FEWEST_QUESTIONS`."""
    size = len(values)
    if size < FEWEST_QUESTIONS:
        return np.nan
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(size))
    return float(2 * stdtr(size - 1, -abs(mean) / error)) if error else float(mean == 0)


def _with_kinds(study: Study, run: str, table: pl.DataFrame) -> pl.DataFrame:
    """With what kind of part each is."""
    parts = [(name, kind) for name, (kind, _) in runs(study)[run]["parts"].items()]
    named = pl.DataFrame(parts, {"part": pl.String, "kind": pl.String}, orient="row")
    return table.join(named, on="part", how="left", maintain_order="left")


# --- into write vectors -----------------------------------------------------------------------------------------------


def decomposition(study: Study, organism: str, name: str, layer: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A direction by the write vectors of an organism's adapters up to its layer.

    [adapter, layer, cosine, coefficient, without], and of the direction and the controls that stand beside it:
    [direction, control, share, chance, chance_low, chance_high, writes, dimensions]. Raises InputError where fewer than
    two adapters write to the stream up to the layer.
    """
    adapters = study.adapters(organism)
    ends = pl.col("module").str.split(".").list.last().is_in(RESIDUAL_WRITERS)
    adapters = adapters.filter(ends, pl.col("layer") <= layer)
    altered = (study.info.get("altered") or {}).get(organism) or ()
    names = [each for each in adapters["name"] if each not in altered]
    target = study.direction(name, layer)
    width = target.vector.size
    writes = np.array([study.adapter(organism, each).write for each in names], np.float32).reshape(-1, width)
    found = decomposed(target.vector, writes)
    rows = pl.DataFrame(
        {
            "adapter": names,
            "layer": adapters.filter(pl.col("name").is_in(names))["layer"],
            "cosine": found.cosines,
            "coefficient": found.coefficients,
            "without": found.without,
        }
    )
    beside = [each for each in study.directions_near(layer) if each.layer == layer and each.origin.like == name]
    wholes = [(name, False, found), *((each.name, True, decomposed(each.vector, writes)) for each in beside)]
    shares = pl.DataFrame(
        [(said, control, each.share, *each.chance, each.rank, width) for said, control, each in wholes],
        ["direction", "control", "share", "chance", "chance_low", "chance_high", "writes", "dimensions"],
        orient="row",
    )
    return rows, shares


def decomposable(study: Study, organism: str) -> list[str]:
    """Directions, controls left out, of an organism that has write vectors to decompose them into; its own first."""
    if not study.adapters(organism).height:
        raise InputError(f"{organism} has no adapters: choose an organism that was fine-tuned with LoRA")
    named = study.directions().unique("name", maintain_order=True)
    kinds = [(name, study.direction_stack(name)[0].origin) for name in named["name"]]
    own = [name for name, origin in kinds if origin.like is None and origin.organism == organism]
    return own + [name for name, origin in kinds if origin.like is None and origin.organism != organism]
