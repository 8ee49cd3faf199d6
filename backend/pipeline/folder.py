"""The inputs of a study on disk: everything that cost a model's time or a human's choice, in small open files.

    study.json              title, base model, notes; reader (the organism that reads the responses, by default the
                            first) and traced (the conditions whose responses it reads, by default all)
    organisms/NAME/         adapter_model.safetensors, adapter_config.json, training.json
    conditions/NAME.json    the edits of one condition
    responses/NAME.parquet  what an organism answered under one condition, with token ids, seeds and settings
    scores/JUDGE.parquet    what one judge gave the responses

A study is built from such a folder alone. Every file is written under a temporary name and renamed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.records import BASE, BASELINE, Condition, InputError, Response, Score, edits_from_json, edits_to_json
from backend.study.parquet import read_responses, read_scores, write_responses, write_scores

DEMO = Path(__file__).resolve().parents[2] / "cache" / "demo"


@dataclass(frozen=True)
class StudyFolder:
    """One folder of inputs. Reading raises InputError on a file that is not what its place says."""

    path: Path

    @property
    def settings(self) -> dict[str, Any]:
        """The content of study.json: title, base, reader, notes."""
        file = self.path / "study.json"
        try:
            settings = json.loads(file.read_text())
            return {"title": str(settings["title"]), "base": str(settings["base"]), **settings}
        except FileNotFoundError as error:
            raise InputError(f"{self.path} is no study folder: it has no study.json") from error
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{file} must be a JSON object with a title and a base: {error!r}") from error

    @property
    def organisms(self) -> dict[str, Path]:
        """Adapter folders by organism name."""
        return {p.parent.name: p.parent for p in sorted(self.path.glob("organisms/*/adapter_config.json"))}

    @property
    def reader(self) -> str:
        """The organism that reads every response: the one study.json names, else the first."""
        chosen = str(self.settings.get("reader", next(iter(self.organisms), BASE)))
        if chosen != BASE and chosen not in self.organisms:
            raise InputError(f"study.json names the reader {chosen!r}: there is {', '.join(self.organisms) or 'none'}")
        return chosen

    def conditions(self) -> list[Condition]:
        """The baseline, and every condition that has a file."""
        return [Condition(BASELINE), *(self.condition(p.stem) for p in sorted(self.path.glob("conditions/*.json")))]

    def condition(self, name: str) -> Condition:
        """One condition by its name."""
        if name == BASELINE:
            return Condition(BASELINE)
        file = self.path / "conditions" / f"{name}.json"
        try:
            return Condition(name, edits_from_json(json.loads(file.read_text())))
        except FileNotFoundError as error:
            raise InputError(f"no condition {name!r} in {self.path}: sample it first") from error
        except ValueError as error:
            raise InputError(f"{file}: {error}") from error

    def responses(self) -> list[Response]:
        """All responses, by file name, in their order."""
        return [r for file in sorted(self.path.glob("responses/*.parquet")) for r in read_responses(file)]

    def traced(self, responses: Sequence[Response]) -> list[Response]:
        """Those of `responses` that the reader shall read."""
        conditions = self.settings.get("traced")
        return [r for r in responses if conditions is None or r.condition in conditions]

    def scores(self) -> list[Score]:
        """All scores of all judges."""
        return [score for file in sorted(self.path.glob("scores/*.parquet")) for score in read_scores(file)]

    def training(self, organism: str) -> dict[str, Any]:
        """How an organism was trained; empty where nobody kept a record."""
        file = self.organisms[organism] / "training.json"
        return dict(json.loads(file.read_text())) if file.is_file() else {}

    def add_responses(self, condition: Condition, organism: str, responses: Sequence[Response]) -> Path:
        """Keep the responses of one organism under one condition, and the condition's edits beside them."""
        if condition.edits:
            file = self.path / "conditions" / f"{condition.name}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            building = file.with_suffix(".json.tmp")
            building.write_text(json.dumps(edits_to_json(condition.edits), indent=1))
            building.replace(file)
        target = self.path / "responses" / f"{organism}.{condition.name}.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        write_responses(target, responses)
        return target

    def add_scores(self, judge: str, scores: Sequence[Score]) -> Path:
        """Keep all scores of one judge."""
        target = self.path / "scores" / f"{judge}.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        write_scores(target, scores)
        return target
