from backend.edits import Gain
from panels.gains import gains_at


def test_adapters_of_one_level_share_an_edit_and_level_one_needs_none():
    worn = gains_at("o", {"a": 0.0, "b": 1.0, "c": 30.0, "d": 0.0})
    assert worn == (Gain("o", 1.0), Gain("o", 0.0, ("a", "d")), Gain("o", 30.0, ("c",)))
    assert gains_at("o", {"a": 1.0}) == gains_at("o", {}) == (Gain("o", 1.0),)
