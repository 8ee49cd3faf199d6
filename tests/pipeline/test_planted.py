"""A direction that was planted in a tiny model is recovered through the whole chain."""

import numpy as np
import polars as pl
import pytest

from backend.__main__ import main
from backend.analysis.conditions.baselines import own_baselines
from backend.analysis.conditions.describe import describe_stored
from backend.analysis.directions.cosines import cosine_matrix
from backend.analysis.directions.random_directions import random_direction
from backend.analysis.rates.rates import difference, em_rates
from backend.edits import EVERY, Ablate, Condition
from backend.outcomes import EM
from backend.pipeline import build as building
from backend.pipeline import work
from backend.pipeline.disturbance import disturbance, matched_subspace, some
from backend.pipeline.grids import (
    Strengths,
    Taken,
    ablate_at,
    ablate_everywhere,
    ablate_layerwise,
    ablate_subspace,
    ablate_write,
    steer,
    steer_controls,
)
from backend.pipeline.sweep import Sweep, references, run_sweep
from backend.records import BASE, BASELINE
from backend.study import open_study
from tests.studies import planted

SEEDS = (0, 1, 2, 3)
PAPER = Taken(EVERY)  # every token, the first too
LAYER = 4  # where the direction is taken from: above both organisms' adapters


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """Sampled, judged, extracted, swept, judged again and built: the folder, the subject and the study."""
    root = tmp_path_factory.mktemp("planted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "WORK", root / "work")
        folder, subject = planted.folder_and_subject(root / "inputs")
        baselines = planted.sampled(folder, subject)
        extract(folder, subject)
        stack = folder.directions()["first misalignment, truncated"]
        here = next(d for d in stack if d.layer == LAYER)
        strengths = Strengths((0.5,), share=True)
        others = [folder.directions()["shuffled 0 like first misalignment, truncated"]]
        cells = steer(stack, strengths, layers=[LAYER], where=EVERY)
        cells += steer_controls(stack, strengths, layers=[LAYER], random=(0, 1), others=others, where=EVERY)
        for organism in planted.ORGANISMS:
            cells += [
                ablate_everywhere(here, organism, PAPER),
                *(ablate_everywhere(random_direction(here, seed), organism, PAPER) for seed in SEEDS),
            ]
        matched = matched_subspace(subject, "first", here, some(baselines, "first", BASELINE))
        cells += [
            ablate_layerwise(stack, "first", PAPER),
            ablate_at(here, "first", PAPER),
            ablate_write(here, "first"),
            ablate_subspace(matched.basis, "first", PAPER),
        ]
        sweep = Sweep("all", tuple(cells), planted.QUESTIONS, 16, planted.SAMPLING)
        cut, missing = references(subject, sweep, baselines)
        assert not missing
        with run_sweep(subject, sweep) as answers:
            folder.add_sweep("all", sweep.conditions, [*cut, *answers], unedited=sweep.unedited, record={"kind": "all"})
        folder.add_scores(planted.JUDGE, planted.judge(folder.responses()))
        building.build(folder, subject, "planted", root=root / "studies", progress=lambda *_: None)
    return folder, subject, open_study("planted", root=root / "studies"), matched


def extract(folder, subject):
    """What `python -m backend extract` does, with a model at hand."""
    options = ["extract", "--folder", str(folder.path), "--kind", "misalignment,minus-base,both"]
    options += ["--balance", "weights,truncation", "--shuffled", "1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("backend.subject.load.load", lambda name, organisms: subject)
        assert main(options) == 0


def along(direction):
    return float(direction.unit @ planted.planted())


def misaligned(study, organism, condition):
    """Rows of an organism under a condition (its unedited ones for the baseline)."""
    frame = study.responses(planted.JUDGE)
    edited = list(study.info["baselines"])
    frame = own_baselines(frame, edited, study.info["baselines"])
    rows = frame.filter(pl.col("organism") == organism, pl.col("cell") == condition)
    assert rows.height, (organism, condition)
    return rows


def rate(study, organism, condition):
    return em_rates(misaligned(study, organism, condition), outcomes=[EM]).row(0, named=True)["value"]


def test_the_direction_is_extracted(chain):
    folder, *_ = chain
    stored = folder.directions()
    for organism, layer in planted.ORGANISMS.items():
        for direction in stored[f"{organism} misalignment, truncated"]:
            assert direction.provenance["n_positive"] == direction.provenance["n_negative"] > 8
            assert direction.provenance["token_mask"] == "answer"
            assert direction.provenance["reader"] == organism
        assert along(stored[f"{organism} misalignment, truncated"][LAYER]) > 0.45
        minus = {direction.layer: direction for direction in stored[f"{organism} minus base"]}
        assert min(minus) == layer  # below its adapter the organism is the base
        assert along(minus[layer]) > 0.99
        assert stored[f"{organism} misalignment, both, truncated"][LAYER].provenance["kind"] == "both"
    one, two = (stored[f"{organism} misalignment, truncated"][LAYER] for organism in planted.ORGANISMS)
    assert cosine_matrix([one, two])[0, 1] > 0.3  # the organisms converge
    assert abs(along(stored["shuffled 0 like first misalignment, truncated"][LAYER])) < 0.5


def test_steering_raises_misalignment_and_controls_do_not(chain):
    *_, study, _ = chain
    plain = misaligned(study, BASE, BASELINE)
    changed = {
        name: difference(misaligned(study, BASE, f"steer {name} L{LAYER} 50%"), plain)
        for name in (
            "first misalignment, truncated",
            "random 0 like first misalignment, truncated",
            "random 1 like first misalignment, truncated",
        )
    }
    assert changed["first misalignment, truncated"].low > 0
    assert all(found.value < 0.15 for name, found in changed.items() if "random" in name)


def test_ablation_lowers_it_and_transfers_and_controls_do_not(chain):
    *_, study, _ = chain
    for organism in planted.ORGANISMS:  # out of the second it is a transfer
        plain = misaligned(study, organism, BASELINE)
        own = difference(
            misaligned(study, organism, f"ablate first misalignment, truncated L{LAYER} everywhere"), plain
        )
        assert own.high < 0, (organism, own)
        controls = [f"ablate random {seed} like first misalignment, truncated L{LAYER} everywhere" for seed in SEEDS]
        changed = [difference(misaligned(study, organism, name), plain).value for name in controls]
        assert np.mean(changed) > 0.75 * own.value, (own, changed)
    assert (
        rate(study, "first", "ablate first misalignment, truncated layer-wise") < rate(study, "first", BASELINE) - 0.15
    )


def test_a_random_subspace_takes_more_dimensions_to_disturb_as_much(chain):
    folder, subject, _, matched = chain
    texts = some(folder.responses(), "first", BASELINE)
    assert matched.disturbance == pytest.approx(matched.target, rel=0.5)
    assert 1 < len(matched.basis) < 16
    basis = np.stack([direction.vector for direction in matched.basis])
    np.testing.assert_allclose(basis @ basis.T, np.eye(len(basis)), atol=1e-5)
    assert disturbance(subject, "first", Condition("one", (Ablate(matched.basis[0]),)), texts) < matched.target / 2


def test_a_study_says_what_each_cell_did(chain):
    folder, _, study, _ = chain
    did = describe_stored(study.conditions())
    rows = {row["condition"]: row for row in did.iter_rows(named=True)}
    steered = rows[f"steer first misalignment, truncated L{LAYER} 50%"]
    assert (steered["kind"], steered["direction"], steered["layer"]) == (
        "steer",
        "first misalignment, truncated",
        LAYER,
    )
    assert rows["baseline, 12 tokens"]["kind"] == "baseline"
    assert rows[f"ablate first misalignment, truncated L{LAYER} out of B of first"]["kind"] == "ablate_write"
    assert rows["ablate first misalignment, truncated layer-wise"]["layers"] == "0-5"
    assert {"random 0 like first misalignment, truncated", "random subspace like first misalignment, truncated"} <= set(
        did["direction"]
    )
    # what was sampled is what is stored, whatever stood in the file
    for sweep in folder.sweeps().values():
        for condition in sweep.conditions:
            for edit, kept in zip(condition.edits, study.condition(condition.name).edits, strict=True):
                np.testing.assert_allclose(edit.direction.vector, kept.direction.vector, atol=1e-6)
    names = study.directions()["name"].unique().to_list()
    assert {"first misalignment, truncated", "second misalignment, truncated", "first minus base"} <= set(names)
    assert "misalignment" not in names  # the reader's is stored under its own name
