"""The command `app`: what is named on the command line wins over what the study remembers."""

import json
from typing import Any

import pytest

from backend.__main__ import main
from backend.pipeline import served as serving
from backend.pipeline.served import Served


@pytest.fixture
def launched(monkeypatch, tmp_path):
    """Runs `app` with words of its own; gives what would be launched."""
    calls: list[Any] = []
    monkeypatch.setattr("backend.commands.launch.launch", lambda *given: calls.append(given) or 0)
    monkeypatch.chdir(tmp_path)
    for variable in ("STUDY", "HOST", "PORT", "EM_TOKEN"):
        monkeypatch.delenv(variable, raising=False)

    def run(*words):
        assert main(["app", *map(str, words)]) == 0
        return calls.pop()

    return run


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine" / "organisms" / "a").mkdir(parents=True)
    (tmp_path / "mine" / "organisms" / "a" / "adapter_config.json").write_text("{}")
    (tmp_path / "mine" / "study.json").write_text(json.dumps({"title": "Mine", "base": "my/model"}))
    return tmp_path / "mine"


def test_the_studys_own_folder_is_worn(launched, monkeypatch, capsys):
    asked = []
    own = Served("my/model", {"a": "there"}, "b is gone")
    monkeypatch.setattr(serving, "of_study", lambda name: asked.append(name) or own)
    assert launched("--study", "mine", "--port", 0) == ("mine", "my/model", {"a": "there"}, "127.0.0.1", 0, "")
    assert asked == ["mine"]
    assert capsys.readouterr().out == "b is gone\n"


def test_what_is_named_wins(launched, folder, monkeypatch):
    monkeypatch.setattr(serving, "of_study", lambda name: pytest.fail("the study was asked"))
    assert launched("--study", "mine", "--folder", folder)[1:3] == ("my/model", {"a": folder / "organisms" / "a"})
    study, model, organisms, *_ = launched("--model", "other", "--organism", "x=hub/x")
    assert (study, model, {name: str(path) for name, path in organisms.items()}) == ("demo", "other", {"x": "hub/x"})
    assert list(launched("--folder", folder, "--organism", "x=y")[2]) == ["x"]


def test_an_organism_named_twice_is_refused(folder, capsys):
    assert main(["app", "--folder", str(folder), "--organism", "x=y", "--organism", "x=z"]) == 2
    assert "twice" in capsys.readouterr().err


def test_a_port_of_the_environment_is_read_when_it_is_needed(monkeypatch, capsys, folder):
    monkeypatch.setenv("PORT", "many")
    assert main(["app", "--folder", str(folder)]) == 2
    assert "--port: 'many'" in capsys.readouterr().err
    assert main(["judge"]) == 2
    assert "what to judge" in capsys.readouterr().err


def test_the_token_is_the_environments_or_named(launched, monkeypatch):
    monkeypatch.setenv("EM_TOKEN", "of the environment")
    assert launched("--model", "m")[-1] == "of the environment"
    assert launched("--model", "m", "--token", "named")[-1] == "named"
