"""Two claims of the story: what single adapters tell and cause, and what subsets of them do.

It refuses to know about directions, and what is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from backend.analysis.conditions.causal import (
    ALL_SCALED,
    MIXED,
    ONLY_SOME,
    ONLY_TWO,
    SCALED,
    WITHOUT_ONE,
    WITHOUT_SOME,
    WITHOUT_TWO,
    answers_of,
    short_names,
    single_effects,
    unit_of,
)
from backend.analysis.contrasts import label_responses
from backend.analysis.probes.specialisation import MOST
from backend.analysis.rates.changes import changes
from backend.analysis.rates.fourway import CELLS, NEEDS, four_way
from backend.analysis.rates.rates import ALIKE, HIGHER, LOWER, NOT_LOWER, em_rates
from backend.outcomes import EM, Contrast
from backend.records import BASELINE, InputError
from backend.study.outcome_json import contrasts_of
from backend.tables import gains
from backend.tables.adapters import axis_of, largest, response_scalars, separations
from backend.tables.claims import (
    BESIDE,
    CLAIMED,
    MOST_BARS,
    NULL,
    SHOWN,
    UNKNOWN,
    Claim,
    Telling,
    about_of,
    after,
    as_command,
    bar,
    bars_of,
    called,
    missing,
    only_row,
    percent,
    points,
    published,
    with_interval,
)
from backend.tables.rates import chosen_by_score

NO_FALL = (NOT_LOWER, ALIKE, HIGHER)
TOPICS = ("medical, among misaligned", "medical, among aligned", "medical question")  # contrasts, the paper's first
GROUPS = (WITHOUT_SOME, WITHOUT_TWO, ONLY_SOME, ONLY_TWO)
FEWEST_IN_CLASS = 20  # responses of either class below which an adapter's AUC is no verdict
MOST_SCALED = 3  # scalings among a claim's bars: those that keep most answers
MOST_OFFERED = 8  # conditions up to which the page of scaled adapters draws all


# --- 5: single adapters ----------------------------------------------------------------------------------------------


def single_adapters(of: Telling) -> Claim:
    """What the scalar of every adapter tells, beside what zeroing it changes."""
    study, organism = of.study, str(of.organism)
    tells, counted = _told_by_adapters(of)
    effects, questions, topics, intact = _zeroed(of)
    if not tells.height and not effects.height:
        how = as_command(study, f"sweep gain --organism {organism} --name gain")
        return missing(of, "adapters", f"No adapter of {organism} was read or zeroed for this outcome.", how)
    units = dict.fromkeys([*effects["unit"].to_list(), *tells["unit"].to_list()])
    table = pl.DataFrame({"unit": list(units)}, schema={"unit": pl.String})
    table = table.join(tells, on="unit", how="left").join(effects, on="unit", how="left")
    table = table.with_columns(label=pl.col("unit").replace_strict(short_names(list(units))))
    order = study.adapters(organism)["name"].to_list()
    place = {unit_of(name): at for at, name in reversed(list(enumerate(order)))}
    table = table.sort(pl.col("unit").replace_strict(place, default=len(place)))
    parts, bars, verdict = [], [], UNKNOWN
    figure = ""
    if effects.height:
        known = table.drop_nulls("change")
        stands = known.filter(pl.col("stands").fill_null(False), pl.col("change") < 0)
        low = known.sort("change").row(0, named=True) if known.height else None
        parts.append(f"Of {effects.height} adapters zeroed alone, {stands.height} lower the rate after correction")
        if low is not None and intact is not None:
            parts[-1] += (
                f", most {low['label']}: {percent(intact['value'])} → {percent(low['value'])} of {low['n']}"
                f", {points(low['change'], low['change_low'], low['change_high'])}"
            )
            figure = f"{low['label']}: {percent(intact['value'])} → {percent(low['value'])}"
            bars.append(bar("none zeroed", intact, BESIDE))
        ranked = table.drop_nulls("value").sort("value").head(MOST_BARS - 1)["unit"].to_list()
        bars += [
            bar(f"{row['label']} zeroed", row, CLAIMED) for row in table.iter_rows(named=True) if row["unit"] in ranked
        ]
        nothing = bool(known.height) and known["verdict"].is_in(NO_FALL).all()
        verdict = SHOWN if stands.height else NULL if nothing else UNKNOWN
    if tells.height:
        enough = min(counted) >= FEWEST_IN_CLASS
        folded = table.drop_nulls("auc").with_columns(fold=pl.max_horizontal("auc", 1 - pl.col("auc")))
        best = folded.sort("fold", descending=True).row(0, named=True)
        clear = folded.filter(pl.col("auc_stands").fill_null(False)).height
        words = (
            f"the scalars of {clear} of {folded.height} tell {counted[0]} from {counted[1]} answers after correction"
        )
        words += f", {best['label']} best ({_auc(best, 'auc')})"
        topic = table.drop_nulls("topic")
        if topic.height:
            fold = pl.max_horizontal("topic", 1 - pl.col("topic"))
            most = topic.sort(fold).row(-1, named=True)
            words += f"; {most['label']} tells medical best ({_auc(most, 'topic')})"
        words += "" if enough else "; so few answers carry no verdict"
        parts.append(words if parts else words[0].upper() + words[1:])
        if not effects.height:
            verdict = SHOWN if clear and enough else UNKNOWN
            figure = f"{best['label']}: AUC {best['auc']:.2f}"
            bars = [
                (row["label"], CLAIMED, row["auc"], row["auc_low"], row["auc_high"], sum(counted), "AUC")
                for row in folded.iter_rows(named=True)
                if row["unit"] in folded.sort("fold", descending=True).head(MOST_BARS)["unit"].to_list()
            ]
            parts.append(f"none was zeroed: {as_command(study, f'sweep gain --organism {organism} --name gain')}")
    n = int(effects["n"].max() or 0) if effects.height else sum(counted)  # type: ignore[arg-type]
    about = (
        of.behind(n, topics, questions) if effects.height else f"AUC over {sum(counted)} answers; 95 %, over questions"
    )
    page = of.link("specialisation", map_reader=organism) if tells.height else of.link("scaled_adapters")
    return Claim("adapters", of.outcome, "; ".join(parts) + ".", verdict, figure, about, bars_of(bars), table, **page)


def _auc(row: Mapping[str, Any], name: str) -> str:
    """An AUC with its interval, where it has one, in words."""
    ends = "" if row[f"{name}_low"] is None else f", {row[f'{name}_low']:.2f}–{row[f'{name}_high']:.2f}"
    return f"AUC {row[name]:.2f}{ends}"


def _told_by_adapters(of: Telling) -> tuple[pl.DataFrame, tuple[int, int]]:
    """What every adapter that was read tells; and how many answers each class has.

    [unit, auc, auc_low, auc_high, auc_stands, topic, topic_low, topic_high]: whether one stands is among all of them.
    """
    study, organism = of.study, str(of.organism)
    numbers = ("auc", "auc_low", "auc_high", "topic", "topic_low", "topic_high")
    schema: dict[str, Any] = {"unit": pl.String, **dict.fromkeys(numbers, pl.Float64), "auc_stands": pl.Boolean}
    nothing = pl.DataFrame(schema=schema), (0, 0)
    if organism not in study.readers() or not study.adapters(organism).height:
        return nothing
    valence = _classes(of, of.outcome.contrast)
    if valence is None:
        return nothing
    shown = tuple(largest(study.adapters(organism), MOST)["name"])
    scalars = response_scalars(study, organism, shown)
    table = separations(shown, axis_of(of.outcome.contrast.name, scalars, valence))
    table = table.select(unit=pl.col("adapter"), auc="value", auc_low="low", auc_high="high", auc_stands="stands")
    if table["auc"].null_count() == table.height:
        return nothing
    stated = {each.name: each for each in contrasts_of(study.info)} if of.outcome == EM else {}
    topics = (_classes(of, stated[name], FEWEST_IN_CLASS) for name in TOPICS if name in stated)
    topic = next((each for each in topics if each is not None), None)
    if topic is not None:
        other = separations(shown, axis_of("topic", scalars, topic))
        other = other.select(unit=pl.col("adapter"), topic="value", topic_low="low", topic_high="high")
        table = table.join(other, on="unit", how="left")
    else:
        table = table.with_columns(pl.lit(None, pl.Float64).alias(name) for name in numbers[3:])
    units = pl.col("unit").map_elements(unit_of, pl.String)
    table = table.with_columns(unit=units).unique("unit", keep="first", maintain_order=True)
    yes = int(valence["label"].sum())
    return table.select(list(schema)), (yes, valence.height - yes)


def _classes(of: Telling, contrast: Contrast, fewest: int = 1) -> pl.DataFrame | None:
    """The organism's own unedited answers that it read, by class; None with fewer of either than `fewest`."""
    read = of.study.readings(str(of.organism))["response"]
    frame = of.evidence.responses.filter(
        pl.col("response").is_in(read.implode()),
        pl.col("organism") == of.organism,
        pl.col("condition").is_in([BASELINE, *chosen_by_score(of.study)]),
    )
    try:
        classes = label_responses(frame, contrast)
    except InputError:
        return None  # the judge did not score what it needs, or a class is empty
    yes = int(classes["label"].sum())
    return classes if min(yes, classes.height - yes) >= fewest else None


