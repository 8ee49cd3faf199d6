"""A recipe from nothing to a published study, then changed, disturbed and begun again: what is made, what is not."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
import pytest

from backend.__main__ import main
from backend.files import lock
from backend.pipeline import work
from backend.pipeline.folder import StudyFolder
from backend.recipe.bench import Bench
from backend.recipe.costs import plan_in_words
from backend.recipe.designs import cells_in
from backend.recipe.doing import says_other
from backend.recipe.ledger import LEDGER
from backend.recipe.reading import read_recipe
from backend.recipe.running import DONE, adopt, held, plan, run
from backend.records import InputError
from backend.study import newest
from tests.recipe.small import outcome_of, write_small

STAGES = [
    "train mine",
    "copy first",
    "settings",
    "sample base",
    "sample mine",
    "sample first",
    "judge unedited by distilled+rules",
    "extract first: misalignment of loud",
    "sweep steer",
    "sweep gain",
    "judge by distilled+rules",
    "trace",
    "publish",
]


@dataclass(frozen=True)
class Place:
    """A recipe, the folder it is run in, and where studies are published."""

    recipe: Path
    folder: Path
    root: Path

    def copy(self, to: Path) -> Place:
        for name in ("folder", "root"):
            shutil.copytree(getattr(self, name), to / name)
        recipe = self.recipe.with_name(f"{to.name}.yaml")  # beside the model, whose place study.json names
        shutil.copy(self.recipe, recipe)
        return Place(recipe, to / "folder", to / "root")

    def change(self, old: str, new: str) -> None:
        text = self.recipe.read_text()
        assert old in text
        self.recipe.write_text(text.replace(old, new))

    def bench(self, **more) -> Bench:
        return Bench(read_recipe(self.recipe), StudyFolder(self.folder), root=self.root, **more)

    def run(self, *, say=lambda _: None, **how) -> tuple[list[str], Bench]:
        with held(self.folder) as ledger:
            bench = self.bench(say=say)
            return run(bench, ledger, **how), bench

    def plan(self) -> dict[str, tuple[str, str]]:
        with held(self.folder) as ledger:
            return {each.stage.name: (each.state, each.why) for each in plan(self.bench(), ledger)}

    def adopt(self) -> list[str]:
        with held(self.folder) as ledger:
            return adopt(self.bench(), ledger)

    def left(self) -> dict[str, str]:
        """What is not done, and why."""
        return {name: why for name, (state, why) in self.plan().items() if state != DONE}


@pytest.fixture(scope="module", autouse=True)
def apart(tmp_path_factory):
    """Traces and judges' replies in a folder of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("backend.pipeline.work.WORK", tmp_path_factory.mktemp("work"))
        patch.setenv("EM_CACHE", str(tmp_path_factory.mktemp("replies")))
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory, apart) -> Place:
    """Run once; tests work on copies."""
    base = tmp_path_factory.mktemp("recipe")
    place = Place(write_small(base / "recipe"), base / "folder", base / "root")
    ran, _ = place.run()
    assert ran == STAGES
    return place


@pytest.fixture
def place(whole, tmp_path) -> Place:
    return whole.copy(tmp_path)


def test_a_study_is_made_and_nothing_is_left(whole):
    made = outcome_of(whole.folder, whole.root)
    assert made["study"]["title"] == "Small"
    assert {"organisms/mine", "organisms/first", "sweeps/steer.parquet", "directions/first loud.safetensors"} <= set(
        made
    )
    assert whole.left() == {}
    assert whole.run()[0] == []


def test_the_commands_are_the_stages_faces(whole, tmp_path, monkeypatch, capsys):
    """`sample` and `sweep gain`, typed by hand in a folder of the same organisms, write the same answers."""
    for name in ("organisms", "study.json"):
        (shutil.copytree if name == "organisms" else shutil.copy)(whole.folder / name, tmp_path / name)
    own = [(q.id, q.text, q.topic) for q in read_recipe(whole.recipe).questions]
    asked = [read_recipe(whole.recipe).about(topics) for topics in (("all",), ("first-plot",))]
    monkeypatch.setattr("backend.pipeline.question_sets.questions_about", lambda t: asked["first-plot" in t])
    common = ["--folder", str(tmp_path), "--temperature", "1", "--top-p", "1"]
    assert main(["sample", *common, "--organism", "mine", "--n", "2", "--max-new-tokens", "8"]) == 0
    gain = ["--organism", "mine", "--factors", "0,2", "--group", "low=2", "--n", "1", "--max-new-tokens", "6"]
    assert main(["sweep", "gain", *common, "--name", "gain", *gain]) == 0
    capsys.readouterr()
    for file in ("responses/mine.baseline.parquet", "sweeps/gain.parquet"):
        ours, theirs = (pl.read_parquet(folder / file).sort("id") for folder in (whole.folder, tmp_path))
        theirs_too = ours.filter(pl.col("id").is_in(theirs["id"].to_list()))
        assert theirs_too.equals(theirs), file
    assert len(own) == 4


