"""The story on the page: its claims as cards, and the figure of each with the way to the page behind it.

It refuses to know how a claim is made, and how it is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from backend.charts.story import cards_html
from backend.outcomes import Outcome
from backend.report.cards import ANCHOR, story_cards
from backend.report.claim_figures import Figure, figure
from backend.study import Study
from backend.tables.claims import MISSING, STEPS, Claim, Evidence, Telling, called, told_outcomes
from backend.tables.rates import drawn_by
from backend.tables.story import story, told
from panels.asked import page_link
from panels.figures import show_chart
from panels.frame import per_study, plain, responses_of, said_of_drawn

TITLES = {
    "responses": "Responses",
    "convergence": "Convergence",
    "steering": "Steering",
    "ablation": "Ablation & transfer",
    "specialisation": "Specialisation",
    "scaled_adapters": "Scaled adapters",
}


@per_study
def _evidence(study: Study, judge: str) -> Evidence:
    """What the stories of a study are told from."""
    return Evidence(study, judge, responses_of(study, judge))


@per_study
def claims_of(study: Study, judge: str, outcome: Outcome) -> list[Claim]:
    """The claims of one outcome, in order; none where the study has the base alone."""
    return story(Telling(_evidence(study, judge), outcome))


@per_study
def claim_of(study: Study, judge: str, outcome: Outcome, step: str) -> Claim | None:
    """One claim alone, for a page that has no need of the others."""
    return told(Telling(_evidence(study, judge), outcome), step)


def show_story(study: Study, judge: str, outcome: Outcome) -> list[list[Claim]]:
    """The claims as cards; gives them."""
    every = [claims_of(study, judge, each) for each in told_outcomes(_evidence(study, judge), outcome)]
    stories = [claims for claims in every if claims]
    if not stories:
        by = drawn_by(study, judge)
        why = said_of_drawn(by) if by else "holds scores of no organism beside the base, so there is no story to tell."
        st.info(f"{plain(judge)} {why}" if by else f"{plain(study.name)} {why}")
        return stories
    named = ", then ".join(plain(called(claims[0].outcome)) for claims in stories)
    st.caption(
        f"The paper's argument in six steps, of {named}; judge {plain(judge)}. A bar is a 95 % interval; "
        ":orange[●] what the step is about, :gray[●] without an edit or of others, :blue[●] controls. Figures follow."
    )
    st.html(cards_html(story_cards(stories)))
    return stories


@per_study
def _figure_of(study: Study, judge: str, outcome: Outcome, step: str, _claim: Claim) -> Figure:
    """The figure of a claim: drawn once a build."""
    return figure(_claim, study.organisms()["organism"].to_list())


def show_figures(study: Study, judge: str, stories: Sequence[Sequence[Claim]]) -> None:
    """The figure of every step, with what it says, what it is of, and the page behind it."""
    if not stories:
        return
    for at, (step, title) in enumerate(STEPS.items()):
        st.subheader(f"{at + 1}. {title}", anchor=ANCHOR.format(step))
        for claims in stories:
            claim = claims[at]
            name = f"**{plain(called(claim.outcome))}.** " if len(stories) > 1 else ""
            st.markdown(f"{name}{plain(claim.said)}")
            if claim.verdict == MISSING:
                continue
            drawn = _figure_of(study, judge, claim.outcome, step, claim)
            if drawn.legend:
                st.html(drawn.legend)
            for row in drawn.rows:
                for column, each in zip(st.columns(len(row)), row, strict=True):
                    key = f"story_{step}_{claim.outcome.name}_{each.name}"
                    show_chart(column, each.spec, width="stretch", key=key, alt=each.alt)
            st.caption(plain(claim.about) + ".")
            page_link(claim.page, f"{TITLES[claim.page]}, in this state", claim.query)
