"""The planted study, its direction followed downstream, its organism read on neutral text: folder, model, and study."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from backend.outcomes import EM
from backend.pipeline import work
from backend.pipeline.build import build
from backend.pipeline.downstream import Following, follow
from backend.pipeline.folder import StudyFolder
from backend.pipeline.measured import Measurement, keep
from backend.pipeline.neutral import Neutral, diff
from backend.records import Direction, Origin
from backend.study import Study, open_study
from backend.subject.load import Subject
from tests.studies import planted

LAYER, RUN, NAME, STUDY = 2, "planted L2", "first planted", "followed"
ASKED = Following("first", NAME, LAYER, (0.001, 0.002, 0.2), random=6, texts=2)


@dataclass(frozen=True, eq=False)
class Followed:
    """All that was made."""

    folder: StudyFolder
    subject: Subject
    found: Measurement
    study: Study


def followed_study(root: Path) -> Followed:
    """Everything, under `root`; the study's root is `root` / "studies"."""
    folder, subject = planted.folder_and_subject(root / "folder")
    planted.sampled(folder, subject, n=8)
    said = Origin(organism="first").provenance
    folder.add_directions([Direction(NAME, LAYER, 2.0 * planted.planted(), 10.0, said)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "WORK", root / "work")
        found = follow(folder, subject, ASKED, EM, RUN, _unheard)
        keep(folder.path, found)
        texts = [f"text number {i} is about nothing" for i in range(8)]
        neutral, stack = diff(folder, subject, Neutral("first", NAME, answers=6), "first", texts)
        keep(folder.path, neutral)
        folder.add_directions(stack)
        build(folder, subject, STUDY, root=root / "studies", progress=_unheard)
    return Followed(folder, subject, found, open_study(STUDY, root / "studies"))


def _unheard(*_: object) -> None:
    return None
