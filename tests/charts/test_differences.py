"""What differs between two texts is marked, and nothing in them is interpreted."""

import re
import time

import pytest

from backend.charts.differences import differing


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


@pytest.mark.parametrize(("one", "other"), [("a b " * 250, "a c " * 250), ("word " * 2000, "word " * 1999 + "end")])
def test_texts_that_repeat_themselves_take_no_time(one, other):
    """Pairs of equal words decide how long the search takes: 500 words of a loop took seconds."""
    started = time.process_time()
    told = differing(one, other)
    assert time.process_time() - started < 2
    assert not told.marked
    assert marked(told.left) == []


def test_long_texts_of_different_words_are_compared():
    one = [f"w{i}" for i in range(3000)]
    told = differing(" ".join(one), " ".join([*one[:1500], "new", *one[1500:]]))
    assert (marked(told.left), marked(told.right)) == ([], ["new"])
    assert told.shared == 3000