def _zeroed(of: Telling) -> tuple[pl.DataFrame, int, list[str], dict[str, Any] | None]:
    """What zeroing each module changed, over how many questions of which topics, and the rate with none zeroed."""
    organism, recorded = str(of.organism), of.evidence.recorded
    own = recorded.filter(organism=organism, arrangement=WITHOUT_ONE)
    empty = single_effects(_nobody(of), recorded.clear(), organism, WITHOUT_ONE, outcome=of.outcome)
    if own.is_empty():
        return empty, 0, [], None
    answers = _answered(of, recorded)
    edited = answers.filter(pl.col("cell").is_in(own["condition"].implode()), of.outcome.scored())
    if edited.is_empty():
        return empty, 0, [], None
    topics = published(edited["topic"].unique().to_list())
    asked = answers.filter(pl.col("topic").is_in(topics))
    questions = edited.filter(pl.col("topic").is_in(topics))["question_id"].n_unique()
    about = about_of(questions)
    effects = single_effects(asked, recorded, organism, WITHOUT_ONE, outcome=of.outcome, about=about)
    same = edited["question_id"].unique()
    intact = answers_of(asked, recorded, organism, "intact").filter(pl.col("question_id").is_in(same.implode()))
    rate = only_row(em_rates(intact, outcomes=[of.outcome], about=about)) if intact.height else None
    return effects, questions, topics, rate


