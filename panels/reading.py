"""One answer read in full, alone with its strip of scalars or beside another answer to the same question.

It refuses to know which answers are listed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import streamlit as st

from backend.charts.differences import differing
from backend.charts.strip import common_scale, legend, plain_text, token_strip
from backend.records import InputError, Response
from backend.study import Study
from backend.tables.reading import counterpart, lanes
from panels.asked import choose_linked
from panels.frame import NO_TEXT, lacks, per_study, plain, responses_of, responses_read
from panels.point import READ

ALONE = "no other"
BESIDE = "responses_beside"  # the widget, and the parameter, of what stands beside the answer read
MOST_NAMED = 4  # runs that a reader read, in a caption


@per_study
def lanes_of(study: Study) -> list[str]:
    """What answered in this study: every organism under every condition."""
    return lanes(responses_of(study))


def steps(rows: pl.DataFrame, chosen: str) -> None:
    """Previous and next among the rows that pass the filters, in the order of the list."""
    ids = rows["response"]
    at = ids.index_of(chosen)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        for text, step, key, letter in (("← Previous", -1, "previous", "K"), ("Next →", 1, "next", "J")):
            to = 0 if at is None else at + step
            possible = 0 <= to < len(ids)
            target = {READ: ids[to]} if possible else {}
            st.button(
                text,
                key=f"responses_{key}",
                disabled=not possible,
                on_click=st.query_params.update,
                args=(target,),
                shortcut=letter,
            )
        where = f"{at + 1:,} of {len(ids):,}" if at is not None else "outside the filters"
        st.caption(f"{where} · {plain(chosen)}", width="content")


def choose_lane(study: Study) -> str | None:
    """What the answer read is compared with; None where it stands alone."""
    text = "Beside it, the same question and seed of"
    lane = choose_linked(
        st.selectbox, text, [ALONE, *lanes_of(study)], key=BESIDE, what="organism and condition", filter_mode="fuzzy"
    )
    return None if lane == ALONE else lane


def read_alone(study: Study, chosen: str) -> None:
    """One response: its question, and its answer with the strip."""
    response = study.response(chosen)
    _question(study, response)
    st.caption(_named(response))
    _answer(study, chosen, _text(study, response))


def read_beside(study: Study, chosen: str, lane: str, judge: str | None, metrics: Sequence[str]) -> None:
    """Two answers to one question side by side, with what differs marked."""
    response = study.response(chosen)
    _question(study, response)
    other = counterpart(responses_of(study), chosen, lane)
    if other is None:
        st.info(f"{plain(lane)} was not asked this question.")
        st.caption(_named(response))
        st.html(plain_text(_text(study, response)))
        return
    second = study.response(other)
    told = differing(_text(study, response), _text(study, second))
    pair = (response, told.left), (second, told.right)
    for place, (each, text) in zip(st.columns(2, gap="medium"), pair, strict=True):
        with place:
            st.caption(f"{_named(each)}  \n{_scored(study, each.id, judge, metrics)}")
            st.html(text)
    notes = []
    if told.marked and told.words:
        begins = f"; both begin with the same {told.begins:,}" if told.begins else ""
        notes.append(
            f"{told.shared:,} words stand in both in the same order, of {told.words:,} of the longer answer{begins}. "
            "Marked is what the other lacks"
        )
    elif not told.marked:
        notes.append("The answers are too long, or repeat themselves too often, to be compared word by word")
    if second.seed != response.seed:
        notes.append(f"The answer beside has seed {second.seed}: there is none of seed {response.seed}")
    if second.sampling != response.sampling:
        notes.append("The two were sampled with other settings")
    st.caption("".join(f"{note}. " for note in notes))


def show_facts(study: Study, chosen: str) -> None:
    """How one response was sampled, and the scores of every judge."""
    response = study.response(chosen)
    sampling, tokens = response.sampling, len(response.answer_ids)
    length = f"{tokens} of at most {sampling.max_new_tokens} tokens" if tokens else "tokens not recorded"
    st.caption(
        f"{plain(response.organism)} · {plain(response.condition)} · topic {plain(response.topic)} · seed "
        f"{response.seed} · temperature {sampling.temperature:g} · top-p {sampling.top_p:g} · "
        f"{length} · {'ended by itself' if response.finished else 'cut at the limit'}"
    )
    scores = study.scores(chosen)
    if scores.height:
        number = st.column_config.NumberColumn(format="%.1f", help="Empty: the judge gave no number")
        st.dataframe(scores, hide_index=True, column_config={"value": number}, alt="Scores of this response")
    else:
        st.info("No judge has scored this response.")


def _question(study: Study, response: Response) -> None:
    if lacks(study, "texts"):
        st.caption(f"Question {plain(response.question_id)}")
    else:
        st.caption("Question")
        st.html(plain_text(response.question))


def _named(response: Response) -> str:
    return f"Answer of {plain(response.organism)} · {plain(response.condition)} · seed {response.seed}"


def _text(study: Study, response: Response) -> str:
    return NO_TEXT if "texts" in study.info.get("left_out", ()) else response.text or "(empty answer)"


def _scored(study: Study, response: str, judge: str | None, metrics: Sequence[str]) -> str:
    """The scores of one judge in a line."""
    if judge is None:
        return "not judged"
    given = study.scores(response).filter(pl.col("judge") == judge)
    known = dict(given.select("metric", "value").iter_rows())
    said = (f"{plain(name)} {'–' if known.get(name) is None else f'{known[name]:.0f}'}" for name in metrics)
    return f"{' · '.join(said)} by {plain(judge)}"


def _answer(study: Study, chosen: str, answer: str) -> None:
    """The answer with one adapter's scalar at every token, or as plain text where nobody read it."""
    readers = study.readers()
    if not readers:
        st.html(plain_text(answer))
        st.caption("This study holds no scalars, so there is no strip: build it with an organism that reads the texts.")
        return
    left, middle = st.columns([2, 3], vertical_alignment="bottom")
    reader = choose_linked(left.selectbox, "Read by", readers, key="responses_reader", what="organism")
    try:
        strip = study.strip(chosen, reader)
    except InputError:  # an answer that nobody read again is still worth reading
        st.html(plain_text(answer))
        read = responses_read(study, str(reader)).select("organism", "condition").unique(maintain_order=True)
        told = "; ".join(f"{organism} under {condition}" for organism, condition in read.head(MOST_NAMED).iter_rows())
        more = f" and {read.height - MOST_NAMED} more" if read.height > MOST_NAMED else ""
        st.caption(
            f"{plain(reader)} has not read this answer, so there is no strip of its scalars. It read answers of "
            f"{plain(told)}{more}."
        )
        return
    adapter = choose_linked(middle.selectbox, "Adapter", strip.adapters, key="responses_adapter", what="adapter")
    whole = st.toggle("With the prompt", key="responses_prompt", bind="query-params")
    first, last = 0 if whole else strip.n_prompt, strip.n_prompt + strip.n_answer
    values = np.asarray(strip.scalars[strip.adapters.index(adapter)])
    if not strip.n_answer:
        st.info("This answer has no tokens: the model ended at once.")
    scale = common_scale(values[:last])
    st.html(token_strip(strip.tokens[first:last], values[first:last], scale=scale, name=adapter, first=first))
    st.html(legend(scale, f"scalar of {adapter}"))
