"""Specialisation: what each adapter tells, what it causes, and where the two disagree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl
import streamlit as st

from backend.analysis.conditions.causal import (
    ONLY_ONE,
    ONLY_SOME,
    ONLY_TWO,
    SCALED,
    WITHOUT_ONE,
    WITHOUT_TWO,
    ProbeClaim,
    against_cause,
    gain_rates,
    pair_interactions,
    short_names,
    single_effects,
    unit_of,
)
from backend.analysis.contrasts import contrast_sizes
from backend.analysis.probes.specialisation import BOTH, MOST, NEITHER, place, rank_agreement
from backend.analysis.rates.families import of_family
from backend.analysis.rates.fourway import NEEDS, four_way
from backend.charts.four_cells import cell_chart
from backend.charts.tells_and_causes import (
    BRUSH,
    BY_LAYER,
    BY_LEAN,
    BY_MODULE,
    effect_chart,
    interaction_chart,
    map_chart,
    rank_chart,
)
from backend.outcomes import EM, Outcome
from backend.records import InputError
from backend.study import Study
from backend.study.outcome_json import contrasts_of, outcomes_of
from backend.tables import gains as tables
from backend.tables.adapters import axis_of
from panels.adapters import choose_adapters, choose_scalar_reader, choose_statistic, response_scalars
from panels.classes import Classes, choose_classes
from panels.corrected_rates import by_cells, show_with_correction
from panels.figures import show_chart
from panels.frame import (
    choose_judge,
    choose_outcome,
    current_study,
    explained,
    listed,
    per_study,
    plain,
    responses_of,
    responses_read,
)
from panels.gains import Plan, act_on, choose_plan, suggest
from panels.opening import opening

# the paper's contrasts (Figure 6) where they have answers enough, else the next
TOPICS = ("medical, among misaligned", "medical, among aligned", "medical question")
VALENCES = ("misalignment, non-medical", "misalignment, medical", "misalignment")
ENOUGH = 20  # responses on either side
CLEAR = 0.05  # a rate whose interval lies above it is no accident
COLOURS = (BY_LEAN, BY_LAYER, BY_MODULE)
SHARE = st.column_config.NumberColumn(format="percent")


@per_study
def first_contrast(study: Study, judge: str | None, reader: str, names: tuple[str, ...]) -> str:
    """The first of these contrasts with answers enough of both classes, from two questions at least."""
    sizes = contrast_sizes(
        responses_read(study, reader, judge), [each for each in contrasts_of(study.info) if each.name in names]
    )
    enough = sizes.group_by("contrast").agg(pl.col("responses").min(), pl.col("questions").min())
    found = enough.filter(pl.col("responses") >= ENOUGH, pl.col("questions") >= 2)["contrast"].to_list()
    return next((name for name in names if name in found), names[-1])


def choose_axes(study: Study, judge: str | None, reader: str, outcome: Outcome) -> tuple[Classes, Classes]:
    """The classes of either axis: at first those of a topic, and those of the outcome."""
    axes, valences = [], VALENCES if outcome == EM else (outcome.contrast.name,)
    for title, page, names in (("Across", "map_topic", TOPICS), ("Up", "map_valence", valences)):
        st.markdown(f"**{title}**")
        start = first_contrast(study, judge, reader, names)
        axes.append(choose_classes(study, judge, reader, page=page, start=start))
        st.caption(f"{plain(axes[-1].counts)}. {plain(axes[-1].recipe)}")
    return axes[0], axes[1]


@per_study
def placed(
    study: Study,
    reader: str,
    adapters: tuple[str, ...],
    statistic: tuple[str, float],
    keys: tuple[tuple[str, str], tuple[str, str]],
    _axes: tuple[Classes, Classes],
) -> pl.DataFrame:
    """Every adapter on both axes, whose classes have these keys."""
    scalars = response_scalars(study, reader, adapters, *statistic)
    topic, valence = (axis_of(classes.contrast.name, scalars, classes.rows) for classes in _axes)
    return place(adapters, topic, valence)


def show_map(table: pl.DataFrame, topic: Classes, valence: Classes) -> list[str]:
    """The map; returns the adapters in the brushed region."""
    names = topic.contrast.name, valence.contrast.name
    by = st.segmented_control(
        "Colour by", COLOURS, default=BY_LEAN, required=True, key="map_colour", bind="query-params"
    )
    chart = map_chart(table, topic=names[0], valence=names[1], by=str(by))
    event: Any = show_chart(
        st, chart, key="map_chart", on_select="rerun", selection_mode=BRUSH, alt="Every adapter by what it tells"
    )
    held = [min(table[f"{axis}_groups"].drop_nulls().to_list(), default=0) for axis in ("topic", "valence")]
    tells = {lean: table.filter(pl.col("lean") == lean)["label"].to_list() for lean in (*names, BOTH, NEITHER)}
    told = "; ".join(f"{plain(lean)}: {listed(found)}" for lean, found in tells.items() if found)
    st.caption(
        f"{told}. {family_of(table)} An adapter tells a class where the AUC of its scalar stands among all of them: "
        "clear of one half on questions like these, and of labels shuffled within questions (in the tooltips). Lines "
        f"are 95 % intervals of single AUCs, over questions ({held[0]} across and {held[1]} up hold the class that "
        "fewer hold). AUCs are folded (0.2 counts as 0.8): the sign of a scalar is arbitrary. "
        + ("Size: scaling × norm of the write vector." if table["size"].null_count() == 0 else _NO_NORMS)
    )
    region = brushed(event, table)
    if region:
        st.caption(f"In the brushed region: {listed(table.filter(pl.col('adapter').is_in(region))['label'])}.")
    return region


def family_of(table: pl.DataFrame) -> str:
    """How many AUCs of the map are clear, alone and among all, or why none can be, in words."""
    sides = [
        table.select(pl.col(f"{axis}_{name}").alias(known) for name, known in (("p", "p_value"), ("stands", "stands")))
        for axis in ("topic", "valence")
    ]
    why = {name: table[f"{axis}_why"].drop_nulls().to_list() for name, axis in (("across", "topic"), ("up", "valence"))}
    refused = [f"No verdict {name}: {plain(reasons[0])}." for name, reasons in why.items() if reasons]
    return " ".join([of_family(pl.concat(sides), f"AUCs of {table.height} adapters"), *refused])


_NO_NORMS = "This study holds no write vectors, so all have one size."


def brushed(event: Any, table: pl.DataFrame) -> list[str]:
    """The adapters inside the brush, all of them, drawn or not."""
    region = (event or {}).get("selection", {}).get(BRUSH) or {}
    inside = [pl.col(axis).is_between(*sorted(region[axis])) for axis in ("topic", "valence") if axis in region]
    return table.filter(inside)["adapter"].to_list() if inside else []


# --- causes ----------------------------------------------------------------------------------------------------------


@per_study
def _recorded(study: Study) -> pl.DataFrame:
    """What every recorded condition of gains did."""
    return tables.recorded(study)


@per_study
def _answered(study: Study, judge: str, organism: str) -> pl.DataFrame:
    """Scored answers of an organism's recorded gains and of the base, without their texts."""
    return tables.answered(study, responses_of(study, judge), _recorded(study), organism)


