"""What zeroing adapters causes, beside what their scalars tell: the part of a page for any organism that has both.

It refuses to know how answers were sampled.
"""

from __future__ import annotations

import polars as pl
import streamlit as st

from backend.analysis.conditions.causal import WITHOUT_ONE, WITHOUT_TWO, unit_of
from backend.analysis.rates.families import of_family, with_family
from backend.charts.zeroed import tells_chart, zeroed_chart, zeroed_sets_chart
from backend.outcomes import Outcome
from backend.study import Study
from backend.tables.adapters import axis_of, separations
from backend.tables.probes import contrasts
from backend.tables.zeroed import labels_of_units, zeroed
from panels.adapters import response_scalars
from panels.asked import choose_linked
from panels.corrected_rates import show_with_correction
from panels.experiments import asked_words, ends_told, hits, told, told_change
from panels.figures import show_chart
from panels.frame import choose_outcome, listed, per_study, plain, responses_of

MOST_CONTRASTS = 4  # drawn before the reader chooses
PLACES = ("of the largest effect", "the next")  # adapters whose tellings are put into words


@per_study
def _zeroed(study: Study, judge: str, outcome: Outcome) -> pl.DataFrame:
    return zeroed(study, responses_of(study, judge), outcome)


@per_study
def _separated(study: Study, reader: str) -> pl.DataFrame:
    """[label, contrast, value, low, high, p_value, q_value, family, stands]: AUCs of the mean scalars, folded.

    All adapters and contrasts are one family.
    """
    labels = labels_of_units(study, reader)
    names = tuple(study.adapters(reader)["name"])
    scalars = response_scalars(study, reader, names)
    up = pl.col("value") >= 0.5
    tables = [
        separations(names, axis_of(each.contrast.name, scalars, each.classes)).select(
            pl.Series("label", [labels[unit_of(name)] for name in names]),
            pl.lit(each.contrast.name).alias("contrast"),
            pl.when(up).then("value").otherwise(1 - pl.col("value")).alias("value"),
            pl.when(up).then("low").otherwise(1 - pl.col("high")).alias("low"),
            pl.when(up).then("high").otherwise(1 - pl.col("low")).alias("high"),
            "p_value",
        )
        for each in contrasts(study, reader)
    ]
    return with_family(pl.concat(tables)) if tables else pl.DataFrame()


def show_zeroing(study: Study) -> None:
    """What zeroing each adapter changes, by layer, and sets of them; what each scalar tells stands between."""
    st.subheader("What does zeroing each adapter change?")
    outcome = choose_outcome(study)
    able = [judge for judge in study.judges() if set(outcome.needs) <= set(study.metrics(judge))]
    tables = {judge: _zeroed(study, judge, outcome) for judge in able}
    judge = max(tables, key=lambda name: tables[name].height, default="")
    table = tables.get(judge, pl.DataFrame())
    if table.is_empty() or not (table["arrangement"] == WITHOUT_ONE).any():
        st.info(
            f"Study {plain(study.name)} has no judged answers with single adapters zeroed. The Specialisation page "
            "keeps them as conditions to sample.",
            icon=":material/info:",
        )
        return
    names = table.filter(pl.col("arrangement") == WITHOUT_ONE)["organism"].unique(maintain_order=True).to_list()
    organism = choose_linked(
        st.segmented_control,
        "Organism",
        names,
        default=names[0],
        required=True,
        key="zeroing_organism",
        what="organism",
    )
    own = table.filter(pl.col("organism") == organism)
    single = pl.col("arrangement") == WITHOUT_ONE
    found = own.filter(single, pl.col("metric") == outcome.name)
    order = list(labels_of_units(study, organism).values())
    st.markdown(zeroing_in_words(found, organism, outcome))
    for place, each in zip(st.columns(len(outcome.beside)), outcome.beside, strict=True):
        rows = own.filter(single, pl.col("metric") == each.name)
        if rows.height:
            chart = zeroed_chart(rows, title=f"{hits(each)} without it", order=order)
            show_chart(place, chart, key=f"zeroing_{each.name}", alt=f"{each.title} without each adapter")
    asked, before = (max(found[name]) for name in ("questions", "n_before"))
    st.caption(
        f"Judge {plain(judge)}; {asked_words(asked, change=True)}. Dashed, with its band: unedited answers, those of "
        f"the same experiment where it kept some (n = {before}). Coloured: the change stands among all {found.height}. "
        f"{of_family(found, 'zeroed adapters')}"
    )
    answers = responses_of(study, judge).filter(
        pl.col("organism") == organism, pl.col("condition").is_in(own["condition"].unique().implode())
    )
    show_with_correction(study, judge, outcome, answers, key="zeroing_labels")
    _show_what_they_tell(study, organism, found, order)
    sets = own.filter(~single, pl.col("arrangement") != WITHOUT_TWO, pl.col("metric") == outcome.name)
    if sets.height:
        most = sets.sort("difference").row(0, named=True)
        st.markdown(
            f"**Sets of adapters**: without {most['label']} {plain(organism)} has "
            f"{told(most, 'after', 'n_after')} {plain(hits(outcome))}, {told_change(most)}."
        )
        chart = zeroed_sets_chart(sets, title=f"{hits(outcome)} without them")
        show_chart(st, chart, key="zeroing_sets", alt=f"{outcome.title} without sets of adapters")
        st.caption(
            f"Judge {plain(judge)}; {asked_words(max(sets['questions']), change=True)}. Dashed: unedited. "
            f"{of_family(sets, 'sets')}"
        )


