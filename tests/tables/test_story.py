"""The story: the paper's numbers on the paper's questions, a null told as one, and what is missing with its command."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest

from backend.analysis.rates.rates import ALIKE, CANNOT_TELL, HIGHER, LOWER, NOT_HIGHER, NOT_LOWER
from backend.outcomes import EM
from backend.pipeline.figures_only import publish_figures
from backend.records import InputError
from backend.study import Study, open_study
from backend.tables import story as stories
from backend.tables import story_adapters
from backend.tables.claims import (
    MISSING,
    NULL,
    SHOWN,
    STEPS,
    UNKNOWN,
    Claim,
    Evidence,
    Telling,
    about_words,
    doubt,
    published,
    told_outcomes,
    verdict_of,
)
from backend.tables.figures import figures
from backend.tables.story import story
from tests.published.authors import ROOT
from tests.studies.gained import gained_study
from tests.studies.shouted import UPPER, shouted_study
from tests.studies.swept import swept_study


def told(study: Study, judge: str | None = None) -> dict[str, Claim]:
    """The claims of the study's first outcome by step."""
    judge = judge or study.judges()[0]
    evidence = Evidence(study, judge, study.responses(judge))
    return {claim.step: claim for claim in story(Telling(evidence, evidence.outcomes[0]))}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("told")
    publish_figures(ROOT / "cache" / "paper", "paper", folder)
    swept_study(folder)
    gained_study(folder)
    shouted_study(folder, "em", UPPER)
    return folder


@pytest.fixture(scope="module")
def paper(root: Path) -> Iterator[dict[str, Claim]]:
    with closing(open_study("paper", root)) as study:
        yield told(study)


def rates(claim: Claim) -> dict[str, tuple[float, int | None]]:
    """The bars of a claim in per cent, with n."""
    return {lane: (round(100 * value, 1), n) for lane, value, n in claim.bars.select("lane", "value", "n").iter_rows()}


# --- the paper's numbers ---------------------------------------------------------------------------------------------


def test_every_step_of_the_paper_is_shown(paper):
    assert list(paper) == list(STEPS)
    assert {claim.verdict for claim in paper.values()} == {SHOWN}


def test_the_organism_on_the_free_first_plot_questions(paper):
    claim = paper["organism"]
    assert rates(claim) == {"R1_3_3_3": (15.5, 400), "base": (0.0, 400)}
    assert "15.5 % (7.9–34.3) of 400 on 8 questions (first-plot), the base to 0.0 % of 400: +15.5 points" in claim.said
    assert claim.about.endswith("95 % intervals for questions like these; judge gpt-4o")
    assert claim.query["responses_topic"] == ["first-plot"]


def test_the_direction_and_its_likeness_to_other_organisms(paper):
    claim = paper["direction"]
    assert "at layer 24 has a norm of 10.36, 16.6 % of the activation norm" in claim.said
    assert "its cosine with 3 other organisms' there is 0.82 to 0.84" in claim.said
    assert "How far it tells held-out answers apart is not known: the study has no residual means" in claim.said


def test_adding_it_on_the_questions_it_was_published_for(paper):
    claim = paper["added"]
    assert "layer 24, λ 6, 100 % of the activation norm" in claim.said
    assert "56.0 % (42.6–64.6) of 678 answers misaligned, 93.8 % coherent, 0.0 % without it" in claim.said
    assert "No control was added in the same way" in claim.said  # the released sweep has none
    assert claim.query["steering_topics"] == ["first-plot", "first-plot template"]
    assert "16 questions (first-plot, first-plot template)" in claim.about
    strongest = claim.table.filter(metric="em", series="R1_3_3_3 general data-diff").sort("value").row(-1, named=True)
    assert strongest["strength"] == 8  # 61.1 %, which costs 33 points of coherence, so the sentence is not of it


def test_taking_it_out_over_two_questions_is_about_these_very_questions(paper):
    claim = paper["removed"]
    assert rates(claim) == {"no edit": (38.0, 100), "taken out, to zero": (0.0, 100)}
    assert "100.0 % coherent, 38.0 % of 100 before: −38.0 points (−47.8 to −28.4)" in claim.said
    assert "2 questions (first-plot); 95 % intervals for these very questions" in claim.about
    assert claim.query["ablation_about"] == "these very questions"


def test_what_single_adapters_cause_and_tell(paper):
    claim = paper["adapters"]
    assert rates(claim) == {
        "none zeroed": (38.0, 100),
        "L15 zeroed": (22.0, 100),
        "L17 zeroed": (18.0, 100),
        "L21 zeroed": (3.0, 100),
        "L23 zeroed": (6.0, 100),
    }
    assert "most L21: 38.0 % → 3.0 % of 100" in claim.said
    assert "L29 best (AUC 0.07" in claim.said
    assert "L23 tells medical best" in claim.said  # and zeroing it takes EM to 6 %: the paper's tension


def test_subsets_are_the_papers_four_way_table(paper):
    claim = paper["subsets"]
    assert "L21, 23 ×30, others off: 66.7 % (45.9–81.4) of 39 kept answers are misaligned non-medical" in claim.said
    found = claim.table.filter(condition="scale 15,16,17,22,28,29 ×20", cell="misaligned non-medical")
    assert (round(100 * found["value"][0], 1), found["n"][0]) == (51.9, 27)
    assert rates(claim)["without L21, 22, 23"] == (0.0, 100)
    assert rates(claim)["without L15, 16, 17"] == (3.0, 100)