@per_study
def _rates(study: Study, judge: str, organism: str, outcome: Outcome) -> pl.DataFrame:
    """Rates under every recorded condition of gains of an organism."""
    own = _recorded(study).filter(pl.col("organism") == organism)
    return gain_rates(_answered(study, judge, organism), own, outcome.beside)


def rated(study: Study, judge: str) -> dict[str, Outcome]:
    """What a rate can be of by name. Raises InputError where the judge scored nothing that the study asks."""
    found = tables.outcomes(study.metrics(judge), outcomes_of(study.info))
    if not found:
        raise InputError(
            f"Judge {judge} scored nothing that an outcome of {study.name} needs, so there are no rates. Score these "
            "answers with: python -m backend judge, then build the study again."
        )
    return found


@per_study
def effects(study: Study, judge: str, organism: str, arrangement: str, outcome: str) -> pl.DataFrame:
    """What zeroing each module changed, or what it brings alone."""
    chosen = rated(study, judge)[outcome]
    return single_effects(_answered(study, judge, organism), _recorded(study), organism, arrangement, outcome=chosen)


@per_study
def _pairs(study: Study, judge: str, organism: str, outcome: str) -> pl.DataFrame:
    """What zeroing two modules does beyond the sum."""
    chosen = rated(study, judge)[outcome]
    return pair_interactions(_answered(study, judge, organism), _recorded(study), organism, outcome=chosen)


