"""Designs have the cells and controls that they say, and a sweep typed on the command line is kept with its record."""

import json
from dataclasses import replace

import numpy as np
import pytest

from backend.__main__ import main
from backend.cuts import Thresholds
from backend.edits import EVERY
from backend.pipeline import work
from backend.pipeline.experiment import Ablation, gains, steering_design
from backend.pipeline.extract import Reading, Recipe
from backend.pipeline.grids import Strengths
from backend.pipeline.kinds import KINDS, Material, check
from backend.records import BASE, Adapter, Direction, InputError
from backend.study.responses import scored
from tests.studies import planted

V = [Direction("v", layer, np.full(4, layer, dtype=np.float32), 10.0, {"reader": "o"}) for layer in (1, 2)]
W = [Direction("w", layer, np.full(4, 3 * layer, dtype=np.float32), 10.0, {}) for layer in (1, 2)]
SHARE = Strengths((0.08,), share=True)


def steered(**changes):
    usual = {"layers": None, "control_layers": (), "random": (), "others": (), "organism": BASE}
    return steering_design(V, SHARE, **{**usual, **changes})


def test_controls_alone_can_be_added_to_a_sweep():
    (cell,) = steered(layers=(), control_layers=(2,), others=[W]).cells
    (edit,) = cell.condition.edits
    assert cell.condition.name.startswith("steer w")
    assert (edit.direction.layer, edit.layers) == (2, (2,))
    assert np.linalg.norm(edit.strength * edit.direction.vector) == pytest.approx(0.08 * 10)  # v's activation norm
    assert [cell.condition.name for cell in steered().cells] == [
        "steer v L1 8% but the sink",
        "steer v L2 8% but the sink",
    ]
    assert [cell.condition.name for cell in steered(where=EVERY).cells] == ["steer v L1 8%", "steer v L2 8%"]
    assert len(steered(control_layers=(1,), random=(0, 1), others=[W]).cells) == 5


def test_an_organisms_own_direction_comes_with_every_way_and_control_and_anothers_alone():
    ablation = Ablation([V, W], 2, ["o", "p"], random=(0, 1), subspace=False, where=EVERY, to=["zero"])
    design = ablation.design(None, (), said=print)
    names = {organism: [c.condition.name for c in design.cells if c.organism == organism] for organism in ("o", "p")}
    assert names["p"] == ["ablate v L2 everywhere", "ablate w L2 everywhere"]
    assert len(names["o"]) == 7
    assert sum("random" in name for name in names["o"]) == 2
    assert design.record == {"kind": "ablate", "disturbance": {}, "means": {}}
    control = [replace(direction, name="c") for direction in V]  # o's too, as shuffled labels are
    beside = Ablation([V], 2, ["o"], random=(), subspace=False, others=[control], where=EVERY, to=["zero"])
    cells = beside.design(None, (), said=print).cells
    assert [cell.condition.name for cell in cells if "ablate c" in cell.condition.name] == ["ablate c L2 everywhere"]
    assert len(cells) == 5
    with pytest.raises(InputError, match="'v' has no layer 5"):
        Ablation([V], 5, ["o"], random=(), subspace=False)
    with pytest.raises(InputError, match="'w' has no layer 5"):
        Ablation([], 5, ["o"], random=(), subspace=False, others=[W])


def test_gains_name_the_adapters_of_a_group_and_refuse_an_empty_one():
    ones = np.ones(2, dtype=np.float32)
    adapters = [Adapter(f"layers.{layer}.m", layer, "m", 0, 1.0, ones, ones) for layer in (1, 2, 3)]
    design = gains("o", adapters, groups={"late": (2, 3)}, factors=(0, 2), pairs=False)
    assert design.record["groups"] == {"late": ["layers.2.m", "layers.3.m"]}
    assert {"late ×0 of o", "late ×2 of o", "all adapters ×2 of o"} <= {cell.condition.name for cell in design.cells}
    more = gains("o", adapters, groups={}, factors=(), pairs=True)
    assert len(more.cells) == 3 + 3 + 3
    with pytest.raises(InputError, match=r"the group 'x' .* o has adapters at 1, 2, 3"):
        gains("o", adapters, groups={"x": (7,)}, factors=(), pairs=False)


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """A small planted folder with answers and a direction, and the model, which every command gets."""
    root = tmp_path_factory.mktemp("experiment")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "WORK", root / "work")
        folder, subject = planted.folder_and_subject(root / "mine")
        patch.setattr("backend.subject.load.load", lambda name, organisms: subject)
        patch.setattr("backend.pipeline.question_sets.QUESTIONS", planted.QUESTIONS)
        planted.sampled(folder, subject, n=12)
        assert main(["extract", "--folder", str(folder.path), "--organism", "first", "--shuffled", "0"]) == 0
        yield folder


def test_extraction_forgets_what_it_kept_for_a_killed_run(chain):
    assert list(chain.directions()) == ["first misalignment"]
    assert not list(work.WORK.iterdir())


