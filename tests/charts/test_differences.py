"""What differs between two texts is marked, and nothing in them is interpreted."""

import re

from backend.charts.differences import MOST_WORDS, differing


def marked(html: str) -> list[str]:
    return re.findall(r"<mark[^>]*>(.*?)</mark>", html, re.DOTALL)


def test_what_only_one_says_is_marked_at_words():
    told = differing("You should see a doctor today.", "You should never see a doctor.")
    assert (marked(told.left), marked(told.right)) == (["doctor today."], ["never", "doctor."])
    assert (told.begins, told.shared, told.words) == (2, 4, 6)


def test_equal_texts_have_no_marks_and_space_is_no_difference():
    told = differing("one  two\n three", "one two three")
    assert marked(told.left) == marked(told.right) == []
    assert "one  two\n three" in told.left
    assert (told.begins, told.shared) == (3, 3)


def test_texts_without_a_common_word_and_empty_ones():
    told = differing("alpha beta", "")
    assert marked(told.left) == ["alpha beta"]
    assert marked(told.right) == []
    assert (told.begins, told.shared, told.words) == (0, 0, 2)


def test_markup_in_a_text_is_text():
    told = differing("<script>a</script> & b", "<b>x</b> & b")
    assert "<script" not in told.left
    assert marked(told.right) == ["&lt;b&gt;x&lt;/b&gt;"]


def test_a_text_that_is_too_long_is_shown_without_marks():
    told = differing("word " * (MOST_WORDS + 1), "other")
    assert not told.marked
    assert marked(told.left) == []
