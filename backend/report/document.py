"""A study's report: one HTML file that needs no network, reads in both themes and prints.

It puts together what others make: the story's claims, their figures as SVG, tables, settings and words. What a study
says is text, never markup. It refuses to know how a rate is computed and who asked for the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jinja2
from markupsafe import Markup

from backend.charts.palette import INKS
from backend.charts.pictures import NARROW, WIDTH, svg
from backend.charts.story import cards_html
from backend.outcomes import Outcome
from backend.records import InputError
from backend.report.cards import ANCHOR, headed_name, story_cards
from backend.report.claim_figures import Drawing, figure
from backend.report.sheets import (
    Sheet,
    claim_sheet,
    differences_sheet,
    facts,
    is_local,
    model_name,
    organisms_sheet,
    rates_sheet,
    sweeps_sheet,
)
from backend.report.words import RESPONSIBLE, SOURCES, limits, methods
from backend.study import Study
from backend.tables.claims import MISSING, STEPS, Claim, Evidence, Telling, called, told_outcomes
from backend.tables.story import story

PARTS = (
    ("story", "Story"),
    ("figures", "Figures"),
    ("tables", "Tables"),
    ("settings", "Settings"),
    ("methods", "Methods"),
    ("limits", "Limits"),
    ("use", "Responsible use"),
)
BESIDE = 500  # pixels of a figure that has another beside it
NO_RATES = "No judge has scored answers of this study without an edit, so there is no rate."
NO_STORY = "The study holds no organism beside the base to tell of."


@dataclass(frozen=True)
class Picture:
    """One chart as SVG, for a page and for a telephone."""

    wide: Markup
    narrow: Markup


@dataclass(frozen=True)
class Told:
    """What one claim puts under its step."""

    name: str  # of the outcome; empty where a study has one
    said: str
    about: str
    legend: Markup
    rows: Sequence[Sequence[Picture]]
    sheet: Sheet | None


@dataclass(frozen=True)
class Step:
    """One step of the story with its figures."""

    title: str
    anchor: str
    told: Sequence[Told]


def report_html(study: Study, *, judge: str | None = None, outcome: Outcome | None = None) -> str:
    """The whole report, by one judge (the study's first) and, where it is another than EM, of one outcome beside it.

    Raises InputError where the study has no such judge, or nobody judged it.
    """
    evidence = _evidence(study, judge)
    outcomes = told_outcomes(evidence, outcome)
    without = _without_places(study)
    told = [claims for each in outcomes if (claims := _claims(evidence, each, without))]
    rates = [sheet for each in outcomes for sheet in (rates_sheet(evidence, each), differences_sheet(evidence, each))]
    return _template(without).render(
        title=str(study.info.get("title") or study.name),
        study=study.name,
        judge=evidence.judge,
        build=study.path.stem,
        ink=INKS,
        parts=PARTS if told else PARTS[2:],
        lead=" ".join(claims[0].said for claims in told) or NO_STORY,
        notes=str(study.info.get("notes") or ""),
        named=", then ".join(called(claims[0].outcome) for claims in told),
        cards=Markup(cards_html(story_cards(told))) if told else "",
        steps=_steps(study, evidence.judge, told),
        tables=list(filter(None, rates)),
        nothing=NO_RATES,
        facts=facts(study, evidence.judge),
        settings=list(filter(None, [organisms_sheet(study), sweeps_sheet(study)])),
        methods=list(methods(outcomes)),
        sources=SOURCES,
        limits=list(limits(evidence, told, outcomes)),
        responsible=RESPONSIBLE,
    )


def _evidence(study: Study, judge: str | None) -> Evidence:
    judges = study.judges()
    if not judges:
        raise InputError(f"nobody judged the answers of {study.name}, so there is nothing to report: judge them first")
    if judge is not None and judge not in judges:
        raise InputError(f"{study.name} has no judge {judge!r}: choose {', '.join(judges)}")
    chosen = judge or judges[0]
    return Evidence(study, chosen, study.responses(chosen))


def _template(without: Callable[[str], str]) -> jinja2.Template:
    """The page; every text of a study goes through `without`."""

    def said(value: object) -> object:
        return without(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    text = Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8")
    made = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, finalize=said)
    return made.from_string(text)


def _without_places(study: Study) -> Callable[[str], str]:
    """Takes out of a text where the study's folder and its models lay on the machine that built it."""
    bases = {str(study.info.get("base") or ""), *study.organisms()["base"].drop_nulls().to_list()}
    names = {base: model_name(base) for base in bases} | {str(study.info.get("folder") or ""): "FOLDER"}
    names = {place.rstrip("/"): name for place, name in names.items() if is_local(place) and place.strip("/")}
    if not names:
        return lambda text: text
    longest = sorted(names, key=len, reverse=True)
    found = re.compile(rf"(?<![\w.-])(?:{'|'.join(map(re.escape, longest))})(?![\w-])")
    return lambda text: found.sub(lambda place: names[place.group()], text)


def _claims(evidence: Evidence, outcome: Outcome, without: Callable[[str], str]) -> list[Claim]:
    """The claims of one outcome, whose words go through `without`."""
    told = story(Telling(evidence, outcome))
    return [replace(claim, said=without(claim.said), about=without(claim.about)) for claim in told]


def _steps(study: Study, judge: str, told: Sequence[Sequence[Claim]]) -> list[Step]:
    organisms = study.organisms()["organism"].to_list()
    if not told:
        return []
    return [
        Step(title, ANCHOR.format(step), [_told(claims[at], organisms, judge, alone=len(told) == 1) for claims in told])
        for at, (step, title) in enumerate(STEPS.items())
    ]


def _told(claim: Claim, organisms: Sequence[str], judge: str, *, alone: bool) -> Told:
    name = headed_name(claim, alone=alone)
    if claim.verdict == MISSING:
        return Told(name, claim.said, claim.about, Markup(), (), None)
    drawn = figure(claim, organisms)
    rows = [[_picture(each, claim, judge, WIDTH if len(row) == 1 else BESIDE) for each in row] for row in drawn.rows]
    sheet = claim_sheet(claim) if claim.bars.height else None
    return Told(name, claim.said, claim.about, Markup(drawn.legend), rows, sheet)


def _picture(drawing: Drawing, claim: Claim, judge: str, width: int) -> Picture:
    said = drawing.alt if claim.said in drawing.alt else f"{drawing.alt}: {claim.said}"
    about = claim.about if judge in claim.about else f"{claim.about}; judge {judge}"
    alt = f"{said.rstrip('.')}. {about}."
    wide, narrow = (svg(drawing.spec, width=each, alt=alt) for each in (width, NARROW))
    return Picture(wide, narrow)
