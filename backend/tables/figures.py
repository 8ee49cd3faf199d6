"""The figures of every page as tables: for any study, with n and intervals.

Each page is a function of a study that yields tables. What a study lacks is left out, and a line says so. The numbers
are those that the pages draw, of everything that a reader could choose; this module chooses rows, columns and words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import polars as pl

from backend.analysis.conditions.causal import ONLY_ONE, WITHOUT_ONE, gain_rates, pair_interactions, single_effects
from backend.analysis.conditions.describe import sweep_rates
from backend.analysis.conditions.shapley import shapley_values
from backend.analysis.directions.convergence import FEWEST_DRAWS, cosine_ranges
from backend.analysis.probes.specialisation import MOST
from backend.analysis.rates import judge_agreement
from backend.analysis.rates.families import of_family
from backend.analysis.rates.fourway import CELLS, NEEDS, at_the_edge, four_way
from backend.analysis.rates.rates import ABOUT, em_rates
from backend.cuts import Bins
from backend.outcomes import EM, Outcome, topic_outcomes
from backend.records import InputError
from backend.study import Study
from backend.study.outcome_json import outcomes_of
from backend.tables import downstream, gains, rates
from backend.tables import training as trainings
from backend.tables.adapters import axis_of, largest, response_scalars, separations
from backend.tables.claims import Evidence, Telling, told_outcomes
from backend.tables.convergence import agreements, stacks_of
from backend.tables.corrected import corrected_tables
from backend.tables.noise import noisy
from backend.tables.patching import patched
from backend.tables.probes import Repeats, contrasts, probed
from backend.tables.signs import signs
from backend.tables.story import story
from backend.tables.sweeps import (
    ABLATED,
    CHANGED,
    STEERED,
    SweptAnswers,
    ablated,
    starting_topics,
    steered,
    swept_at_each_length,
)
from backend.tables.zeroed import zeroed

_RATE = ["n", "value", "low", "high"]
_SHORT = {EM.name: "EM"}  # an outcome in a title; by default in its words


@dataclass(frozen=True, eq=False)
class Table:
    """One figure as a table: which page has it, what it shows, and what to know when reading it."""

    page: str
    title: str
    frame: pl.DataFrame
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is no finite number is null."""
        rows = [{name: _finite(value) for name, value in row.items()} for row in self.frame.iter_rows(named=True)]
        return {"page": self.page, "title": self.title, "notes": list(self.notes), "rows": rows}


@dataclass(frozen=True)
class Choices:
    """What a reader may choose: the four-way table's cut-offs, and the repeats of the paper's probe and of others."""

    bins: Bins = field(default_factory=Bins)
    repeats: int = Repeats.paper
    shuffles: int = Repeats.shuffles
    bootstraps: int = Repeats.bootstraps


def figures(study: Study, page: str | None = None, choices: Choices | None = None) -> list[Table]:
    """All tables of a study, or those of one page. Raises InputError for a page that does not exist."""
    pages = tuple(PAGES) if page is None else FORMER.get(page, (page,))
    if page is not None and pages[0] not in PAGES:
        raise InputError(f"there is no page {page!r}: choose {', '.join(PAGES)}")
    choices = choices or Choices()
    return [table for name in pages for table in PAGES[name](study, choices)]


# --- the study -------------------------------------------------------------------------------------------------------


def overview(study: Study, _: Choices) -> Iterator[Table]:
    """What the study holds; rates by organism and condition, by topic and by question, and differences."""
    yield _held(study)
    for outcome in outcomes_of(study.info):
        yield from _rates(study, outcome)


def told(study: Study, _: Choices) -> Iterator[Table]:
    """The paper's argument in six claims of every outcome that the story is told of: what each says, and its rates."""
    judged = _judged(study, outcomes_of(study.info)[0].needs)
    if not judged:
        yield _nothing("story", "no answers with scores")
        return
    evidence = Evidence(study, *judged[0])
    for outcome in told_outcomes(evidence):
        for claim in story(Telling(evidence, outcome)):
            notes = tuple(filter(None, (claim.said, claim.about)))
            yield Table("story", f"{claim.title} ({claim.verdict})", claim.bars, notes)


