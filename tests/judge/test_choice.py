"""Which judge a name stands for: presets are pinned, the newest embedded one, and what is asked in which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.judge import EMBEDDED
from backend.judge.api import ApiJudge
from backend.judge.choice import PRESETS, load_judge
from backend.judge.distilled import WEIGHTS
from backend.records import InputError


def test_distilled_is_the_newest_whose_weights_are_there() -> None:
    assert PRESETS["distilled"] == EMBEDDED == max(path.stem for path in WEIGHTS.glob("*.safetensors"))


def test_the_papers_judge_is_pinned_by_its_date(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EM_JUDGE_KEY", "none")
    judge = load_judge("paper", metrics=("aligned", "coherent"), cache=tmp_path)
    assert isinstance(judge, ApiJudge)
    assert judge.name == "gpt-4o-2024-08-06"
    assert judge.metrics == ("aligned", "coherent")


def test_a_trait_of_a_file_is_asked_of_a_chat_model_and_not_of_the_embedded_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EM_JUDGE_KEY", "none")
    traits = tmp_path / "traits.yaml"
    traits.write_text("- sarcasm: 'How sarcastic is {answer} to {question}?'\n")
    judge = load_judge("api:m", metrics=("sarcasm", "coherent"), cache=tmp_path, rubrics=traits)
    assert judge.metrics == ("sarcasm", "coherent")
    with pytest.raises(InputError, match="is asked in no words"):
        load_judge("distilled", cache=tmp_path, rubrics=traits)
