import json

import numpy as np
import polars as pl
import pytest

from backend.edits import Add, Condition
from backend.pipeline.import_published import import_published
from backend.published.traces import PROBING_SET
from backend.records import BASE, BASELINE, Direction, InputError, Question, Response, Score
from backend.study import Draft, open_study
from backend.tables.figures import FORMER, PAGES, Choices, figures
from tests.published.sample import write_release
from tests.studies import synthetic
from tests.studies.shouted import shouted_study

QUICK = Choices(repeats=2, shuffles=1, bootstraps=2)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    release = write_release(tmp_path_factory.mktemp("release"))
    return open_study("published", import_published([release], root=tmp_path_factory.mktemp("studies")).path.parents[1])


@pytest.fixture(scope="module")
def steered(tmp_path_factory):
    """A study of another kind: conditions with edits and nothing said of them, and no scalars at all."""
    root = tmp_path_factory.mktemp("steered")
    direction = Direction("v", 2, np.ones(4, dtype=np.float32), activation_norm=8.0)
    conditions = [Condition(BASELINE), *(Condition(f"v x{s}", (Add(direction, float(s)),)) for s in (2, 4))]
    questions = [Question(f"q{i}", f"question {i}?", "first-plot") for i in range(3)]
    with Draft("steered", root) as draft:
        draft.add_organism(BASE, base="tiny", adapters=[], record={})
        draft.add_questions(questions)
        draft.add_conditions(conditions)
        for condition in conditions:
            for question in questions:
                name = f"{condition.name}/{question.id}"
                draft.add_responses(
                    [Response(name, BASE, condition.name, question.id, question.text, "first-plot", 0, "text")]
                )
                draft.add_scores([Score(name, "j", "aligned", 10.0 if condition.edits else 90.0)])
                draft.add_scores([Score(name, "j", "coherent", None if question.id == "q2" else 90.0)])
        draft.add_directions([direction])
        draft.publish()
    return open_study("steered", root)


def test_every_page_of_a_release(study):
    tables = figures(study, None, QUICK)
    assert list(dict.fromkeys(table.page for table in tables)) == list(PAGES)
    empty = {table.page for table in tables if table.frame.is_empty()}
    assert empty == {"judges", "story", "downstream"}  # one judge, a story that misses a step, nothing followed
    json.dumps([table.to_json() for table in tables], allow_nan=False)


def test_rates_leave_out_what_was_chosen_by_its_scores(study):
    rates = [table for table in figures(study, "overview", QUICK) if "condition" in table.frame.columns]
    assert len(rates) == 4
    for table in rates:
        assert PROBING_SET not in table.frame["condition"]
        assert "chosen by their scores" in table.notes[0]


def test_sweeps_are_read_from_edits_where_nothing_is_said(steered):
    table = figures(steered, "steering")[0].frame.filter(pl.col("metric") == "em")
    columns = ["series", "layers", "strength", "relative", "value", "n", "dropped", "difference"]
    assert table.select(columns).rows() == [
        (None, None, None, None, 0.0, 2, 1, None),
        ("v", "2", 2.0, 0.5, 1.0, 2, 1, 1.0),
        ("v", "2", 4.0, 1.0, 1.0, 2, 1, 1.0),
    ]


@pytest.mark.parametrize("former", FORMER)
def test_a_former_name_gives_the_pages_that_took_its_tables(steered, former):
    assert list(dict.fromkeys(table.page for table in figures(steered, former))) == list(FORMER[former])


def test_what_a_study_lacks_is_said(steered):
    said = [table.title for table in figures(steered) if table.frame.is_empty()]
    assert [title.partition(": this study has no ")[0] for title in said] == [
        "training",
        "judges",
        "adapters",
        "specialisation",
        "probes",
        "convergence",
        "downstream",
        "ablation",
        "scaled_adapters",
    ]
    assert "probes: this study has no scalars per token" in said


def test_planted_structure_is_found(tmp_path):
    synthetic.synthetic_study(tmp_path)
    tables = figures(open_study("synthetic", tmp_path), None, QUICK)
    probes = next(table.frame for table in tables if table.title.startswith("Probes"))
    by_question = dict(probes.filter(pl.col("protocol") == "by question").select("contrast", "auc").iter_rows())
    assert by_question["misalignment"] > 0.9
    assert by_question["medical question"] > 0.9
    assert any(table.title.startswith("scaled_adapters: this study has no") for table in tables)
    ablated = next(t.frame for t in tables if t.title.startswith("Before and after")).row(0, named=True)
    assert (ablated["organism"], ablated["cell"], ablated["metric"]) == (synthetic.ORGANISM, "ablated", "em")
    assert ablated["difference"] < 0


def test_an_empty_study_has_figures_too(tmp_path):
    with Draft("empty", tmp_path) as draft:
        draft.publish()
    tables = figures(open_study("empty", tmp_path))
    assert list(dict.fromkeys(table.page for table in tables)) == list(PAGES)


def test_an_unknown_page_is_refused(study):
    with pytest.raises(InputError, match="choose story"):
        figures(study, "nothing")


def test_a_study_of_another_outcome_has_the_same_figures_of_it_and_none_of_em(tmp_path):
    shouted_study(tmp_path)
    tables = figures(open_study("shouted", root=tmp_path), choices=QUICK)
    told = [table for table in tables if "metric" in table.frame.columns]
    assert {table.page for table in told} == {"overview", "training", "judges", "steering", "ablation"}
    assert {metric for table in told for metric in table.frame["metric"]} == {"upper"}
    assert "upper case by organism, condition (judge rule)" in [table.title for table in tables]
    [changed] = [
        table
        for table in tables
        if table.title.startswith("Before and after ablation, intervals for questions") and "judge rule)" in table.title
    ]
    assert changed.frame["after"].max() < changed.frame["before"].min()  # as planted: ablation silences