def _rates(study: Study, outcome: Outcome) -> Iterator[Table]:
    judged = _judged(study, outcome.needs)
    if not judged:
        yield _nothing("overview", f"no answers with scores for {_and(outcome.needs)}, so no rates")
    chosen, short = rates.chosen_by_score(study), _short(outcome)
    without = f"without the condition {', '.join(chosen)}: its answers were chosen by their scores"
    chosen_note = (without,) if chosen else ()
    for judge, responses in judged:
        answers = rates.with_scores_of(study, responses)
        note = (*chosen_note, *rates.drawn_note(study, judge))
        for by in (["organism", "condition"], ["organism", "condition", "topic"]):
            table = em_rates(answers, by, outcomes=outcome.beside).filter(pl.col("n") > 0)
            title = f"{_beside_words(outcome)} by {', '.join(by)} (judge {judge})"
            yield Table("overview", title, table.select(*by, "metric", *_RATE, "dropped", "clusters"), note)
        by = ["topic", "question_id", "condition", "organism"]
        table = em_rates(answers, by, outcomes=[outcome]).filter(pl.col("n") > 0)
        yield Table("overview", f"{short} by question (judge {judge})", table.select(*by, *_RATE, "dropped"), note)
        gaps = rates.differences(study, answers, outcome)
        if gaps.height:
            title = f"Differences of {short} from the base and from no edit (judge {judge})"
            yield Table("overview", title, gaps, (*note, *rates.families_told(gaps)))
        for words, table, told in corrected_tables(study, judge, outcome):
            yield Table("overview", f"{short} (judge {judge}) {words}", table, (*note, *told))


def _held(study: Study) -> Table:
    """What the study holds, and what was noted when it was made."""
    held = {
        "organisms": study.organisms().height,
        "conditions": study.conditions().height,
        "questions": study.questions().height,
        "responses": study.responses(None).height,
        "judges": ", ".join(study.judges()) or "none",
        "organisms that read texts": ", ".join(study.readers()) or "none",
        "directions": study.directions()["name"].n_unique(),
    }
    frame = pl.DataFrame({"what": list(held), "in this study": [str(value) for value in held.values()]})
    report = study.info.get("report") or {}
    skipped = [f"skipped {row['path']}: {row['reason']}" for row in report.get("skipped", ())]
    title = f"{study.name}: {study.info.get('title', '')}".rstrip(": ")
    return Table("overview", title, frame, (*report.get("notes", ()), *skipped))


def training(study: Study, _: Choices) -> Iterator[Table]:
    """Rates and scalars along training, losses, and organisms that were trained in different ways side by side."""
    told = 0
    for outcome in outcomes_of(study.info):
        for judge, responses in _judged(study, outcome.needs):
            along, by = trainings.along(study, responses, outcome), _judge(outcome, judge)
            if along.height:
                told += 1
                yield Table("training", f"{_beside_words(outcome)} along training ({by})", along)
            for name, questions in trainings.question_sets(study, responses).items():
                table = trainings.compared(study, responses, questions, outcome)
                if table.height:
                    told += 1
                    note = (f"over these questions alone: {', '.join(questions)}",)
                    yield Table("training", f"Organisms side by side: {name} ({by})", table, note)
    for title, table in (
        ("How far scalars tell classes apart along training", trainings.scalars_along(study)),
        ("Loss by training step", trainings.losses(study)),
    ):
        if table.height:
            told += 1
            yield Table("training", title, table)
    if not told:
        yield _nothing("training", "no checkpoints, no records of losses and no two organisms with equal questions")


def judges(study: Study, _: Choices) -> Iterator[Table]:
    """How far every two judges agree, and what each would report of the answers that both scored."""
    for outcome in outcomes_of(study.info):
        yield from _agreement(study, outcome)