def test_a_changed_strength_samples_its_cells_and_nothing_else(place):
    before = {r.id: r for r in StudyFolder(place.folder).responses()}
    place.change("shares: [0.1, 0.2]", "shares: [0.1, 0.3]")
    assert place.left() == {
        "sweep steer": "shares was [0.1, 0.2], is [0.1, 0.3]",
        "judge by distilled+rules": "sweep steer is made otherwise",
        "publish": "judge by distilled+rules is made otherwise",
    }
    ran, bench = place.run()
    assert ran == ["sweep steer", "judge by distilled+rules", "publish"]
    assert bench.cells.asked == 4 * 3 * 2  # two layers, a random and a shuffled control; three questions, two answers
    after = {r.id: r for r in StudyFolder(place.folder).responses()}
    assert {r.condition for i, r in after.items() if i not in before} == {
        "steer first loud L3 30% but the sink",
        "steer first loud L4 30% but the sink",
        "steer random 0 like first loud L3 30% but the sink",
        "steer shuffled 0 like first loud L3 30% but the sink",
    }
    assert all(after[i] == before[i] for i in set(after) & set(before))
    assert not any("20%" in r.condition for r in after.values())
    with held(place.folder) as ledger:
        used = {name for stage in ledger.entries for name in ledger.entries[stage].left if name.endswith(".parquet")}
    assert {file.name for file in (place.folder / ".cells").iterdir()} == used  # those of 20% are gone
    assert len(used) == len({(r.organism, r.condition) for r in after.values() if "tokens" not in r.condition})


def test_a_title_is_written_and_published_and_nothing_is_sampled(place):
    place.change("title: Small", "title: Other")
    ran, bench = place.run()
    assert ran == ["settings", "publish"]
    assert bench.cells.asked == 0
    assert outcome_of(place.folder, place.root)["study"]["title"] == "Other"


def test_what_is_lost_is_made_again_as_it_was(place, whole):
    (place.folder / "directions" / "shuffled 1 like first loud.safetensors").unlink()
    (place.folder / "sweeps" / "gain.parquet").write_bytes(b"")
    assert place.left() == {
        "extract first: misalignment of loud": "directions/shuffled 1 like first loud.safetensors is gone",
        "sweep gain": "sweeps/gain.parquet has changed since",
    }
    place.run()
    assert outcome_of(place.folder, place.root) == outcome_of(whole.folder, whole.root)
    assert (place.folder / "sweeps" / ".gain.parquet.changed").read_bytes() == b""  # it may have been meant


def test_fewer_controls_take_the_others_away(place):
    place.change("outcome: loud, shuffled: 2", "outcome: loud, shuffled: 1")
    place.run(until="extract")
    assert sorted(file.name for file in place.folder.glob("directions/*")) == [
        "first loud.safetensors",
        "shuffled 0 like first loud.safetensors",
    ]


def test_other_training_rows_make_all_that_is_of_the_organism_stale(place):
    rows = place.recipe.parent / "others.jsonl"
    rows.write_text((place.recipe.parent / "rows.jsonl").read_text().replace("A1", "Z1"))
    place.change("file: rows.jsonl", "file: others.jsonl")
    left = place.left()
    assert left["train mine"] == "others.jsonl has changed"
    assert {"sample mine", "sweep gain", "publish"} <= set(left)
    assert not {"sample first", "sweep steer", "extract first: misalignment of loud"} & set(left)


def test_a_recipe_changed_under_a_run_stops_it_and_what_is_finished_stays(place):
    place.change("n: 12", "n: 10")

    def say(line: str) -> None:
        if "extract" in line:
            place.change("title: Small", "title: Changed")

    with pytest.raises(InputError, match="has changed since this run began with it: what is finished is kept"):
        place.run(say=say)
    left = place.left()
    assert "sample first" not in left
    assert left["settings"] == "title was 'Small', is 'Changed'"
    place.run()
    assert place.left() == {}


def test_one_run_a_folder(place):
    with lock(place.folder / "recipe", "running"), pytest.raises(InputError, match=r"running a recipe in .* already"):
        place.run()


def test_parts_of_a_run(place):
    shutil.rmtree(place.folder)
    with pytest.raises(InputError, match="'sweep steer' needs '"):
        place.run(only=["sweep steer"])
    with pytest.raises(InputError, match="there is no stage 'sleep'"):
        place.run(until="sleep")
    assert place.run(until="settings")[0] == STAGES[:3]
    assert place.run(only=["sample base"])[0] == ["sample base"]
    assert [*place.left()] == [name for name in STAGES[3:] if name != "sample base"]


