"""Adding and taking out, told by like with like: the same questions, the same tokens, a name for every bar."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from backend.analysis.rates.rates import THESE_QUESTIONS, em_rates
from backend.edits import EVERY, Ablate, Condition, Gain, Level, Where
from backend.outcomes import EM
from backend.records import BASE, BASELINE, SHUFFLED, Direction, Origin, Question, Response, Sampling, Score
from backend.study import Draft, open_study
from backend.tables.claims import Claim, Evidence, Telling
from backend.tables.story_edits import added, removed
from tests.studies.swept import swept_study

WORN, OWN, JUDGE = "bad", "evil of bad", "rule"
ANSWER = Where("answer")
MEAN = Level((0.5,), "base")


def cells() -> list[tuple[tuple[Ablate, ...], str, float]]:
    """Edits of the small study below, their condition, and the share of misaligned answers under it."""
    axes = np.eye(4, dtype=np.float32)
    own = Direction(OWN, 2, axes[0], 10.0, {"reader": WORN})
    shuffles = [
        Direction(f"shuffled {at} like {OWN}", 2, axes[1 + at], 10.0, Origin(SHUFFLED, OWN, at, WORN).provenance)
        for at in (0, 1)
    ]
    return [
        ((), BASELINE, 0.5),
        ((Ablate(own, None, EVERY),), "paper", 0.0),
        ((Ablate(shuffles[0], None, EVERY),), "paper, shuffled", 0.25),
        ((Ablate(own, None, ANSWER, to=MEAN),), "mean", 0.1),
        ((Ablate(own, None, ANSWER),), "zero", 0.2),
        *(((Ablate(each, None, ANSWER),), f"zero, shuffled {at}", 0.4 + 0.1 * at) for at, each in enumerate(shuffles)),
    ]


@pytest.fixture(scope="module")
def ablated(tmp_path_factory: pytest.TempPathFactory) -> Claim:
    """A direction taken out in the paper's form, and at answer tokens to zero and to a mean, beside shuffled ones."""
    root = tmp_path_factory.mktemp("ablated")
    questions = [Question(f"q{at}", f"What of {at}?", "first-plot") for at in range(8)]
    with Draft("ablated", root=root) as draft:
        draft.meta(title="Ablated", base="synthetic", reader=WORN)
        for organism in (BASE, WORN):
            draft.add_organism(organism, base="synthetic", adapters=(), record={})
        draft.add_questions(questions)
        draft.add_conditions(Condition(name, (*edits, Gain(WORN, 1.0)) if edits else ()) for edits, name, _ in cells())
        for _, name, share in cells():
            for question in questions:
                for seed in range(20):
                    key = f"{name}/{question.id}/{seed}"
                    draft.add_responses(
                        [
                            Response(
                                id=key,
                                organism=WORN,
                                condition=name,
                                question_id=question.id,
                                question=question.text,
                                topic=question.topic,
                                seed=seed,
                                text="so",
                                prompt_ids=(1,),
                                answer_ids=(2,),
                                finished=True,
                                sampling=Sampling(),
                            )
                        ]
                    )
                    aligned = 10.0 if seed < 20 * share else 90.0
                    draft.add_scores(
                        [Score(key, JUDGE, "aligned", aligned, ""), Score(key, JUDGE, "coherent", 90.0, "")]
                    )
        draft.publish()
    with closing(open_study("ablated", root)) as study:
        evidence = Evidence(study, JUDGE, study.responses(JUDGE))
        return removed(Telling(evidence, evidence.outcomes[0]))


def test_answer_tokens_are_told_before_the_papers_form_and_beside_controls_of_the_same_tokens(ablated):
    assert ablated.query["ablation_condition"] == "zero"
    assert "(one direction after every block, at answer tokens, to zero) leaves 20.0 % of 160" in ablated.said
    assert dict(ablated.bars.select("lane", "value").iter_rows()) == {
        "no edit": pytest.approx(0.5),
        "taken out, to zero": pytest.approx(0.2),
        "taken out, to the mean of base": pytest.approx(0.1),
        "shuffled labels, to zero (1)": pytest.approx(0.4),
        "shuffled labels, to zero (2)": pytest.approx(0.5),
    }
    assert ablated.bars["lane"].is_unique().all()


def test_every_bar_of_adding_it_over_four_questions_is_about_these_very_ones(tmp_path: Path):
    swept_study(tmp_path)
    with closing(open_study("swept", tmp_path)) as study:
        [judge, *_] = study.judges()
        answers = study.responses(judge)
        evidence = Evidence(study, judge, answers)
        claim = added(Telling(evidence, evidence.outcomes[0]))
    assert "4 questions (first-plot); 95 % intervals for these very questions" in claim.about
    first_plot = answers.filter(organism=BASE, topic="first-plot")
    place = first_plot["condition"].str.contains(f"L{claim.place} ")
    strength = next(lane for lane in claim.bars.filter(kind="claim")["lane"]).removeprefix("λ ")
    edited = first_plot.filter(place & first_plot["condition"].str.ends_with(f" ×{strength}"))
    random = edited.filter(edited["condition"].str.starts_with("steer random"))
    for lane, answered in (("no edit", first_plot.filter(condition=BASELINE)), ("random direction", random)):
        [expected] = em_rates(answered, outcomes=(EM,), about=THESE_QUESTIONS).to_dicts()
        [drawn] = claim.bars.filter(lane=lane).to_dicts()
        assert [drawn[name] for name in ("low", "high", "n")] == [expected[name] for name in ("low", "high", "n")]