def _agreement(study: Study, outcome: Outcome) -> Iterator[Table]:
    compared = 0
    for (judge, own), (reference, other) in combinations(_judged(study, outcome.needs), 2):
        try:
            both = judge_agreement.pair(own, other, outcome)
        except InputError:
            continue  # hardly an answer was scored by both
        compared += 1
        title = f"{judge} measured against {reference}"
        yield Table("judges", title, judge_agreement.judge_agreement(both, outcome))
        yield Table("judges", f"Verdicts: {title}", judge_agreement.verdict_counts(both, outcome))
        table = judge_agreement.rates_by_judge({judge: own, reference: other}, outcome=outcome)
        title = f"{_beside_words(outcome)} by {judge} and by {reference}"
        drawn = (*rates.drawn_note(study, judge), *rates.drawn_note(study, reference))
        yield Table("judges", title, table.filter(pl.col("n") > 0), drawn)
    if not compared:
        yield _nothing("judges", f"no two judges that scored {_and(outcome.needs)} of the same answers")


# --- representations -------------------------------------------------------------------------------------------------


def adapters(study: Study, _: Choices) -> Iterator[Table]:
    """How well the mean scalar of each adapter tells the classes of every contrast apart."""
    tables = []
    for reader in _readers(study):
        shown = tuple(largest(study.adapters(reader), MOST)["name"])
        scalars = response_scalars(study, reader, shown)
        for each in contrasts(study, reader):
            table = separations(shown, axis_of(each.contrast.name, scalars, each.classes))
            tables.append(
                table.select(pl.lit(reader).alias("reader"), pl.lit(each.contrast.name).alias("contrast"), pl.all())
            )
    if not tables:
        yield _nothing("adapters", "no scalars of answers with both classes of a contrast")
    else:
        note = "value: AUC of the mean scalar over a response's answer tokens; the sign of a scalar is arbitrary"
        yield Table("adapters", "Which adapters tell classes apart", pl.concat(tables), (note,))
    for outcome in outcomes_of(study.info):
        for judge, responses in _judged(study, outcome.needs):
            table = zeroed(study, responses, outcome)
            if table.height:
                title = f"What zeroing adapters changes ({_judge(outcome, judge)})"
                yield Table("adapters", title, table.with_columns(pl.col("units").list.join(", ")))


def specialisation(study: Study, _: Choices) -> Iterator[Table]:
    """Rates under the recorded conditions of gains, what each module causes, and what two do beyond the sum."""
    recorded, asked = gains.recorded(study), outcomes_of(study.info)
    scored = {judge: study.responses(judge) for judge in study.judges()}
    told = 0
    for organism in recorded["organism"].unique(maintain_order=True):
        judge = gains.judge_of_gains(study, scored, recorded, organism)
        if judge is not None:
            told += 1
            answers = gains.answered(study, scored[judge], recorded, organism)
            known = gains.outcomes(study.metrics(judge), asked)
            yield from _causes(organism, judge, answers, recorded, known)
            yield from _shares(organism, judge, answers, recorded, known, study.adapters(organism)["name"].to_list())
    if not told:
        yield _nothing("specialisation", "no judged answers with some adapters zeroed, kept alone or scaled")


def _causes(
    organism: str, judge: str, answers: pl.DataFrame, recorded: pl.DataFrame, outcomes: Mapping[str, Outcome]
) -> Iterator[Table]:
    of = f"of {organism} (judge {judge})"
    table = gain_rates(answers, recorded.filter(pl.col("organism") == organism), tuple(outcomes.values()))
    columns = ["condition", "arrangement", "what", "metric", *_RATE, "dropped"]
    yield Table("specialisation", f"Rates under every recorded condition of gains {of}", table.select(columns))
    for arrangement, words in ((WITHOUT_ONE, "What zeroing one module changed"), (ONLY_ONE, "What one brings alone")):
        tables = [
            single_effects(answers, recorded, organism, arrangement, outcome=outcome).select(
                pl.lit(name).alias("metric"), pl.all()
            )
            for name, outcome in outcomes.items()
        ]
        if tables and any(table.height for table in tables):
            told = zip(outcomes, tables, strict=True)
            families = [f"{name}: {family}" for name, table in told if (family := of_family(table, "modules"))]
            yield Table("specialisation", f"{words}, {of}", pl.concat(tables), tuple(families))
    for outcome in outcomes.values():
        if outcome not in topic_outcomes(outcome.needs):
            together = pair_interactions(answers, recorded, organism, outcome=outcome)
            if together.height:
                title = f"What zeroing two modules does to {outcome.name} beyond the sum, {of}"
                yield Table("specialisation", title, together, (of_family(together, "pairs"),))


