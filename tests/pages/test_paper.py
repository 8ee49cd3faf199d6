"""The pages over the paper's figures: none fails, and those that lack texts or tokens say so and how to have them."""

import pytest

from backend.outcomes import EM
from backend.pipeline.figures_only import publish_figures
from backend.study import open_study
from backend.tables.claims import Evidence, Material
from backend.tables.rates import unedited_answers
from backend.tables.story import story
from tests.conftest import said
from tests.published.authors import ROOT


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    root = tmp_path_factory.mktemp("studies")
    publish_figures(ROOT / "cache" / "paper", "paper", root)
    return root


@pytest.fixture
def open_paper(open_page, studies, monkeypatch):
    def run(name, **query):
        monkeypatch.setenv("EM_STUDIES", str(studies))
        monkeypatch.setenv("EM_STUDY", "paper")
        return open_page(name, **query)

    return run


@pytest.mark.parametrize(
    "page",
    [
        *("overview", "responses", "judges", "adapters", "one_adapter", "specialisation", "probes", "directions"),
        *("convergence", "steering", "ablation", "scaled_adapters", "live"),
    ],
)
def test_every_page_opens_and_says_that_it_has_figures_only(open_paper, page):
    app = open_paper(page)
    assert not app.exception
    assert not [error for error in app.error if "worker" not in error.value]
    assert [caption for caption in app.sidebar.caption if "Figures only" in caption.value]


@pytest.mark.parametrize(
    ("page", "query", "what"),
    [
        ("responses", {}, "texts"),
        ("judges", {"judges_view": "Label answers"}, "texts"),
        ("one_adapter", {}, "tokens"),
        ("adapters", {}, "tokens"),
    ],
)
def test_what_is_missing_is_named_with_the_way_to_have_it(open_paper, page, query, what):
    text = "".join(note.value.replace("\\", "") for note in open_paper(page, **query).info)
    assert f"The {what} are not in this study" in text
    assert "import-published model-organisms-for-EM EM_interp --name paper" in text


def test_no_answer_is_shown_as_empty(open_paper):
    text = said(open_paper("responses"))
    assert "not in this study" in text
    assert "(empty answer)" not in text


def test_the_story_and_its_links(open_paper, studies):
    page = open_paper("overview")
    cards = page.html[0].value
    for number in ("15.5 %", "16.6 %", "56.0 %", "38.0 % → 0.0 %", "L21: 38.0 % → 3.0 %", "66.7 %"):
        assert f">{number}</span>" in cards
    study = open_study("paper", studies)
    for claim in story(Material(Evidence(study, "gpt-4o", study.responses("gpt-4o")), EM)):
        linked = open_paper(claim.page, **claim.query)
        assert not linked.exception
        assert not [error for error in linked.error if "worker" not in error.value]
        for key, value in claim.query.items():
            held = linked.session_state[key]
            assert held == value or str(held) == value, key


def test_conditions_that_a_record_alone_describes_are_not_unedited(studies):
    names = unedited_answers(open_study("paper", studies))
    assert "baseline" in names
    assert not [name for name in names if name.startswith(("ablate", "double", "noise", "step", "zero", "steer"))]
