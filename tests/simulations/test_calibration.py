"""Maps from 50 labels give what they must where the answer is known, and the floors are those of arithmetic."""

import numpy as np
import polars as pl
import pytest
from sklearn.isotonic import IsotonicRegression

from tests.simulations.calibration import (
    MAPS,
    Labelled,
    by_area,
    calibrated,
    nearest,
    of_others_moved,
    shifted,
    straight_by_question,
)

EVERYWHERE = np.arange(0.0, 101.0)


def given(x, y, asked=None):
    """Labels of a writer, where all others' scores are right."""
    prior = IsotonicRegression(out_of_bounds="clip").fit(EVERYWHERE, EVERYWHERE)
    where = np.zeros(len(x), dtype=np.int64) if asked is None else asked
    return Labelled(x, y, prior, 100.0, (EVERYWHERE, EVERYWHERE, np.ones(101)), (where, where))


@pytest.mark.parametrize("name", MAPS)
def test_a_judge_that_is_right_is_left_as_it_is(name):
    x = np.linspace(5, 95, 50)
    assert MAPS[name](given(x, x), x) == pytest.approx(x, abs=0.6)


def test_a_constant_error_is_taken_out_and_as_far_as_writers_differ():
    x = np.tile([20.0, 40, 60], 20)
    noise = np.resize([-10.0, 10], 60)
    labels = given(x, x + 12 + noise)
    assert shifted(labels, np.array([50.0]))[0] == pytest.approx(62)
    believed = 100 / (100 + noise.var(ddof=1) / 60)
    assert of_others_moved(labels, np.array([50.0]))[0] == pytest.approx(50 + 12 * believed)


def test_what_a_question_is_off_by_is_drawn_to_nothing_by_four_labels():
    x = np.full(20, 50.0)
    asked = np.repeat([0, 1], 10)
    found = straight_by_question(given(x, x + np.where(asked == 0, 14.0, -14), asked), x)
    assert found == pytest.approx(np.where(asked == 0, 60, 40))  # 14 · 10 / (10 + 4)


def test_the_nearest_are_those_of_like_score():
    x = np.random.default_rng(0).permutation(200).astype(float)
    found = nearest(x)
    assert (np.abs(x[found] - x[:, None]).max(1) <= 24).all()
    middle = (x > 20) & (x < 180)
    assert x[found][middle].mean(1) == pytest.approx(x[middle])


def test_fifty_labels_alone_leave_what_sampling_does():
    rows = [line.strip("| ").split(" | ") for line in str(by_area(50)).splitlines() if line.startswith("| 0")]
    none, best = rows[0], rows[-1]
    alone = 100 * (0.2 * 0.8 / 50 * (1 - 50 / 400)) ** 0.5
    assert none[1] == "100 %"
    assert float(none[2]) == pytest.approx(alone * (2 / np.pi) ** 0.5, abs=0.05)
    assert int(none[4]) == 219  # 0.16 / ((3 / 1.645) ** 2 / 100 ** 2 + 0.16 / 400), rounded up
    assert float(best[2]) < float(none[2]) / 4


def test_the_right_map_is_better_than_any_and_its_level_from_the_labels_is_between():
    rng = np.random.default_rng(3)

    def part(name, gap):
        truth = rng.uniform(0, 100, 300)
        judge = np.clip(truth / 2 + 25 + gap + rng.normal(0, 15, 300), 0, 100)
        columns = {"aligned": truth, "judge_aligned": judge, "question": np.resize([0, 1, 2], 300)}
        return pl.DataFrame(columns).with_columns(condition=pl.lit(name), writer=pl.lit(name), unseen=True)

    parts = {name: part(name, gap) for name, gap in (("a", 0), ("b", 20))}
    rows = pl.DataFrame(
        list(calibrated(parts, "b", "aligned", 50, 20)), ["c", "u", "map", "error", "level"], orient="row"
    )
    error = dict(rows.group_by("map").agg(pl.col("error").mean()).iter_rows())
    right, level = error.pop("the right map"), error.pop("its level from these labels")
    assert right < level < min(error.values())
    assert error["a straight line"] < error["none: as the judge says"]
