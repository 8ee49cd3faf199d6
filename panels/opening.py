"""How a page opens: its title, what it answers, and the study's answer in a sentence where the story has one.

It refuses to know what follows.
"""

from __future__ import annotations

from contextlib import suppress

import streamlit as st

from backend.outcomes import Outcome
from backend.records import InputError
from backend.study import Study
from backend.study.outcome_json import outcomes_of
from backend.tables.claims import MISSING, Claim
from backend.tables.rates import drawn_by
from panels.frame import plain
from panels.story import claim_of


def opening(title: str, asks: str, study: Study, step: str = "") -> None:
    """Title and question of a page; with a `step` of the story, what this study answers, by the judge of the sidebar.

    Nothing is said of a study that has no data for the step: the page says how to have it.
    """
    st.title(title)
    st.caption(asks)
    claim = None
    with suppress(InputError):  # what cannot be read or judged is said by the page itself
        claim = _answer(study, step) if step else None
    if claim is not None and claim.verdict != MISSING:
        st.markdown(f"**In this study:** {plain(claim.said)}  \n:small[:gray[{plain(claim.about)}.]]")


def _answer(study: Study, step: str) -> Claim | None:
    judge, outcome = _asked("judge", study.judges()), _outcome(study)
    if judge is None or drawn_by(study, judge) is not None or not set(outcome.needs) <= set(study.metrics(judge)):
        return None
    return claim_of(study, judge, outcome, step)


def _outcome(study: Study) -> Outcome:
    known = {outcome.name: outcome for outcome in outcomes_of(study.info)}
    return known[_asked("outcome", list(known)) or next(iter(known))]


def _asked(key: str, offered: list[str]) -> str | None:
    """What the sidebar shows, or will show once it is drawn."""
    asked = st.session_state.get(key) or st.query_params.get(key)
    return asked if asked in offered else next(iter(offered), None)
