"""What a pilot tries, and what a plan counts: only what is left and possible, and nothing is written by saying it."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.__main__ import main
from backend.pipeline.folder import StudyFolder
from backend.recipe import costs
from backend.recipe.bench import Bench, machine
from backend.recipe.costs import dollars_of, measure
from backend.recipe.ledger import Ledger
from backend.recipe.reading import read_recipe
from backend.recipe.running import plan
from tests.recipe.small import RECIPE, write_small


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    return write_small(tmp_path_factory.mktemp("costs") / "recipe")


def measured(recipe: Path, text: str, folder: Path) -> set[str]:
    """The kinds whose rates a pilot of another recipe of the same files finds."""
    own = recipe.with_name(f"{folder.name}.yaml")
    own.write_text(text)
    ledger = Ledger.of(folder, written=False)
    bench = Bench(read_recipe(own), StudyFolder(folder))
    measure(bench, ledger, plan(bench, ledger))
    return set(ledger.pilots.get(machine(), {}))


ORGANISM = RECIPE[: RECIPE.index("  first:")]


def test_a_recipe_of_organisms_alone_is_measured_by_training(small, tmp_path, monkeypatch):
    monkeypatch.setattr("backend.recipe.costs.sample", lambda *_: pytest.fail("nothing is left to answer"))
    assert measured(small, ORGANISM, tmp_path) == {"train"}


def test_a_recipe_without_questions_is_measured(small, tmp_path):
    assert measured(small, ORGANISM + "questions: {sets: []}\n", tmp_path) == {"train"}


def test_a_pilot_tries_every_kind_with_short_answers(small, tmp_path, monkeypatch):
    longest = []
    sampled = costs.sample
    monkeypatch.setattr(
        "backend.recipe.costs.sample",
        lambda subject, asked: longest.extend(r.sampling.max_new_tokens for r in asked) or sampled(subject, asked),
    )
    text = RECIPE.replace("max_new_tokens: 8", "max_new_tokens: 600")
    kinds = {"sample", "sweep", "read", "train", "judge distilled+rules"}
    assert measured(small, text, tmp_path) == kinds
    assert set(longest) == {costs.PILOT_TOKENS}


def test_a_dry_run_makes_nothing(small, tmp_path, capsys):
    assert main(["run", str(small), "--folder", str(tmp_path / "new"), "--dry-run", "--adopt"]) == 0
    assert "0 of 13 stages are done" in capsys.readouterr().out
    assert not (tmp_path / "new").exists()


def test_dollars_are_of_the_tokens_that_the_parts_say(small, tmp_path):
    judge = "  - {name: 'api:m', metrics: [aligned, coherent], prices: [1, 0]}\n"
    text = RECIPE[: RECIPE.index("outcomes:")] + "answers:\n  - {organisms: base, n: 2, max_new_tokens: 100}\njudges:\n"
    own = small.with_name("dollars.yaml")

    def paid(tokens: int) -> float:
        own.write_text((text + judge).replace("max_new_tokens: 100", f"max_new_tokens: {tokens}"))
        bench, ledger = Bench(read_recipe(own), StudyFolder(tmp_path)), Ledger.of(tmp_path, written=False)
        [judged] = [each for each in plan(bench, ledger) if each.stage.name == "judge by api:m"]
        return dollars_of(bench, judged) or 0.0

    assert paid(300) - paid(100) == pytest.approx(2 * 4 * 2 * 200 / 1e6)  # metrics, questions, answers, tokens of each
