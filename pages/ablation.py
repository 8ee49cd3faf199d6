"""Ablation & transfer: what taking a direction out changes, in its own organism and in others, beside its controls."""

from __future__ import annotations

import polars as pl
import streamlit as st

from backend.analysis.conditions.controls import CONTROLS, ITSELF
from backend.analysis.rates.families import of_family
from backend.analysis.rates.rates import ABOUT, FALL_KNOWN, about_words
from backend.charts.transfer import before_after_chart, transfer_chart
from backend.outcomes import EM, Outcome
from backend.study import Study
from backend.tables.signs import signs
from backend.tables.sweeps import ABLATED, ALONE, EVERYWHERE, WISE, WRITES, ablated
from panels.asked import choose_linked
from panels.corrected_rates import by_cells, show_with_correction
from panels.experiments import hits, percent
from panels.frame import current_study, explained, per_study, plain, responses_of
from panels.opening import opening
from panels.point import choosing_chart
from panels.sweeps import asked, choose_swept, choose_topics, judged_share, read_pairs, send_cell, short, swept

SHORT_WAYS = {EVERYWHERE: "every block", WISE: "layer-wise", WRITES: "write vectors"}
PICKED, WORN = "ablation_condition", "ablation_organism"
PICKS = {"cell": PICKED, "organism": WORN}  # what a clicked bar or cell chooses
MOST_NAMED = 6  # ablations that a warning names


@per_study
def changed(
    study: Study, judge: str, outcome: Outcome, topics: tuple[str, ...], about: str, baseline: str | None
) -> pl.DataFrame:
    """What each ablation changed against the same organism without it, with what it ablated and how."""
    return ablated(study, swept(study, judge, ABLATED, baseline), topics, ABOUT[about], outcome)


def _choose_organism(table: pl.DataFrame, outcome: Outcome) -> str:
    """The organism looked at: by default the one with most hits before."""
    options = table["organism"].unique(maintain_order=True).to_list()
    hits = table.filter(pl.col("metric") == outcome.name).sort("before", descending=True, nulls_last=True)
    start = options.index(hits["organism"][0]) if hits.height else 0
    return str(choose_linked(st.selectbox, "Organism", options, index=start, key=WORN, what="organism"))


def choose_about(questions: int) -> str:
    """What intervals are about: at first questions like those asked, where they are enough to be a sample."""
    chosen = st.segmented_control(
        "Intervals for",
        list(ABOUT),
        default=about_words(questions),
        required=True,
        key="ablation_about",
        bind="query-params",
        help="Fewer than six questions cannot show a change on questions like them; they can on themselves.",
    )
    return str(chosen)


def by_role(table: pl.DataFrame) -> pl.DataFrame:
    """The organism's own direction first, then others', then the controls of each kind."""
    order = {ITSELF: 0, **{name: at + 1 for at, name in enumerate(CONTROLS)}}
    ways = {way: at for at, way in enumerate((EVERYWHERE, WISE, ALONE, WRITES))}
    return table.sort(
        pl.col("role").replace_strict(order, default=9),
        ~pl.col("own"),
        pl.col("way").replace_strict(ways),
        "series",
        "layer",
        maintain_order=True,
        nulls_last=True,
    )


def points(value: str = "difference") -> pl.Expr:
    """A difference of shares in points with its sign."""
    rounded = (pl.col(value) * 100).round(0).cast(pl.Int64)
    return pl.when(rounded > 0).then(pl.format("+{}", rounded)).otherwise(rounded.cast(pl.String).str.replace("-", "−"))


def show_bars(rows: pl.DataFrame, outcome: Outcome, organism: str) -> None:
    """Before and after each ablation of one organism."""
    st.subheader("Before and after")
    sides = [pl.format("{}%", (pl.col(side) * 100).round(1)) for side in ("before", "after")]
    change = (points(), points("low"), points("high"))
    note = pl.format("{} → {}, {} ({} to {}), n = {}", *sides, *change, "n_after")
    told = pl.when(unknown()).then(pl.format("{}: cannot tell", note)).otherwise(note)
    place = (
        pl.when(pl.col("way") == ALONE)
        .then(pl.format("block {} alone", "layers"))
        .otherwise(pl.col("way").replace(SHORT_WAYS))
    )
    lane = pl.format("{} · {}", pl.col("series").fill_null(pl.col("cell")), place)
    lanes = by_role(rows).with_columns(note=told, lane=lane)
    lanes = lanes.with_columns(
        lane=pl.when(pl.col("lane").is_duplicated().over("metric")).then("cell").otherwise("lane")
    )
    for each in outcome.beside:
        table = lanes.filter(pl.col("metric") == each.name)
        if not table.height:
            st.info(f"No ablation of {plain(organism)} has scores for {plain(each.title)}.")
            continue
        chart = before_after_chart(table, title=f"share of answers: {short(outcome)[each.name]}")
        alt = f"{each.title} of {organism} before and after ablation"
        choosing_chart(chart, key=f"ablation_bars_{each.name}", alt=alt, sets=PICKS)


