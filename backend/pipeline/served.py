"""What the Live page of a study is served with: the model and the organisms of the folder that it was built from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from backend.pipeline.folder import StudyFolder
from backend.records import BASE
from backend.study import STUDIES, Study, open_study


@dataclass(frozen=True)
class Served:
    """A model (None: none is loaded), the organisms that it wears, and what is missing of them, in a line."""

    model: str | None
    organisms: Mapping[str, Path] = field(default_factory=dict)
    missing: str | None = None


def of_folder(folder: StudyFolder) -> Served:
    """The base and the organisms of a study folder. Raises InputError where it is none."""
    return Served(folder.settings["base"], folder.organisms)


def of_study(name: str, root: Path = STUDIES) -> Served:
    """Those of the folder that a published study was built from. Raises InputError where there is no such study."""
    study = open_study(name, root)
    home = study.info.get("folder")
    if home is None:
        return Served(
            None,
            missing=f"the study {name!r} does not say which folder it was built from: no model is loaded for Live; "
            "name the folder with --folder, or a model with --model",
        )
    return _worn(study, StudyFolder(Path(home)))


def _worn(study: Study, folder: StudyFolder) -> Served:
    base = str(study.info["base"])
    if not (folder.path / "study.json").is_file():
        gone = f"{folder.path}, from which the study {study.name!r} was built, is not there any more"
        return Served(base, missing=f"{gone}: Live has {base} without organisms; name the folder with --folder")
    if folder.settings["base"] != base:
        other = f"{folder.path} is of {folder.settings['base']} now, and the study {study.name!r} of {base}"
        return Served(base, missing=f"{other}: Live has {base} without organisms; name another folder with --folder")
    lost = set(study.organisms()["organism"]) - {BASE, *folder.organisms}
    said = f"{folder.path} has no {', '.join(sorted(lost))} any more: Live goes without" if lost else None
    return Served(base, folder.organisms, said)