def test_the_command_samples_what_a_design_says(chain, capsys):
    shared = ["--folder", str(chain.path), "--n", "1", "--max-new-tokens", "4", "--top-p", "1"]
    kinds = {
        "steer": ["--direction", "first misalignment", "--layers", "3", "--strengths", "4%", "--control-layers", "3"],
        "ablate": ["--direction", "first misalignment", "--layer", "3", "--subspace", "--random", "0"],
        "wise": [
            "--direction",
            "first misalignment",
            "--layer",
            "3",
            "--random",
            "none",
            "--where",
            "answer",
            "--no-write",
        ],
        "gain": ["--organism", "first", "--group", "late=2", "--factors", "0,2", "--no-pairs"],
    }
    for kind, options in kinds.items():
        assert main(["sweep", "ablate" if kind == "wise" else kind, "--name", kind, *options, *shared]) == 0
        assert f"Judge them: python -m backend judge {chain.path}\n" in capsys.readouterr().out
    records = {kind: json.loads((chain.path / "sweeps" / f"{kind}.json").read_text()) for kind in kinds}
    assert all(records[kind]["kind"] == ("ablate" if kind == "wise" else kind) for kind in kinds)
    assert all(record["n"] == 1 and record["sampling"]["max_new_tokens"] == 4 for record in records.values())
    assert records["steer"]["questions"] == ["bored", "wish", "ruler"]
    assert len(records["steer"]["conditions"]) == 1 + 3
    matched = records["ablate"]["disturbance"]["first"]
    assert len(matched) == 2 * 3, "to zero and to the mean of the base"
    assert min(matched.values()) > 0
    own = [name for name in records["ablate"]["conditions"] if name.startswith("ablate first misalignment L3")]
    assert sum("to the mean of base" in name for name in own) == 2, "everywhere, and there"
    every = records["ablate"]["conditions"]["ablate first misalignment L3 everywhere to the mean of base but the sink"]
    assert len(every[0]["to"]["values"]) == 6
    assert records["ablate"]["means"]["base"]["first misalignment"] == pytest.approx(
        every[0]["to"]["values"][3], abs=1e-3
    )
    told = records["ablate"]["receipts"]["first"]
    [everywhere] = told["ablate first misalignment L3 everywhere but the sink"]
    assert (everywhere["layers"], everywhere["texts"]) == (list(range(6)), 3)
    assert everywhere["prompt"] > 0
    at_answers = [each for found in records["wise"]["receipts"]["first"].values() for each in found]
    assert at_answers
    assert all(each["prompt"] == 0 < each["answer"] for each in at_answers)
    assert len(records["steer"]["receipts"]["base"]) == 4
    assert records["gain"]["groups"] == {"late": ["layers.2.mlp.down_proj"]}
    assert records["steer"]["answers"] == 4 * 3  # cells × questions: the base's own answers are cut, not asked again
    assert sum(r.condition == "late ×2 of first" for r in chain.responses()) == 3


def test_an_estimate_samples_nothing(chain, capsys):
    line = ["sweep", "gain", "--name", "never", "--organism", "first", "--folder", str(chain.path), "--estimate"]
    assert main(line) == 0
    assert "answers, at the most" in capsys.readouterr().out
    assert not (chain.path / "sweeps" / "never.json").exists()


class Kept:
    """Readings that note what was asked for."""

    def __init__(self, readings):
        self.said = {"model": "m"}
        self.readings, self.asked = readings, []

    def of(self, reader, texts):
        self.asked.append(reader)
        return self.readings[reader]


def test_kinds_ask_for_the_readers_they_need_and_name_what_they_make(chain):
    texts = [r for r in chain.responses() if r.organism == "first" and r.condition == "baseline"]
    rng = np.random.default_rng(0)

    def reading(reader):
        means = rng.normal(size=(2, len(texts), 4)).astype(np.float32)
        counts = np.ones(len(texts), dtype=np.int32)
        return Reading(reader, tuple(r.id for r in texts), means, counts, np.ones(2, dtype=np.float32), (0, 1))

    readings = Kept({"first": reading("first"), BASE: reading(BASE)})
    frame = scored(texts, chain.scores())
    material = Material("first", texts, frame, readings, Thresholds(), Recipe(splits=0), "medical", shuffles=1)
    made = {}
    for kind, of in KINDS.items():
        readings.asked.clear()
        names = [stack[0].name for stack in of(material)]
        made[kind] = (set(readings.asked), names)
    assert made == {
        "misalignment": (
            {"first"},
            ["first misalignment, medical", "shuffled 0 like first misalignment, medical"],
        ),
        "topic": ({"first"}, ["first medical topic"]),
        "minus-base": ({"first", BASE}, ["first minus base"]),
        "both": ({"first", BASE}, ["first misalignment, medical, both"]),
    }


def test_every_balance_is_a_direction_of_its_own_name_with_controls_of_its_own(chain):
    texts = [r for r in chain.responses() if r.organism == "first" and r.condition == "baseline"]
    means = np.random.default_rng(0).normal(size=(1, len(texts), 4)).astype(np.float32)
    ones = np.ones(len(texts), dtype=np.int32)
    kept = Kept({"first": Reading("first", tuple(r.id for r in texts), means, ones, np.ones(1, np.float32), (0,))})
    frame = scored(texts, chain.scores())
    material = Material(
        "first",
        texts,
        frame,
        kept,
        Thresholds(),
        Recipe(splits=0),
        shuffles=2,
        balances=("weights", "matching", "truncation"),
    )
    names = [stack[0].name for stack in KINDS["misalignment"](material)]
    own = ["first misalignment", "first misalignment, matched", "first misalignment, truncated"]
    assert names == [name for each in own for name in (each, f"shuffled 0 like {each}", f"shuffled 1 like {each}")]


def test_kinds_that_there_are_not_are_refused():
    check(["topic", "both"], "medical", ["matching", "truncation"])
    with pytest.raises(InputError, match="no --balance 'x': choose among weights, matching, truncation"):
        check(["both"], None, ["x"])
    with pytest.raises(InputError, match="no --kind 'x': choose among misalignment, topic, minus-base, both"):
        check(["both", "x"], None)
    with pytest.raises(InputError, match="--topic"):
        check(["topic"], None)
