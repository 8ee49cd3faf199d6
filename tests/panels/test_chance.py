"""Where a mean lies by its controls is said where enough were drawn, and else that they were too few."""

from panels.chance import beside


def test_without_a_whole_range_nothing_is_inside_or_outside():
    for low, high in ((None, None), (float("nan"), float("nan")), (0.0, float("nan"))):
        assert beside(1.0, low, high, "what one more gives") == ", with too few controls to say what one more gives"
    assert beside(1.0, 0.0, 0.5, "x").startswith(", outside x")
    assert beside(0.2, 0.0, 0.5, "x").startswith(", within x")
