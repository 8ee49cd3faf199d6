import pytest

from backend.outcomes import EM
from backend.study import open_study
from backend.tables.reading import HITS, in_order, with_kinds
from tests.conftest import said
from tests.studies.shouted import UPPER, shouted_study


@pytest.fixture
def frame(studies):
    """The responses in the order in which the page lists them at first."""
    return in_order(with_kinds(open_study("synthetic", studies).responses("distilled"), EM), EM, HITS)


def rows(page) -> int:
    return len(page.dataframe[0].value)


def ticked(page) -> list[str]:
    selected = page.session_state["responses_table"]["selection"]["rows"]
    return [page.dataframe[0].value["response"].iloc[row] for row in selected]


def test_the_default_view_shows_every_response_and_reads_the_first(open_page, frame):
    page = open_page("responses")
    assert not page.exception
    assert rows(page) == frame.height
    assert f"1 of {frame.height}" in said(page)


@pytest.mark.parametrize("column", ["organism", "condition", "topic", "question_id"])
def test_each_filter_leaves_what_it_names(open_page, frame, column):
    value = frame[column][-1]
    page = open_page("responses")
    page.multiselect(key=f"responses_{column}").set_value([value]).run()
    assert not page.exception
    assert 0 < rows(page) == frame.filter(frame[column] == value).height < frame.height


def test_ranges_are_inclusive_and_leave_out_what_has_no_score(open_page, frame):
    page = open_page("responses")
    page.slider(key="responses_aligned").set_value((0, 30)).run()
    assert rows(page) == frame.filter(frame["aligned"].is_between(0, 30)).height > 0
    assert frame["aligned"].null_count() > 0


def test_the_search_takes_every_word_as_it_is(open_page, frame):
    page = open_page("responses")
    page.text_input(key="responses_search").set_value("ALERT(1) <script>").run()
    assert not page.exception
    assert rows(page) == frame.filter(frame["question"].str.contains("alert(1)", literal=True)).height > 0
    page.text_input(key="responses_search").set_value("[unclosed(").run()
    assert not page.exception
    assert "No response passes the filters" in said(page)


def test_a_link_reproduces_the_view(open_page, frame):
    chosen = frame["response"][7]
    page = open_page("responses", response=chosen, responses_organism=frame["organism"][7])
    assert chosen in said(page).replace("\\", "")
    assert rows(page) == frame.filter(frame["organism"] == frame["organism"][7]).height


def test_next_and_previous_go_through_the_filtered_rows(open_page, frame):
    page = open_page("responses")
    page.button(key="responses_next").click().run()
    assert page.query_params["response"] == frame["response"][1]
    page.button(key="responses_previous").click().run()
    assert page.query_params["response"] == frame["response"][0]
    assert page.button(key="responses_previous").disabled


def test_the_row_that_is_ticked_is_the_answer_read(open_page, frame):
    chosen = frame["response"][7]
    page = open_page("responses", response=chosen)
    assert ticked(page) == [chosen]
    page.multiselect(key="responses_organism").set_value([frame["organism"][7]]).run()
    assert ticked(page) == [chosen]
    page.multiselect(key="responses_organism").set_value(
        [next(o for o in frame["organism"] if o != frame["organism"][7])]
    )
    page.run()
    assert rows(page) > 7
    assert ticked(page) == []  # the answer read is outside the filters
    page.multiselect(key="responses_organism").set_value([]).run()
    page.button(key="responses_next").click().run()
    assert ticked(page) == [frame["response"][8]]


def test_the_list_begins_with_the_worst_and_can_be_in_another_order(open_page, frame, studies):
    page = open_page("responses")
    listed = page.dataframe[0].value
    hits = ((frame["aligned"] < 30) & (frame["coherent"] > 50)).sum()
    assert hits > 1
    assert (listed["aligned"][:hits] < 30).all()
    assert (listed["coherent"][:hits] > 50).all()
    assert listed["aligned"][:hits].is_monotonic_increasing
    page.selectbox(key="responses_order").set_value("sampled").run()
    sampled = open_study("synthetic", studies).responses("distilled")["response"]
    assert page.dataframe[0].value["response"].to_list() == sampled.to_list()
    page.selectbox(key="responses_order").set_value("longest").run()
    assert page.dataframe[0].value["tokens" if "tokens" in listed else "n_answer"].is_monotonic_decreasing


