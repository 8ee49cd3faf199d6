"""The model of a study folder, loaded for a command."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backend.pipeline.folder import StudyFolder
    from backend.subject.load import Subject


def loaded(folder: StudyFolder) -> Subject:
    """The folder's base with its organisms."""
    from backend.subject.load import load

    quiet()
    return load(folder.settings["base"], organisms=folder.organisms)


def quiet() -> None:
    """The libraries' own progress bars and advice would drown ours."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