def show_transfer(study: Study, table: pl.DataFrame, outcome: Outcome) -> None:
    """Organism by direction: what ablating each changed in each."""
    ways = [way for way in (EVERYWHERE, WISE, ALONE, WRITES) if (table["way"] == way).any()]
    if table["organism"].n_unique() < 2 and table["series"].n_unique() < 2:
        return
    st.subheader("Transfer: every direction out of every organism")
    way = choose_linked(
        st.segmented_control,
        "Ablated",
        ways,
        default=ways[0],
        required=True,
        key="ablation_way",
        what="ablation",
        help="A row is a direction, a column the organism it was taken out of.",
    )
    rows = by_role(table.filter(pl.col("way") == way))
    if way == ALONE:
        rows = rows.with_columns(series=pl.format("{} L{}", "series", "layers"))
    organisms = [name for name in study.organisms()["organism"] if (rows["organism"] == name).any()]
    directions = rows["series"].unique(maintain_order=True).to_list()
    hits = rows.filter(pl.col("metric") == outcome.name)
    drawn = hits.with_columns(text=judgement(), below=pl.lit(""))
    words = short(outcome)
    title = f"Change of {words[outcome.name]} in points"
    for gate in outcome.beside[1:]:
        key = ["organism", "cell"]
        passed = rows.filter(pl.col("metric") == gate.name)
        below = passed.select(*key, below=pl.format("{} {}", pl.lit(words[gate.name]), judgement()))
        drawn = drawn.drop("below").join(below, on=key, how="left", maintain_order="left")
        title += f", and of {words[gate.name]}"
    most = max(float(hits["difference"].abs().max() or 0), 0.05)  # type: ignore[arg-type]
    chart = transfer_chart(drawn, title=title, organisms=organisms, directions=directions, most=most)
    choosing_chart(chart, key="ablation_transfer", alt=title, sets=PICKS)
    st.caption(
        f"{of_family(hits, 'ablations')} Paired by question. Outlined: the organism's own direction. *: clear alone, "
        "not after the correction. In brackets: the 95 % interval holds zero; ?: it also holds a fall of 10 points, or "
        f"the rate was below that and could not fall so far. {cost(outcome)}Click a cell to read its answers."
    )


def cost(outcome: Outcome) -> str:
    """What a change of the gate says of a change of the outcome, in words."""
    if outcome.gate is None:
        return ""
    lowered = "misalignment" if outcome == EM else plain(outcome.title)
    return f"A direction that lowers {lowered} by breaking the model lowers coherence as well. "


def judgement() -> pl.Expr:
    """A change in points, marked where it may be nothing."""
    unsure = pl.format("({})", points())
    alone = pl.when("clear").then(pl.format("{}*", points())).when(unknown()).then(pl.format("{}?", unsure))
    return pl.when("stands").then(points()).otherwise(alone.otherwise(unsure))


def unknown() -> pl.Expr:
    """Whether a change may be a fall that matters, or may not."""
    return ~pl.col("verdict").is_in(FALL_KNOWN)


def warn(rows: pl.DataFrame, outcome: Outcome) -> None:
    """Name the comparisons that cannot tell whether the rate falls."""
    small = rows.filter((pl.col("metric") == outcome.name) & unknown())
    if not small.height:
        return
    names = [f"{row['cell']} (n = {row['n_after']})" for row in small.head(MOST_NAMED).iter_rows(named=True)]
    more = f" and {small.height - MOST_NAMED} more" if small.height > MOST_NAMED else ""
    st.warning(
        f"{plain('; '.join(names))}{more}: the interval of the change holds zero and also a fall of 10 points, or the "
        "rate without the edit was below 10 % and could not fall so far. Sample more answers or more questions, or "
        "ablate where the rate is higher.",
        title=f"Whether {small.height} of {rows['cell'].n_unique()} ablations lower the rate cannot be told",
    )


@per_study
def _signs(study: Study, judge: str, outcome: Outcome) -> pl.DataFrame:
    return signs(study, responses_of(study, judge), outcome)


