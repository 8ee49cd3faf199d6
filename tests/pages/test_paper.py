"""The pages over the paper's figures: none fails, and those that lack texts or tokens say so and how to have them."""

import pytest

from backend.outcomes import EM
from backend.pipeline.figures_only import publish_figures
from backend.study import open_study
from backend.tables.claims import Evidence, Telling
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
        *(
            "overview",
            "responses",
            "judges",
            "training",
            "adapters",
            "one_adapter",
            "specialisation",
            "probes",
            "directions",
        ),
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
    assert (
        "n = 678 answers to 16 questions (first-plot, first-plot template); 95 % intervals for questions like" in cards
    )
    assert cards.count("these very questions; judge gpt-4o") == 3  # two questions cannot speak for others
    study = open_study("paper", studies)
    for claim in story(Telling(Evidence(study, "gpt-4o", study.responses("gpt-4o")), EM)):
        linked = open_paper(claim.page, **claim.query)
        assert not linked.exception
        assert not [error for error in linked.error if "worker" not in error.value]
        for key, value in claim.query.items():
            held = linked.session_state[key]
            assert held == value or str(held) == value, key


def test_the_nine_adapters_zeroed_beside_what_their_scalars_tell(open_paper):
    text = said(open_paper("adapters")).replace("\\", "")
    assert "Unedited, R1_3_3_3 has 38.0 % (29.1–47.8, n = 100) EM. Without **L21** it has **3.0 % (" in text
    assert "so do L23, L17, L15." in text
    assert "2 questions, so intervals are for these very questions alone" in text
    assert "L23, the next, may tell medical, among misaligned, AUC 0.81 (" in text
    assert "clear alone, not among all 36 adapters and contrasts" in text


def test_of_48_adapters_zeroed_alone_one_stands(open_paper):
    text = said(open_paper("adapters", zeroing_organism="bad_med_R1_downproj")).replace("\\", "")
    assert "has 40.0 % (31.4–49.2, n = 100) EM. Without **L21** it has **12.0 % (" in text
    assert "among the 48 that were zeroed one at a time; no other does." in text
    assert "What the scalars of bad_med_R1_downproj tell is not known" in text


def test_noise_and_that_patched_scalars_are_not_among_the_figures(open_paper):
    text = said(open_paper("scaled_adapters")).replace("\\", "")
    assert "R1_3_3_3 has 35.0 % (" in text
    assert "noise on **A** half of it or less from ε = 0.4 on (15.5 % (" in text
    assert "none from ε = 0.8 on (0.0 % (" in text
    assert "Study paper has no answers under patched scalars. The authors' repositories may have more" in text


@pytest.mark.parametrize("page", ["steering", "ablation"])
def test_a_sweep_names_the_questions_that_it_starts_on(open_paper, page):
    app = open_paper(page)
    assert app.multiselect(key=f"{page}_topics").value[0] == "first-plot"
    assert "the questions that the sweep was published for" in said(app).replace("\\", "")


def test_stored_directions_are_shown_though_no_residual_stream_is(open_paper):
    app = open_paper("directions", directions_layer="24")
    text = said(app).replace("\\", "")
    assert "At layer 24 **R1_3_3_3 general data-diff** has norm **10.36**, **16.6%** of the activation norm" in text
    assert "most like it is R1_3_3_3 general chat-read data-diff, cosine **0.98**" in text
    assert "no intervals and no AUC" in text
    assert "Those of the paper's organisms are not released." in text
    assert len(app.get("vega_lite_chart")) == 4  # norm, share, cosines over layers, cosines at the layer


def test_the_sign_that_takes_a_direction_out_is_told_for_each_sweep(open_paper):
    text = said(open_paper("ablation")).replace("\\", "")
    assert "in ablate_all_sweep a scale of +1 has it **taken out** (EM 0.0 %, coherence 97.0 % to 100.0 %)" in text
    assert "in proj_sweep_test a scale of -1 has it **taken out** (EM 0.0 %, coherence 100.0 %)" in text
    assert "in proj_sweep_test a scale of +1 has it **doubled** (EM 0.0 %, coherence 0.0 %)" in text
    assert "95 % intervals for these very questions" in text  # two questions are no sample


def test_conditions_that_a_record_alone_describes_are_not_unedited(studies):
    names = unedited_answers(open_study("paper", studies))
    assert "baseline" in names
    assert not [name for name in names if name.startswith(("ablate", "double", "noise", "step", "zero", "steer"))]
