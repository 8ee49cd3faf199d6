"""Where readings of texts come from: a published study that holds them, or the model, which reads now.

A reading is what one organism's residual stream was on each text (`extract.Reading`). What is made of it, others know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, Protocol

from backend.pipeline.build import Progress, Traces, trace_into, work_of
from backend.pipeline.extract import Reading, study_reading, traces_reading
from backend.pipeline.folder import StudyFolder
from backend.records import Response
from backend.study import open_study
from backend.subject.load import Subject

Watch = Callable[[str, int], AbstractContextManager[Progress]]  # (what is done, of how many) -> told how far it is


class Readings(Protocol):
    """Gives what a reader reads in texts, and says which model that is."""

    @property
    def said(self) -> dict[str, Any]:
        """Model and revision, for the provenance of what is made of the readings."""

    def of(self, reader: str, texts: Sequence[Response]) -> Reading:
        """The texts as the reader reads them. Raises InputError where they were not read."""

    def forget(self) -> None:
        """The readings have been used: remove what was kept for a killed command."""


class StudyReadings(ExitStack):
    """Readings of a published study."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.study = open_study(name)

    @property
    def said(self) -> dict[str, Any]:
        """What the study says of its model."""
        return {"model": self.study.info.get("base"), "revision": self.study.info.get("revision")}

    def of(self, reader: str, texts: Sequence[Response]) -> Reading:
        """What the study holds of a reader."""
        return study_reading(self.study, reader)

    def forget(self) -> None:
        """Nothing is kept."""


class TracedReadings(ExitStack):
    """Readings made with the model, kept until the directions are: a killed command goes on from there.

    Nobody else reads the same meanwhile: use it in a `with`.
    """

    def __init__(self, folder: StudyFolder, subject: Subject, watch: Watch) -> None:
        super().__init__()
        self.said: dict[str, Any] = {"model": folder.settings["base"], "revision": _revision(subject)}
        self._subject, self._watch = subject, watch
        self._kept: dict[Path, tuple[Traces, Reading]] = {}

    def of(self, reader: str, texts: Sequence[Response]) -> Reading:
        """The texts as the reader reads them now."""
        work = work_of(f"read-{reader}", self._subject, texts, reader)
        if work not in self._kept:
            traces = self.enter_context(Traces(work, f"tracing what {reader!r} reads"))
            with self._watch(f"read by {reader}", len(texts)) as progress:
                trace_into(traces, self._subject, texts, reader, progress=progress)
            self._kept[work] = traces, traces_reading(traces, reader)
        return self._kept[work][1]

    def forget(self) -> None:
        """Remove what was kept for a killed command."""
        for traces, _ in self._kept.values():
            traces.forget()


def _revision(subject: Subject) -> str:
    """The commit of a hub model, or the folder that a local one was read from."""
    config = subject.model.config
    return str(getattr(config, "_commit_hash", None) or Path(str(config.name_or_path)).name)