def show_signs(study: Study, judge: str, outcome: Outcome) -> None:
    """What the scale in a released file did; nothing where no file has one."""
    table = _signs(study, judge, outcome)
    if table.is_empty():
        return
    st.subheader("Which sign takes it out?")
    words = []
    data = table.filter(pl.col("direction").str.ends_with(" data-diff"), ~pl.col("direction").str.contains("chat-read"))
    for (sweep, scale, did), rows in data.group_by("sweep", "scale", "did", maintain_order=True):
        spans = [
            f"{plain(hits(each))} {_span(shares)}"
            for each in outcome.beside
            if (shares := rows.filter(pl.col("metric") == each.name)["value"].drop_nulls().to_list())
        ]
        words.append(f"in {plain(str(sweep))} a scale of {scale:+g} has it **{did}** ({', '.join(spans)})")
    st.markdown(f"The scale changed its meaning between sweeps. Of data differences: {'; '.join(words)}.")
    share = st.column_config.NumberColumn(format="percent")
    st.dataframe(
        table.drop("condition", "hits", "too_small", "dropped"),
        hide_index=True,
        height=280,
        column_config=dict.fromkeys(("value", "low", "high"), share) | {"clusters": "questions"},
        alt="What the scale of each file did",
    )
    st.caption(
        f"Judge {plain(judge)}. Taken out: the component along the direction is multiplied by 0; doubled: by 2, a "
        "control of the same direction and layers, which is on no chart above. 95 % intervals, over one or two "
        "questions for these very ones."
    )


def _span(shares: list[float]) -> str:
    """The least and the largest share, or the one that all are."""
    least, most = percent(min(shares)), percent(max(shares))
    return least if least == most else f"{least} to {most}"


def _choose_cell(rows: pl.DataFrame) -> str:
    """The ablation whose answers are read: by default the first bar's."""
    options = by_role(rows)["cell"].unique(maintain_order=True).to_list()
    return str(choose_linked(st.selectbox, "Ablation", options, key=PICKED, what="ablation"))


def _show(study: Study) -> None:
    """The page, once there is an ablation."""
    judge, outcome = asked(study, ABLATED, "an ablation")
    sweep, against = choose_swept(study, judge, ABLATED, "ablation")
    first, second, third = st.columns([3, 2, 3], vertical_alignment="bottom")
    with first:
        topics = choose_topics(study, sweep, "ablation")
    edited = sweep.about(topics).filter(pl.col("cell").is_in(sweep.edited), outcome.scored())
    with third:
        about = choose_about(edited["question_id"].n_unique())
    table = changed(study, judge, outcome, topics, about, against)
    if not table.height:
        st.info("No organism of this study answered the same questions with and without an ablation.")
        return
    with second:
        organism = _choose_organism(table, outcome)
    rows = table.filter(pl.col("organism") == organism)
    lacking = [kind for kind in CONTROLS[:2] if not (rows["role"] == kind).any()]
    without = f"No control of this kind for {organism}: {', '.join(lacking)}." if lacking else ""
    st.caption(
        f"{judged_share(judge, outcome, sweep)} Changes are paired by question, on the questions that both "
        f"sides answered; 95 % intervals for {plain(about)}. {plain(without)}"
    )
    show_bars(rows, outcome, organism)
    st.caption(of_family(table.filter(pl.col("metric") == outcome.name), "ablations of all organisms"))
    warn(rows, outcome)
    counted = sweep.about(topics).filter(pl.col("organism") == organism)
    show_with_correction(study, judge, outcome, by_cells(counted), key="ablation_labels")
    show_transfer(study, table, outcome)
    show_signs(study, judge, outcome)
    st.subheader("The answers behind an ablation")
    chooser, sender = st.columns([3, 1], vertical_alignment="bottom")
    with chooser:
        chosen = _choose_cell(rows)
    with sender:
        send_cell(study, organism, chosen, key="ablation_send")
    read_pairs(sweep, outcome, topics, organism=organism, cell=chosen, page="ablation")
    with st.expander("All differences, as a table"):
        share = st.column_config.NumberColumn(format="percent")
        shares = (
            "before",
            "before_low",
            "before_high",
            "after",
            "after_low",
            "after_high",
            "difference",
            "low",
            "high",
        )
        st.dataframe(
            table.drop("kind", "strength", "relative", "like", "own"),
            hide_index=True,
            column_config=dict.fromkeys(shares, share),
            alt="Before and after every ablation",
        )


study = current_study()
opening(
    "Ablation & transfer",
    "Does taking a direction out lower the rate in its organism, and in others that it was not taken from?",
    study,
    "removed",
)
with explained():
    _show(study)