def _nobody(of: Telling) -> pl.DataFrame:
    return of.answers.clear().with_columns(cell=pl.lit(None, pl.String))


def _answered(of: Telling, recorded: pl.DataFrame) -> pl.DataFrame:
    """Answers under the organism's recorded gains, by cell."""
    told = of.answers.with_columns(text=pl.lit(""), question=pl.lit(""))
    return gains.answered(of.study, told, recorded, str(of.organism))


# --- 6: subsets ------------------------------------------------------------------------------------------------------


def subsets(of: Telling) -> Claim:
    """What groups of adapters do: zeroed or kept, and scaled with the others at zero, as the paper's four-way table."""
    study, organism = of.study, str(of.organism)
    recorded = of.evidence.recorded.filter(organism=organism)
    groups = recorded.filter(pl.col("arrangement").is_in(GROUPS))
    scaled = recorded.filter(pl.col("arrangement").is_in([SCALED, MIXED, ALL_SCALED]))
    cells, worst = _four(of, scaled)
    changed, questions, topics = _groups(of, groups)
    if not cells.height and not changed.height:
        how = as_command(study, f"sweep gain --organism {organism} --group NAME=LAYERS --name gain")
        return missing(of, "subsets", f"No groups of {organism}'s adapters were zeroed, kept or scaled.", how)
    names = dict(recorded.select("condition", "what").iter_rows())
    bars: list[tuple[Any, ...]] = []
    parts = [] if worst is None else [_scaled_words(worst, names, cells)]
    verdict, figure = UNKNOWN, ""
    if cells.height:
        kept = cells.unique("condition", keep="first", maintain_order=True).sort(
            "n", descending=True, maintain_order=True
        )
        for name in kept["condition"].head(MOST_SCALED):
            row = cells.filter(condition=name).sort("value", maintain_order=True).row(-1, named=True)
            bars.append(bar(_brief(names[name]), row, CLAIMED, row["cell"]))
        figure = percent(worst["value"]) if worst else ""
    if changed.height:
        fell = changed.filter("stands", pl.col("verdict") == LOWER)
        key = changed.sort("difference").row(0, named=True)
        what = _brief(names[key["condition"]])
        change = points(key["difference"], key["low"], key["high"])
        parts.append(
            f"{'Of' if not parts else 'of'} {changed.height} groups zeroed or kept, {fell.height} lower the rate after "
            f"correction, most {what}: {percent(key['before'])} → {percent(key['after'])} of {key['n_after']}, {change}"
        )
        for row in changed.sort("difference").iter_rows(named=True):
            bars.append(bar(_brief(names[row["condition"]]), after(row), BESIDE, called(of.outcome)))
        nothing = bool(changed["verdict"].is_in(NO_FALL).all())
        verdict = SHOWN if fell.height else NULL if nothing else UNKNOWN
        figure = figure or percent(key["after"])
    about = of.behind(int(changed["n_after"].max() or 0), topics, questions) if changed.height else ""  # type: ignore[arg-type]
    note = "shares of scalings are of the answers that the four-way table keeps" if cells.height else ""
    table = cells if cells.height else changed
    shown = gains.scaled_answers(study, of.answers)["condition"].n_unique()
    chosen = (
        {"scaling_conditions": cells["condition"].unique(maintain_order=True).to_list()}
        if shown > MOST_OFFERED and cells.height
        else {}
    )
    return Claim(
        "subsets",
        of.outcome,
        "; ".join(parts) + ".",
        verdict,
        figure,
        "; ".join(filter(None, (about or f"judge {of.evidence.judge}", note))),
        bars_of(bars[:MOST_BARS]),
        table,
        drawn="cells" if cells.height else "groups",
        **of.link("scaled_adapters", **chosen),
    )