@per_study
def _judge_of_gains(study: Study, organism: str) -> str | None:
    """The judge that scored most of the answers under recorded gains; None where nobody did."""
    responses = {judge: responses_of(study, judge) for judge in study.judges()}
    return tables.judge_of_gains(study, responses, _recorded(study), organism)


def show_causes(study: Study, asked: Outcome, reader: str, table: pl.DataFrame, topic: str, valence: str) -> None:
    """Causes beside what the map says, or that no gain was ever changed."""
    own = _recorded(study).filter(pl.col("organism") == reader)
    judge = _judge_of_gains(study, reader)
    if judge is None:
        st.info(
            f"Study {plain(study.name)} holds no judged answers of {plain(reader)} with some adapters zeroed, kept "
            "alone or scaled. Choose a subset below and run it on the Live page, or sample such conditions into a "
            "study folder."
        )
        return
    names = list(rated(study, judge))
    start = asked.name if asked.name in names else names[0]
    chosen = st.segmented_control(
        "Rate of", names, default=start, required=True, key="map_outcome", bind="query-params"
    )
    st.caption(f"Rates by judge {plain(judge)}, which scored most of these answers.")
    outcome = str(chosen)
    without = effects(study, judge, reader, WITHOUT_ONE, outcome)
    if without.height:
        show_disagreement(table, without, topic, valence, outcome)
    else:
        st.info(
            "No recorded condition of this study zeroes one adapter alone, so no single cause is known; below is what "
            "was recorded."
        )
    only = effects(study, judge, reader, ONLY_ONE, outcome)
    if only.height:
        show_alone(only, outcome)
    if "a" in (together := _pairs(study, judge, reader, outcome)).columns and together.height:
        show_pairs(together, own, outcome)
    _show_rates(study, judge, asked, reader, table, valence)
    counted = by_cells(_answered(study, judge, reader))
    show_with_correction(study, judge, rated(study, judge)[outcome], counted, key="map_labels")


def show_disagreement(table: pl.DataFrame, without: pl.DataFrame, topic: str, valence: str, outcome: str) -> None:
    """Both rankings of the modules, the conflicts first in words."""
    found = against_cause(claims(table), without, topic=topic, valence=valence)
    if not found.height:
        st.info("The zeroed adapters are not among those of the map: widen the filters above.")
        return
    labels = short_names(found["unit"].to_list())
    found = found.with_columns(label=pl.col("unit").replace_strict(labels))
    for row in found.filter("conflict").iter_rows(named=True):
        st.warning(
            f"{plain(row['label'])} {plain(row['verdict'])}: {row['change']:+.1%} "
            f"({row['change_low']:+.1%} to {row['change_high']:+.1%}), n = {row['n']}.",
            title="Probe and cause disagree",
            icon=":material/warning:",
        )
    left, right = st.columns([1, 1], gap="large")
    with left:
        chart = rank_chart(found, left=f"tells {valence} (rank)", right=f"zeroing lowers {outcome} (rank)")
        show_chart(st, chart, key="map_ranks", alt="Rank by probe and by cause")
        rho, p = rank_agreement(found["valence"], -found["change"].to_numpy())
        st.caption(
            f"Rank correlation {rho:.2f} (p = {p:.2g}, permutation, {found.height} modules). Orange: the probe says "
            "one thing and the cause another."
        )
    with right:
        chart = effect_chart(found, title=f"change of the {outcome} rate when zeroed")
        show_chart(st, chart, key="map_effects", alt="Change of the rate when an adapter is zeroed")
        st.caption(
            f"Intact: {found['against'][0]:.1%}. {of_family(without, 'modules')} Paired by question; lines are 95 % "
            "intervals for questions like these, coloured where the change stands after correction."
        )
    columns = ["label", "lean", "topic", "valence", "value", "n", "change", "change_low", "change_high", "verdict"]
    config = dict.fromkeys(("value", "change", "change_low", "change_high"), SHARE)
    with st.expander("As a table"):
        st.dataframe(found.select(columns), hide_index=True, column_config=config, alt="Probe beside cause")


