"""The command line: input that cannot be used ends in one sentence and exit code 2, never in a traceback."""

import argparse
import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.__main__ import main
from backend.commands.interventions import _steer_cells, numbers
from backend.commands.studies import add_commands
from backend.pipeline.folder import StudyFolder
from backend.records import Direction, InputError

NO_MODEL: Any = None  # a grid of added directions asks the model nothing


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "study.json").write_text(json.dumps({"title": "T", "base": "smollm2"}))
    return tmp_path


def said(capsys, *arguments):
    assert main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def test_a_folder_that_is_no_study_folder(tmp_path, capsys):
    assert "no study.json" in said(capsys, "build", "--folder", tmp_path, "--name", "x")
    assert "no study.json" in said(capsys, "sample", "--folder", tmp_path)
    assert "no study.json" in said(capsys, "app", "--folder", tmp_path)


def test_conditions_need_a_name_and_a_study(folder, capsys):
    assert "--condition name" in said(capsys, "sample", "--folder", folder, "--add", "v:3:1")
    assert "sample it first" in said(capsys, "sample", "--folder", folder, "--condition", "new")


def test_an_unknown_study_names_what_to_do(folder, capsys):
    options = ("--condition", "s", "--study", "no-such-study", "--add", "v:3:1")
    assert "no-such-study" in said(capsys, "sample", "--folder", folder, *options)
    assert "no-such-study" in said(capsys, "figures", "no-such-study")


def test_layers_are_written_as_ranges():
    assert numbers("9-11,15") == (9, 10, 11, 15)
    assert numbers("none") == ()
    with pytest.raises(SystemExit):
        main(["train", "data", "folder", "--layers", "nine"])


def test_controls_alone_can_be_added_to_a_sweep(folder):
    for name in ("a", "b"):
        vectors = [np.full(4, layer, dtype=np.float32) * (1 if name == "a" else 3) for layer in (1, 2)]
        StudyFolder(folder).add_directions([Direction(name, i + 1, v, 10.0, {}) for i, v in enumerate(vectors)])
    options = argparse.Namespace(direction="a", strengths="8%", layers=None, controls_only=True, organism="base")
    options.control_layers, options.random, options.like = (2,), (), ["b"]
    (cell,) = _steer_cells(options, StudyFolder(folder), NO_MODEL, [], {})
    (edit,) = cell.condition.edits
    assert cell.condition.name.startswith("steer b")
    assert (edit.direction.layer, edit.layers) == (2, (2,))
    assert np.linalg.norm(edit.strength * edit.direction.vector) == pytest.approx(0.08 * 10)  # a's activation norm
    options.control_layers = ()
    with pytest.raises(InputError, match="--control-layers"):
        _steer_cells(options, StudyFolder(folder), NO_MODEL, [], {})


def documented():
    """Every command line of the README and of what the README points to, with its continuation lines."""
    for file in ("README.md", "docs/judge.md"):
        text = (Path(__file__).parents[2] / file).read_text().replace("\\\n", " ")
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
            yield from re.findall(r"python -m backend (.+)", block)


@pytest.mark.parametrize("line", list(documented()))
def test_what_the_readme_says_can_be_typed(line):
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers(required=True))
    assert callable(parser.parse_args(shlex.split(line, comments=True)).run)