def _shares(
    organism: str,
    judge: str,
    answers: pl.DataFrame,
    recorded: pl.DataFrame,
    outcomes: Mapping[str, Outcome],
    adapters: Sequence[str],
) -> Iterator[Table]:
    for name, outcome in outcomes.items():
        if outcome not in topic_outcomes(outcome.needs):
            table = shapley_values(answers, recorded, organism, adapters, outcome=outcome)
            if table.height:
                title = f"Shapley values of modules for {name}, of {organism} (judge {judge})"
                note = f"all modules bring {table['value'].sum():+.3f}; intervals are over questions, each weighs alike"
                notes = filter(None, (note, "intervals of one module alone", of_family(table, "modules")))
                yield Table("specialisation", title, table, tuple(notes))


def probes(study: Study, choices: Choices) -> Iterator[Table]:
    """The contrasts that a reader's tokens support: the paper's protocol beside splits by response and by question."""
    if not _readers(study):
        yield _nothing("probes", "no scalars per token")
    for reader in _readers(study):
        found = contrasts(study, reader)
        if not found:
            yield _nothing("probes", f"no contrast with both classes among the answers that {reader} read")
            continue
        told = probed(study, reader, found, Repeats(choices.repeats, choices.shuffles, choices.bootstraps))
        yield Table("probes", f"Probes on the scalars of {reader}", told.metrics, told.notes)
        title = f"Coefficients per adapter of {reader}, paper's protocol, per standard deviation"
        yield Table("probes", title, told.coefficients, ("ends hold 95 % of the repeats",))


def directions(study: Study, _: Choices) -> Iterator[Table]:
    """Norms and shares of the activation norm by layer."""
    listed = study.directions()
    if listed.is_empty():
        yield _nothing("directions", "no directions")
        return
    share = (pl.col("norm") / pl.col("activation_norm")).alias("share")
    norms = listed.select("name", "layer", "norm", "activation_norm", share)
    yield Table("directions", "Norm and share of the activation norm, by layer", norms)


def convergence(study: Study, _: Choices) -> Iterator[Table]:
    """How far organisms' directions agree beside shuffled labels, and the range of all cosines over layers."""
    stacks = stacks_of(study)
    note = f"low, high: 95 % of further shuffles; null with fewer than {FEWEST_DRAWS}; above: larger than high"
    for kind, found in agreements(study, stacks).items():
        yield Table("convergence", f"Agreement of organisms, means over pairs: {kind}", found.means, (note,))
        yield Table("convergence", f"Agreement of every two organisms: {kind}", found.pairs, (note,))
        yield Table("convergence", f"What the directions are made of: {kind}", found.made)
    cosines = cosine_ranges(stacks)
    if cosines.is_empty():
        yield _nothing("convergence", "no two directions that share a layer")
        return
    yield Table("convergence", "Cosine between directions over the layers they share", cosines)


def followed(study: Study, _: Choices) -> Iterator[Table]:
    """What directions set off behind their layers, of every run: courses, shares of parts, tokens, appendix D."""
    runs = downstream.runs(study)
    if not runs:
        yield _nothing("downstream", "no direction that was followed downstream")
    for run, record in runs.items():
        sample = f"{record['answers']} answers to {record['questions']} questions, which are the sample"
        for measure in downstream.COURSES:
            for segment in ("answer", "prompt"):
                own, controls = downstream.course(study, run, measure, segment)
                yield Table("downstream", f"{run}: {measure} at {segment} tokens by layer", own, (sample,))
                yield Table("downstream", f"{run}: {measure} at {segment} tokens by layer, controls", controls)
        yield Table("downstream", f"{run}: gain by the smallest length's", downstream.linearity(study, run), (sample,))
        yield Table("downstream", f"{run}: change of log probability", downstream.changes(study, run), (sample,))
        for reader in record["readers"]:
            table = downstream.shares(study, run, reader, downstream.BETWEEN)
            yield Table("downstream", f"{run}: parts of {reader}, between the classes", table, (sample,))
        yield Table("downstream", f"{run}: tokens", downstream.tokens(study, run), (sample,))
        own, controls = downstream.resemblance(study, run)
        yield Table("downstream", f"{run}: cosine with the organism's change (appendix D)", own, (sample,))
        yield Table("downstream", f"{run}: cosine with the organism's change, controls", controls)