def claims(table: pl.DataFrame) -> list[ProbeClaim]:
    """What the map says of each module: of several components, the one that tells the most."""
    best = table.with_columns(
        unit=pl.col("adapter").map_elements(unit_of, pl.String), told=pl.max_horizontal("topic", "valence")
    ).sort("told", descending=True)
    rows = best.unique("unit", keep="first", maintain_order=True).select("unit", "lean", "topic", "valence")
    return [ProbeClaim(*row) for row in rows.iter_rows()]


def show_alone(only: pl.DataFrame, outcome: str) -> None:
    """What each module brings alone."""
    st.subheader("What does one adapter bring alone?")
    labels = short_names(only["unit"].to_list())
    table = only.with_columns(label=pl.col("unit").replace_strict(labels))
    known = table.drop_nulls("change")
    if known.height:
        chart = effect_chart(known, title=f"{outcome} rate with it alone, less that of the base")
        show_chart(st, chart, key="map_alone", alt="Rate with one adapter alone")
        st.caption(of_family(known, "modules"))
    else:
        st.caption("The base was not asked these questions, so there is nothing to compare with.")
        st.dataframe(table.select("label", "value", "low", "high", "n"), hide_index=True, alt="Rate with one alone")


def show_pairs(together: pl.DataFrame, own: pl.DataFrame, outcome: str) -> None:
    """Interactions of all recorded pairs."""
    st.subheader("Do two adapters do the same work?")
    units = list(dict.fromkeys([*together["a"], *together["b"]]))
    units.sort(key=lambda unit: [int(part) if part.isdigit() else part for part in unit.split(".")])
    labels = short_names(units)
    table = together.with_columns(pl.col("a", "b").replace_strict(labels))
    with st.columns([3, 2])[0]:
        chart = interaction_chart(table, labels=list(labels.values()))
        show_chart(st, chart, key="map_pairs", alt="Interaction of every pair of adapters")
    least, most = together.select(least=pl.col("n").min(), most=pl.col("n").max()).row(0)
    pair_count = own.filter(pl.col("arrangement") == WITHOUT_TWO).height
    st.caption(
        f"The {plain(outcome)} rate without both, less what the two single changes add up to ({together.height} of "
        f"{pair_count} recorded pairs, n = {least} to {most} answers each). Above zero "
        "they do the same work, or the rate has reached its floor; below zero each stands in for the other. "
        f"{of_family(together, 'pairs')} Pale: not clear after correction."
    )


def _show_rates(study: Study, judge: str, outcome: Outcome, reader: str, table: pl.DataFrame, valence: str) -> None:
    """Every recorded condition of gains, with what its adapters tell."""
    st.subheader("Every recorded condition of gains")
    leans = {claim.unit: claim.lean for claim in claims(table)}
    long = _rates(study, judge, reader, outcome)
    for row in unexpected(long, leans, valence, outcome.name):
        st.warning(
            f"{plain(row['what'])}: none of these adapters tells {plain(valence)}, yet {row['value']:.1%} of the "
            f"answers are {plain(outcome.kinds[1])} ({row['low']:.1%} to {row['high']:.1%}), n = {row['n']}.",
            title="Probe and cause disagree",
            icon=":material/warning:",
        )
    shown = long.with_columns(
        tells=pl.col("units").map_elements(lambda units: _told(units, leans), pl.String),
        rate=pl.format("{} % ({}–{})", *((pl.col(c) * 100).round(1) for c in ("value", "low", "high"))),
    )
    wide = shown.pivot("metric", index=["what", "tells", "condition"], values="rate", aggregate_function="first")
    counts = shown.filter(pl.col("metric") == shown["metric"][0]).select("condition", "n")
    table = wide.join(counts, on="condition", how="left")
    ends = ["n", "tells", "condition"]
    ordered = table.select("what", pl.exclude("what", *ends), *ends)
    st.dataframe(ordered, hide_index=True, alt="Rates under every condition")
    st.caption("Rates are of the scored answers, with 95 % intervals for questions like these; n is of the first rate.")