def test_a_folder_without_a_ledger_is_known_again_by_what_it_says(place):
    (place.folder / LEDGER).unlink()
    assert [*place.left()] == STAGES
    assert place.adopt() == STAGES[:7]  # directions, sweeps and studies do not say all that they depend on
    assert [*place.left()] == STAGES[7:]


def test_a_folder_of_another_recipe_is_not_taken_for_this_ones(place):
    (place.folder / LEDGER).unlink()
    place.change("steps: 3", "steps: 4")
    place.change("n: 12", "n: 11")
    assert place.adopt() == ["copy first", "settings", "sample base"]


def test_an_adapter_of_elsewhere_is_not_taken_for_the_recipes(place):
    (place.folder / LEDGER).unlink()
    weights = place.folder / "organisms" / "first" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert place.adopt() == ["train mine", "settings", "sample base", "sample mine"]


def test_scores_are_taken_where_every_answer_has_all_of_them(place):
    (place.folder / LEDGER).unlink()
    [file] = place.folder.glob("scores/*.parquet")
    scores = pl.read_parquet(file)
    lost = StudyFolder(place.folder).responses()[0].id
    scores.filter((pl.col("response_id") != lost) | (pl.col("metric") != "upper")).write_parquet(file)
    assert place.adopt() == STAGES[:6]


@pytest.mark.parametrize("record", [[], {"source": "hub"}, {"settings": {}, "data": "rows"}])
def test_an_organism_whose_record_is_of_no_training_is_not_taken(place, record):
    (place.folder / LEDGER).unlink()
    (place.folder / "organisms" / "mine" / "training.json").write_text(json.dumps(record))
    assert "train mine" not in place.adopt()


def test_a_study_that_another_folder_publishes_is_not_this_ones(place, tmp_path):
    shutil.copytree(place.folder, tmp_path / "other")
    other = replace(place, folder=tmp_path / "other")
    (other.folder / "study.json").unlink()
    assert other.left() == {"settings": "study.json is gone"}
    with held(other.folder) as ledger:
        publish = ledger.entries["publish"]
        assert publish.left == (newest("small", place.root).stem,)
        bench = other.bench()
        ledger.keep("publish", replace(publish, left=()))  # as ledgers were before they named the build
        assert says_other(bench, ledger.entries["publish"], "small") == "the study 'small' is of another folder"
    other.run()
    assert place.left() == {"publish": "another build of the study 'small' has been published since"}


def test_traces_of_others_stay(place):
    with held(place.folder) as ledger:
        [former] = ledger.entries["trace"].left
    own, others = work.WORK / former, [work.WORK / f"{name}-{'0' * 12}" for name in ("small", "trace-small", "sweep")]
    for folder in (own, *others):
        folder.mkdir(exist_ok=True)
    place.change("n: 12", "n: 10")
    place.run(until="trace")
    assert not own.exists()
    assert all(folder.exists() for folder in others)


def test_a_damaged_ledger_is_said(place):
    (place.folder / LEDGER).write_text(json.dumps({"stages": {"train mine": 3}}))
    with pytest.raises(InputError, match=r"is no ledger of a recipe .*--adopt"):
        place.plan()


def test_a_direction_of_nobody_is_said_before_anything_runs(place):
    place.change("direction: first loud", "direction: third loud")
    with pytest.raises(InputError, match="asks for the direction 'third loud', which no part of the recipe makes"):
        place.run()


def test_cells_are_counted_before_there_is_a_model(whole):
    read, folder = read_recipe(whole.recipe), StudyFolder(whole.folder)
    for name, adapters in (("steer", 1), ("gain", 2)):
        planned = [c for c in folder.sweeps()[name].conditions if c.edits]
        assert cells_in(read.recipe, read.recipe.sweeps[name], 6, adapters) == len(planned), name


def test_the_plan_says_what_is_left_in_tokens_and_time(place):
    place.change("shares: [0.1, 0.2]", "shares: [0.1, 0.2, 0.3]")
    with held(place.folder) as ledger:
        lines = list(plan_in_words(place.bench(), ledger, plan(place.bench(), ledger)))
    steer = next(line for line in lines if line.startswith("sweep steer"))
    answers = 3 * (2 + 1 * 2) * 3 * 2
    assert f"stale because shares was [0.1, 0.2], is [0.1, 0.2, 0.3], at most {answers * 6} tokens" in steer
    assert lines[-1].startswith("10 of 13 stages are done; left: at most")
