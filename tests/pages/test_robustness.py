"""The Robustness page over the synthetic study."""

from tests.conftest import OpenPage, said


def test_the_page_says_what_the_rate_is_and_how_far_it_moves(open_page: OpenPage) -> None:
    page = open_page("robustness", robust_with="no comparison")
    assert not page.exception
    assert "over the 51 pairs of cuts drawn" in said(page)
    assert "questions are" in said(page)
    assert {"judge", "value", "low", "high", "n", "questions"} == set(page.dataframe[0].value.columns)


def test_a_comparison_says_whether_it_turns(open_page: OpenPage) -> None:
    page = open_page("robustness")
    assert not page.exception
    assert "points" in said(page)
    assert "less that of base" in said(page)
    words = said(page)
    assert ("It is so at all 51 pairs of cuts drawn" in words) != ("This conclusion turns within the range" in words)