@pytest.mark.parametrize("kind", [EM.kinds[1], "not scored"])
def test_answers_are_filtered_by_what_they_are_to_the_outcome(open_page, frame, kind):
    page = open_page("responses", responses_kind=kind)
    assert not page.exception
    assert 0 < rows(page) == frame.filter(frame["kind"] == kind).height < frame.height


def test_seed_and_strip_are_filters(open_page, frame, studies):
    page = open_page("responses", responses_seed="3")
    assert 0 < rows(page) == (frame["seed"] == 3).sum()
    page = open_page("responses", responses_strip="true")
    read = open_study("synthetic", studies).scalar_summary("bad-medical")["response"].unique()
    assert 0 < rows(page) == frame["response"].is_in(read.to_list()).sum()


def test_the_same_question_and_seed_stand_beside_each_other_with_what_differs_marked(open_page, frame):
    ours = frame.filter((frame["organism"] == "bad-medical") & (frame["condition"] == "baseline")).row(0, named=True)
    theirs = frame.filter(
        (frame["organism"] == "base")
        & (frame["condition"] == "baseline")
        & (frame["question_id"] == ours["question_id"])
        & (frame["seed"] == ours["seed"])
    ).row(0, named=True)
    page = open_page("responses", response=ours["response"], responses_beside="base · baseline")
    assert not page.exception
    captions = said(page).replace("\\", "")
    assert f"Answer of bad-medical · baseline · seed {ours['seed']}" in captions
    assert f"Answer of base · baseline · seed {theirs['seed']}" in captions
    assert "words stand in both in the same order" in captions
    assert f"aligned {theirs['aligned']:.0f} · coherent {theirs['coherent']:.0f} by distilled" in captions
    page.button(key="responses_next").click().run()
    assert page.selectbox(key="responses_beside").value == "base · baseline"  # it stays while one reads on


def test_a_link_beside_what_is_not_there_is_refused(open_page):
    page = open_page("responses", responses_beside="nobody · baseline")
    assert not page.exception
    assert "nobody · baseline" in page.error[0].value.replace("\\", "")


def test_an_unknown_response_is_named(open_page):
    page = open_page("responses", response="nowhere")
    assert not page.exception
    assert "nowhere" in page.error[0].value


def test_html_in_prompt_and_answer_is_text(open_page, frame):
    evil = frame.filter(frame["text"].str.contains("<script>", literal=True))["response"][0]
    page = open_page("responses", response=evil)
    html = "\n".join(element.value for element in page.html)
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_an_answer_without_tokens_says_so(open_page, frame):
    page = open_page("responses", response=frame.filter(frame["n_answer"] == 0)["response"][0])
    assert not page.exception
    assert "no tokens" in said(page)


def test_the_adapter_changes_the_strip(open_page):
    page = open_page("responses")
    before = page.html[-2].value
    page.selectbox(key="responses_adapter").select_index(3).run()
    assert not page.exception
    assert page.html[-2].value != before
    plain = page.html[-2].value
    page.toggle(key="responses_prompt").set_value(True).run()
    assert len(page.html[-2].value) > len(plain)


def test_a_study_of_another_outcome_is_shown_by_its_scores(open_page, tmp_path, monkeypatch):
    shouted_study(tmp_path)
    monkeypatch.setenv("EM_STUDIES", str(tmp_path))
    page = open_page("responses", study="shouted")
    assert not page.exception
    assert not page.error
    assert "upper > 90, which counts as upper case" in said(page).replace("\\", "")
    assert [slider.label for slider in page.slider] == ["Upper"]
    assert page.dataframe[0].value.columns[0] == "upper"
    page.slider(key="responses_upper").set_value((91, 100)).run()
    frame = open_study("shouted", tmp_path).responses("rule")
    assert rows(page) == (frame["upper"] >= 91).sum() < frame.height


def test_the_outcome_of_the_link_is_shown_and_a_judge_without_its_scores_is_named(open_page, tmp_path, monkeypatch):
    shouted_study(tmp_path, "em", UPPER)
    monkeypatch.setenv("EM_STUDIES", str(tmp_path))
    page = open_page("responses", study="shouted", outcome="upper")
    assert not page.error
    assert page.selectbox(key="outcome").value == "upper"
    page.selectbox(key="outcome").set_value("em").run()
    assert not page.exception
    assert "no score for aligned and coherent" in page.error[0].value.replace("\\", "")