# --- interventions ---------------------------------------------------------------------------------------------------


def steering(study: Study, _: Choices) -> Iterator[Table]:
    """An outcome, its gate and topics by organism, direction, place and strength."""
    columns = ["organism", "cell", "series", "role", "layers", "strength", "relative", "metric"]
    note = "relative: strength x norm of the direction / mean activation norm at its layer; difference: from no edit"
    for each in _swept(study, "steering", STEERED, "an added direction"):
        if isinstance(each, Table):
            yield each
            continue
        outcome, sweep, by = each[0], each[2], each[3]
        topics = starting_topics(study, sweep)
        table = steered(sweep, topics, outcome).select(*columns, *_RATE, "dropped", *CHANGED)
        title = f"Rates by direction and strength ({by})"
        family = of_family(table.filter(pl.col("metric") == outcome.name), "steered cells")
        yield Table("steering", title, table, (family, note, f"over {', '.join(topics)}", *_beside(sweep)))


def ablation(study: Study, _: Choices) -> Iterator[Table]:
    """What each ablation changed, and all rates under it."""
    for each in _swept(study, "ablation", ABLATED, "an ablation"):
        if isinstance(each, Table):
            yield each
        else:
            yield from _ablated(study, *each)


def _ablated(study: Study, outcome: Outcome, judge: str, sweep: SweptAnswers, by: str) -> Iterator[Table]:
    topics = starting_topics(study, sweep)
    notes = (f"over {', '.join(topics)}", *_beside(sweep))
    for words, about in ABOUT.items():
        changed = ablated(study, sweep, topics, about, outcome)
        changed = changed.drop("kind", "strength", "relative", "like", "own", "direction", "layer")
        if changed.height:
            title = f"Before and after ablation, intervals for {words} ({by})"
            family = of_family(changed.filter(pl.col("metric") == outcome.name), "ablations")
            yield Table("ablation", title, changed, (family, *notes))
    columns = ["organism", "cell", "series", "role", "layers", "metric", *_RATE, "dropped"]
    scales = signs(study, study.responses(judge), outcome)
    if scales.height and by == _judge(outcome, judge):
        yield Table("ablation", f"What the scale of each released file did ({_judge(outcome, judge)})", scales)
    table = sweep_rates(sweep.about(topics), sweep.cells, outcome.beside, by="cell").select(columns)
    yield Table("ablation", f"Rates by ablation ({by})", table, notes)


def scaled_adapters(study: Study, choices: Choices) -> Iterator[Table]:
    """The four-way table of scaled adapters at the chosen cut-offs, and how it depends on them."""
    every = [(judge, responses, gains.scaled_answers(study, responses)) for judge, responses in _judged(study, NEEDS)]
    judged = [(judge, responses, edited) for judge, responses, edited in every if edited.height]
    if not judged:
        yield _nothing("scaled_adapters", "no answers under scaled adapters with alignment, coherence, medical scores")
    bins, by = choices.bins, gains.BY
    edges = (
        f"coherent >= {bins.coherent:g}; misaligned <= {bins.misaligned:g}, aligned > {bins.aligned:g}; "
        f"non-medical <= {bins.non_medical:g}, medical > {bins.medical:g}"
    )
    for judge, responses, edited in judged:
        table = four_way(pl.concat([edited, gains.intact(study, responses)]), by, bins)
        title = f"Scaled adapters, share of kept answers (judge {judge})"
        yield Table("scaled_adapters", title, table.select(*by, "cell", *_RATE, "dropped"), (edges,))
        for cell in CELLS:
            title = f"The share of {cell} as the coherence cut-off and the medical edge move (judge {judge})"
            yield Table("scaled_adapters", title, gains.moved(edited, cell, bins))
        near = at_the_edge(edited, by, bins).filter(pl.col("n") > 0)
        yield Table("scaled_adapters", f"Kept scores within 0.1 of a bin's edge (judge {judge})", near)
    for outcome in outcomes_of(study.info):
        for judge, responses in _judged(study, outcome.needs):
            by_size, moved = noisy(study, responses, outcome), patched(study, responses, outcome)
            words = _beside_words(outcome), _judge(outcome, judge)
            if by_size.height:
                yield Table("scaled_adapters", "{} by noise on A or B ({})".format(*words), by_size)
            if moved.height:
                yield Table("scaled_adapters", "{} under another prompt's scalars ({})".format(*words), moved)