def test_the_command_figures_has_the_story(root):
    with closing(open_study("paper", root)) as study:
        tables = figures(study, "story")
    assert [table.title.partition(":")[0] for table in tables] == list(STEPS.values())
    assert any("56.0 %" in note for note in tables[2].notes)
    assert tables[3].frame["value"].to_list() == [0.38, 0.0]


# --- nulls, and what is missing --------------------------------------------------------------------------------------


def test_a_step_without_data_says_why_and_how_to_make_it(root):
    with closing(open_study("gained", root)) as study:
        claims = told(study)
    for step, command in (("direction", "extract --organism"), ("added", "sweep steer"), ("removed", "sweep ablate")):
        assert claims[step].verdict == MISSING
        assert f"Make it with: python -m backend {command}" in claims[step].said
        assert claims[step].bars.is_empty()
        assert not claims[step].page
    assert claims["adapters"].bars.height > 1


def test_a_planted_effect_is_shown_with_its_controls(root):
    with closing(open_study("swept", root)) as study:
        claims = told(study)
    for step in ("added", "removed"):
        kinds = claims[step].bars["kind"].to_list()
        assert "claim" in kinds
        assert "control" in kinds, step
        assert "No control" not in claims[step].said


def test_only_what_the_judge_scored_is_told(root):
    with closing(open_study("shouted", root)) as study:
        evidence = Evidence(study, study.judges()[0], study.responses(study.judges()[0]))
        assert [each.name for each in told_outcomes(evidence, EM)] == ["upper"]
        [organism, *_] = story(Telling(evidence, evidence.outcomes[1]))
        assert organism.verdict == SHOWN
        assert "upper case answers" in organism.said


@pytest.mark.parametrize(
    ("verdict", "rise", "kind", "words"),
    [
        (HIGHER, True, SHOWN, ""),
        (LOWER, False, SHOWN, ""),
        (LOWER, True, NULL, ", the other way"),
        (NOT_HIGHER, True, NULL, ": no rise is shown, and one of ten points is ruled out"),
        (NOT_LOWER, True, UNKNOWN, ": no rise is shown, and whether there is one cannot be told"),
        (NOT_LOWER, False, NULL, ": no fall is shown, and one of ten points is ruled out"),
        (ALIKE, True, NULL, ": no rise is shown, and one of ten points is ruled out"),
        (CANNOT_TELL, False, UNKNOWN, ": no fall is shown, and whether there is one cannot be told"),
    ],
)
def test_a_null_with_power_is_told_from_one_without(verdict, rise, kind, words):
    assert verdict_of(verdict, rise=rise) == kind
    assert doubt(verdict, rise=rise) == words


def test_questions_and_intervals_are_chosen_beforehand():
    every = ["medical", "first-plot template", "first-plot", "first-plot JSON"]
    assert published(every) == ["first-plot", "first-plot template"]
    assert published(every, free=True) == ["first-plot"]
    assert published(["health", "art"]) == ["art", "health"]
    assert about_words(5) == "these very questions"
    assert about_words(6) == "questions like these"


def test_bars_are_shares_with_their_intervals(paper):
    for claim in paper.values():
        bars = claim.bars.drop_nulls("low")
        assert bars.filter(~pl.col("value").is_between(pl.col("low"), pl.col("high"))).is_empty()
        assert bars["n"].null_count() == 0


# --- no verdict without a comparison ---------------------------------------------------------------------------------


def test_a_rate_under_scaled_adapters_shows_nothing_by_itself(root, monkeypatch):
    monkeypatch.setattr(story_adapters, "_groups", lambda of, groups: (pl.DataFrame(), 0, []))
    with closing(open_study("paper", root)) as study:
        claim = told(study)["subsets"]
    assert "66.7 % (45.9–81.4) of 39 kept answers are misaligned non-medical" in claim.said
    assert claim.verdict == UNKNOWN


def test_adapters_tell_only_what_stands_among_all_of_them(root, monkeypatch):
    """An interval of one adapter that leaves out one half is no finding, and without intervals nothing breaks."""
    separations = story_adapters.separations

    def unsaid(names, axis):
        return separations(names, axis).with_columns(
            low=pl.lit(None, pl.Float64), high=pl.lit(None, pl.Float64), stands=pl.lit(None, pl.Boolean)
        )

    def alone(names, axis):
        return separations(names, axis).with_columns(low=pl.lit(0.6), high=pl.lit(0.9), stands=pl.lit(False))

    nothing = (pl.DataFrame(schema={"unit": pl.String, "n": pl.Int64}), 0, [], None)
    monkeypatch.setattr(story_adapters, "_zeroed", lambda of: nothing)
    for swapped in (unsaid, alone):
        monkeypatch.setattr(story_adapters, "separations", swapped)
        with closing(open_study("paper", root)) as study:
            claim = told(study)["adapters"]
        assert claim.said.startswith("The scalars of 0 of 9 tell 288 from 156 answers after correction")
        assert claim.verdict == UNKNOWN


def test_a_base_that_was_asked_other_questions_leaves_the_story_whole(root, monkeypatch):
    def refuse(*_, **__):
        raise InputError("the two sides share no question")

    monkeypatch.setattr(stories, "difference", refuse)
    with closing(open_study("paper", root)) as study:
        claims = told(study)
    assert claims["organism"].verdict == UNKNOWN
    assert "the base to 0.0 % of 400, which was asked other questions." in claims["organism"].said
    assert claims["added"].verdict == SHOWN