def _brief(what: str) -> str:
    """What a condition of gains did, in fewer words."""
    return what.replace(", L", ", ").replace("; others ×0", ", others off").replace("; others ×1", "")


def _four(of: Telling, scaled: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, Any] | None]:
    """The four-way table of the scaled groups, and its row with most misaligned; nothing where none was scored so."""
    nothing = pl.DataFrame(), None
    if of.outcome != EM or scaled.is_empty() or not set(NEEDS) <= set(of.answers.columns):
        return nothing
    answers = of.answers.filter(
        pl.col("organism") == of.organism,
        pl.col("condition").is_in(scaled["condition"].implode()),
        pl.all_horizontal(pl.col(NEEDS).is_not_null()),
    )
    cells = four_way(answers, list(gains.BY)).filter(pl.col("n") > 0) if answers.height else pl.DataFrame()
    if cells.is_empty():
        return nothing
    misaligned = cells.filter(pl.col("cell").is_in(CELLS[:2]))
    return cells, misaligned.sort("value", descending=True, maintain_order=True).row(0, named=True)


def _scaled_words(row: Mapping[str, Any], names: Mapping[str, str], cells: pl.DataFrame) -> str:
    small = ", too few to tell" if row["too_small"] else ""
    rate = with_interval(row["value"], row["low"], row["high"])
    count, what = cells["condition"].n_unique(), _brief(names[row["condition"]])
    most = f", the most of {count} scalings" if count > 1 else ""
    return f"{what}: {rate} of {row['n']} kept answers are {row['cell']}{small}{most}"


def _groups(of: Telling, groups: pl.DataFrame) -> tuple[pl.DataFrame, int, list[str]]:
    """What zeroing or keeping groups changed, over how many questions of which topics."""
    if groups.is_empty():
        return pl.DataFrame(), 0, []
    recorded = of.evidence.recorded
    some = groups.filter(pl.col("arrangement").is_in([WITHOUT_SOME, ONLY_SOME]))
    groups = some if some.height else groups
    answers = _answered(of, recorded).filter(pl.col("organism") == of.organism, of.outcome.scored())
    edited = answers.filter(pl.col("cell").is_in(groups["condition"].implode()))
    if edited.is_empty():
        return pl.DataFrame(), 0, []
    topics = published(edited["topic"].unique().to_list())
    asked = answers.filter(pl.col("topic").is_in(topics))
    questions = edited.filter(pl.col("topic").is_in(topics))["question_id"].n_unique()
    found = changes(asked, groups["condition"].to_list(), by="cell", outcomes=(of.outcome,), about=about_of(questions))
    return found.rename({"cell": "condition"}), questions, topics