def zeroing_in_words(found: pl.DataFrame, organism: str, outcome: Outcome) -> str:
    """The unedited rate, the adapter whose zeroing lowers it most, and how many others do."""
    least = found.sort("difference").row(0, named=True)
    stand = found.filter(pl.col("stands") & (pl.col("difference") < 0))
    others = stand.filter(pl.col("label") != least["label"]).sort("difference")["label"].to_list()
    also = f"; so do {listed(others)}" if others else "; no other does" if least["stands"] else ""
    said = "stands" if least["stands"] else "does not stand"
    return (
        f"Unedited, {plain(organism)} has {told(least, 'before', 'n_before')} {plain(hits(outcome))}. Without "
        f"**{least['label']}** it has **{told(least, 'after', 'n_after')}**, {told_change(least)}: that {said} among "
        f"the {found.height} that were zeroed one at a time{also}."
    )


def _show_what_they_tell(study: Study, organism: str, found: pl.DataFrame, order: list[str]) -> None:
    """What the scalars of the same adapters tell, under the chart of what zeroing them changes."""
    every = _separated(study, organism) if organism in study.readers() else pl.DataFrame()
    if every.is_empty():
        st.caption(f"What the scalars of {plain(organism)} tell is not known: none are in this study.")
        return
    names = every["contrast"].unique(maintain_order=True).to_list()
    chosen = st.multiselect(
        "Contrasts", names, default=names[:MOST_CONTRASTS], key="zeroing_contrasts", bind="query-params"
    )
    rows = every.filter(pl.col("contrast").is_in(chosen))
    if rows.is_empty():
        st.info("No contrast is chosen: choose at least one to see what the scalars tell.")
        return
    st.markdown(f"**What their scalars tell**: {telling_in_words(rows, found.sort('difference')['label'].to_list())}")
    show_chart(st, tells_chart(rows, order=order), key="zeroing_tells", alt="AUC of each adapter by contrast")
    st.caption(
        "AUC of the mean scalar over an answer's tokens, folded: 0.5 tells nothing. Lines are 95 % intervals over "
        f"questions, each of one adapter and contrast alone. {of_family(every, 'adapters and contrasts')} "
        "Telling is not causing: compare with the charts above."
    )


def telling_in_words(rows: pl.DataFrame, labels: list[str]) -> str:
    """What the scalars of the first adapters tell best, of what stands among all adapters and contrasts, in words."""
    words = []
    for label, place in zip(labels, PLACES, strict=False):
        known = rows.filter(pl.col("label") == label).drop_nulls("value")
        best = known.sort(pl.col("stands").fill_null(False), "value", descending=True)
        if best.is_empty():
            words.append(f"what {label}, {place}, tells is not known")
        else:
            row = best.row(0, named=True)
            ends = ends_told(row["low"], row["high"])
            tells = f"{plain(row['contrast'])}, AUC {row['value']:.2f}{f' ({ends})' if ends else ''}"
            if row["stands"]:
                words.append(f"{label}, {place}, tells {tells}")
            elif ends and row["low"] > 0.5:
                among = f"clear alone, not among all {row['family']} adapters and contrasts"
                words.append(f"{label}, {place}, may tell {tells}: {among}")
            else:
                words.append(f"{label}, {place}, tells nothing clearly (best: {tells})")
    return "; ".join(words) + "."