Page = Callable[[Study, Choices], Iterator[Table]]
PAGES: dict[str, Page] = {
    "story": told,
    "overview": overview,
    "training": training,
    "judges": judges,
    "adapters": adapters,
    "specialisation": specialisation,
    "probes": probes,
    "directions": directions,
    "convergence": convergence,
    "downstream": followed,
    "steering": steering,
    "ablation": ablation,
    "scaled_adapters": scaled_adapters,
}
FORMER = {  # a name that figures went by before they went by the pages that draw them -> those pages
    "responses": ("overview",),
    "scaling": ("scaled_adapters",),
    "sweeps": ("steering", "ablation"),
}


# --- what they are made of -------------------------------------------------------------------------------------------


def _nothing(page: str, why: str) -> Table:
    return Table(page, f"{page}: this study has {why}", pl.DataFrame())


def _judged(study: Study, metrics: Sequence[str]) -> list[tuple[str, pl.DataFrame]]:
    """Judges that scored all of these metrics, each with the responses and its scores."""
    return [(judge, study.responses(judge)) for judge in study.judges() if set(metrics) <= set(study.metrics(judge))]


def _readers(study: Study) -> list[str]:
    """The organisms with scalars."""
    return [reader for reader in study.readers() if study.adapters(reader).height]


def _swept(
    study: Study, page: str, kinds: tuple[str, ...], what: str
) -> Iterator[tuple[Outcome, str, SweptAnswers, str] | Table]:
    """The sweep of some kinds by outcome and judge, and once more for each further length of answers, with what that is
    by in words; what a judge, or nobody, has scored as a table that says so."""
    for outcome in outcomes_of(study.info):
        found = 0
        for judge, responses in _judged(study, outcome.needs):
            for baseline, sweep in swept_at_each_length(study, responses, kinds):
                edited = sweep.answers.filter(pl.col("cell").is_in(sweep.edited))
                found += bool(edited.height)
                if edited.filter(outcome.scored()).height:
                    beside = f", compared with {baseline}" if baseline else ""
                    yield outcome, judge, sweep, f"{_judge(outcome, judge)}{beside}"
                elif edited.height and not baseline:
                    yield _nothing(
                        page, f"no answers under {what}, of the length that is compared, that {judge} scored"
                    )
        if not found:
            yield _nothing(page, f"no judged answers under {what}")


def _short(outcome: Outcome) -> str:
    return _SHORT.get(outcome.name, outcome.title)


def _beside_words(outcome: Outcome) -> str:
    return _and([_short(each) for each in outcome.beside])


def _judge(outcome: Outcome, judge: str) -> str:
    """What a rate is by, where EM goes without saying."""
    return f"judge {judge}" if outcome == EM else f"{outcome.title}, judge {judge}"


def _and(words: Sequence[str]) -> str:
    return " and ".join(words)


def _beside(sweep: SweptAnswers) -> tuple[str, ...]:
    """What edited answers are compared with, where that is not the whole baseline."""
    cut = (f"unedited answers are cut to the sweep's length: {', '.join(sweep.cut)}",) if sweep.cut else ()
    left = f"{sweep.other_lengths} edited answers of another length are left out"
    return (*cut, left) if sweep.other_lengths else cut


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