def unexpected(long: pl.DataFrame, leans: dict[str, str], valence: str, outcome: str) -> list[dict[str, Any]]:
    """Conditions of a group on its own (the others zeroed) none of which tells the valence, with a clear rate."""
    alone = long.filter(pl.col("metric") == outcome, pl.col("rest") == 0, pl.col("low") > CLEAR)
    return [
        row
        for row in alone.iter_rows(named=True)
        if row["arrangement"] in (ONLY_ONE, ONLY_TWO, ONLY_SOME, SCALED)
        and not {valence, BOTH} & {leans[unit] for unit in row["units"] if unit in leans}
    ]


def _told(units: Sequence[str], leans: dict[str, str]) -> str:
    """What the adapters of a condition tell, counted."""
    found = [leans[unit] for unit in units if unit in leans]
    counts = {lean: found.count(lean) for lean in dict.fromkeys(found)}
    return ", ".join(f"{lean} ({count})" for lean, count in counts.items())


# --- steering with a subset ------------------------------------------------------------------------------------------


def show_subset(
    study: Study, judge: str | None, reader: str, table: pl.DataFrame, region: Sequence[str], names: Sequence[str]
) -> None:
    """Choose subsets from the map, and run them."""
    if region:
        suggest(reader, "brushed on the map", region)
    sets = {"the brushed region": region}
    sets |= {f"those that tell {lean}": table.filter(pl.col("lean") == lean)["adapter"].to_list() for lean in names}
    plan = choose_plan(study, reader, table.select("label", name="adapter"), sets)
    if plan is None:
        st.caption("No adapter is chosen: fill a set from the map, from a probe, or by hand.")
        return
    show_recorded(study, judge, plan, act_on(plan, _recorded(study)))


def show_recorded(study: Study, judge: str | None, plan: Plan, condition: str | None) -> None:
    """The four-way table of the recorded condition with these gains."""
    if condition is None:
        st.caption("No recorded answers under these gains: run them live, or sample them.")
        return
    frame = responses_of(study, judge)
    answers = frame.filter(pl.col("organism") == plan.organism, pl.col("condition") == condition)
    if judge is None or not set(NEEDS) <= set(study.metrics(judge)) or not answers.height:
        st.caption(f"Recorded as {plain(condition)}, {answers.height} answers, not judged for a four-way table.")
        return
    cells = four_way(answers, ["organism", "condition"])
    show_chart(st, cell_chart(cells), key="map_cells", alt="The four cells under these gains")
    st.caption(
        f"Recorded as {plain(condition)}: {cells['n'][0]} of {answers.height} answers kept at the paper's cut-offs; "
        "the page Scaled adapters moves them."
    )


def _show(study: Study) -> None:
    """The page, once there is something to show. Raises InputError where a choice leaves nothing."""
    reader = choose_scalar_reader(study, "map")
    judge, outcome = choose_judge(study, reader), choose_outcome(study)
    with st.container(border=True):
        adapters = choose_adapters(study, reader, page="map", most=MOST)
        statistic = choose_statistic("map")
        with st.expander("What the axes compare", icon=":material/tune:"):
            topic, valence = choose_axes(study, judge, reader, outcome)
    names = tuple(adapters["name"])
    keys = (topic.key, valence.key)
    table = placed(study, reader, names, statistic, keys, (topic, valence)).hstack(
        adapters.select(
            "label", "layer", "module", size=(pl.col("scaling").abs() * pl.col("write_norm")).fill_nan(None)
        )
    )
    table = table.with_columns(pl.when(pl.col("size") > 0).then("size"))
    across, up = topic.contrast.name, valence.contrast.name
    region = show_map(table, topic, valence)
    st.subheader("Does the cause agree?")
    with explained():
        show_causes(study, outcome, reader, table, across, up)
    st.subheader("Steer with a subset")
    with explained():
        show_subset(study, _judge_of_gains(study, reader), reader, table, region, (across, up))


study = current_study()
opening(
    "Specialisation",
    "What does each adapter's scalar alone tell, and what happens when it is zeroed, kept alone or scaled?",
    study,
    "adapters",
)
with explained():
    _show(study)
