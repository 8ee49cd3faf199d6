"""What a run may not remove: a person's adapters, files outside its folder, files that were changed, others' traces."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backend.pipeline.folder import StudyFolder
from backend.recipe.bench import Bench
from backend.recipe.doing import copy_organism
from backend.recipe.ledger import LEDGER, Depends, Entry, Ledger, content
from backend.recipe.reading import read_recipe
from backend.recipe.running import _remove_former
from backend.records import InputError

RECIPE = "title: T\nstudy: t\norganisms:\n  mine: {adapter: organisms/mine}\n"
FILES = {"adapter_config.json": "{}", "adapter_model.safetensors": "weights"}


def adapter(folder: Path, without: str = "") -> Path:
    folder.mkdir(parents=True)
    for name, text in FILES.items():
        if name != without:
            (folder / name).write_text(text)
    return folder


@pytest.fixture
def bench(tmp_path) -> Bench:
    """A recipe in the study folder that names the organism of that folder."""
    adapter(tmp_path / "organisms" / "mine")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return Bench(read_recipe(tmp_path / "recipe.yaml"), StudyFolder(tmp_path))


def held_by(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.iterdir()}


def test_an_adapter_in_its_place_is_left_there(bench, tmp_path):
    mine = tmp_path / "organisms" / "mine"
    assert copy_organism(bench, "mine", bench.read.adapter("organisms/mine")) == [mine]
    assert held_by(mine) == FILES


def test_an_adapter_inside_the_organism_that_it_replaces_is_refused(bench, tmp_path):
    mine = tmp_path / "organisms" / "mine"
    with pytest.raises(InputError, match=r"recipe\.yaml, line 4: .* is inside .*: move it elsewhere"):
        copy_organism(bench, "mine", str(adapter(mine / "inner")))
    assert held_by(mine / "inner") == FILES


@pytest.mark.parametrize("without", FILES)
def test_half_an_adapter_replaces_nothing(bench, tmp_path, without):
    source = adapter(tmp_path / "elsewhere", without)
    with pytest.raises(InputError, match=rf"line 4: .*elsewhere holds no {without}"):
        copy_organism(bench, "mine", str(source))
    assert held_by(tmp_path / "organisms" / "mine") == FILES


def test_an_adapter_from_elsewhere_replaces_the_former_one(bench, tmp_path):
    source = adapter(tmp_path / "elsewhere")
    (source / "adapter_model.safetensors").write_text("others")
    copy_organism(bench, "mine", str(source))
    assert held_by(tmp_path / "organisms" / "mine") == {**FILES, "adapter_model.safetensors": "others"}


@pytest.mark.parametrize("name", ["../precious", "a/../../precious", "/precious", "."])
def test_a_ledger_that_names_files_outside_its_folder_is_refused(tmp_path, name):
    depends = {"part": {}, "files": {}, "stages": {}}
    said = {"stages": {"settings": {"key": "0", "depends": depends, "made": {name: "0"}}}}
    (tmp_path / LEDGER).write_text(json.dumps(said))
    with pytest.raises(InputError, match=r"is no ledger of a recipe .*no path in the folder"):
        Ledger.of(tmp_path)


def test_what_an_earlier_run_made_goes_only_while_it_is_as_it_was_made(tmp_path):
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    for place in (folder, outside):
        place.mkdir()
    for file in (folder / "same", folder / "changed", outside / "precious"):
        file.write_text(file.name)
    (folder / "link").symlink_to(outside)
    made = {name: content(folder / name) for name in ("same", "changed", "link/precious")}
    (folder / "changed").write_text("by hand")
    _remove_former(Entry("0", Depends({}), made), {}, folder)
    assert sorted(file.name for file in folder.iterdir()) == ["changed", "link"]
    assert (outside / "precious").exists()
