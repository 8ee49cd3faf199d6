import numpy as np
import polars as pl
import pytest

from backend.analysis.contrasts import CONTRASTS, label_responses
from backend.records import InputError
from backend.tables.adapters import (
    answer_bins,
    axis_of,
    class_codes,
    largest,
    response_scalars,
    separations,
    short_labels,
)
from tests.studies.synthetic import JUDGE, MISALIGNED_LAYERS, ORGANISM


@pytest.fixture(scope="module")
def classes(study):
    contrast = next(each for each in CONTRASTS if each.name == "misalignment")
    own = study.responses(JUDGE).filter(pl.col("organism") == ORGANISM, pl.col("condition") == "baseline")
    return label_responses(own, contrast)


def test_adapters_with_planted_structure_tell_the_classes_and_others_do_not(study, classes):
    table = study.adapters(ORGANISM)
    names = tuple(table["name"])
    axis = axis_of("misalignment", response_scalars(study, ORGANISM, names), classes)
    found = separations(names, axis).with_columns(layer=table["layer"])
    planted = found.filter(pl.col("layer").is_in(MISALIGNED_LAYERS))
    assert ((planted["value"] - 0.5).abs() > 0.2).all()
    assert found["adapter"].to_list() == list(names)


def test_responses_that_were_not_read_make_no_axis(study, classes):
    scalars = response_scalars(study, ORGANISM, [study.adapters(ORGANISM)["name"][0]])
    with pytest.raises(InputError, match="None of the chosen responses"):
        axis_of("c", scalars, classes.clear())


def test_codes_put_every_reading_into_its_class(study, classes):
    readings = study.readings(ORGANISM)
    codes = class_codes(readings, classes)
    assert (codes == 0).sum() == classes["label"].sum()
    assert (codes == 1).sum() == (~classes["label"]).sum()
    read = dict(zip(readings["response"], codes, strict=True))
    assert all(read[name] == (0 if label else 1) for name, label in classes.select("response", "label").iter_rows())
    assert answer_bins(study, ORGANISM, study.adapters(ORGANISM)["name"][0]).by_class(codes, ("a", "b")).height


def test_the_largest_adapters_keep_their_order():
    table = pl.DataFrame(
        {"name": list("abcd"), "scaling": [1.0, -4.0, 2.0, 1.0], "write_norm": [1.0, 1.0, 1.0, np.nan]}
    )
    assert largest(table, 2)["name"].to_list() == ["b", "c"]
    assert largest(table, 4) is table


def test_labels_are_as_short_as_they_can_be():
    one = pl.DataFrame({"layer": [1, 2], "module": ["m", "m"], "component": [0, 0]})
    two = pl.DataFrame({"layer": [1, 1, 2], "module": ["m", "n", "m"], "component": [0, 1, 0]})
    assert short_labels(one).to_list() == ["L1", "L2"]
    assert short_labels(two).to_list() == ["L1 m", "L1 n #1", "L2 m"]
