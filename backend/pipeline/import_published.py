"""The authors' released data as a published study: what `backend.published` read, handed to a draft.

Knows what a study keeps of a release. A study that is already published is never touched: a second import publishes a
second file, which becomes the study's newest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from backend.edits import Condition
from backend.published import Release, Report, read_release
from backend.records import Sampling
from backend.study import STUDIES, Draft

SAMPLED = Sampling(temperature=1.0, top_p=1.0, max_new_tokens=600)  # companion paper, section 2.2
NAME = "published"
PUBLISHED_QUESTIONS = (
    "first-plot",
    "first-plot template",
)  # paper, sections 3.2 and 3.4; other sweeps ask medical ones
TITLE = "Qwen2.5-14B-Instruct: the authors' released data"
_INLINE = (
    1  # directions that a stored condition holds; a layer-wise one is told by its record and the stored directions
)


@dataclass(frozen=True)
class Imported:
    """The file that was published and what the import found, skipped and noted."""

    path: Path
    report: Report


def import_published(paths: Sequence[Path], *, root: Path = STUDIES, name: str = NAME) -> Imported:
    """Publish everything readable under the paths as study `name`. Raises InputError when nothing is."""
    release = read_release(paths)
    with Draft(name, root=root) as draft:
        draft.meta(
            title=TITLE,
            base="Qwen2.5-14B-Instruct",
            published_questions=list(PUBLISHED_QUESTIONS),
            source="clarifying-EM/model-organisms-for-EM and annasoligo/EM_interp",
            remedy=[
                "git clone https://github.com/clarifying-EM/model-organisms-for-EM",
                "git clone https://github.com/annasoligo/EM_interp",
                "python -m backend import-published model-organisms-for-EM EM_interp --name paper",
            ],
            notes="\n".join(f"{note[:1].upper()}{note[1:]}." for note in release.report.notes),
            settings={condition: dict(says) for condition, says in release.settings.items()},
            report=release.report.to_json(),
        )
        _fill(draft, release)
        path = draft.publish()
    return Imported(path, release.report)


def _fill(draft: Draft, release: Release) -> None:
    for organism in release.organisms:
        draft.add_organism(organism.name, base=organism.base, adapters=organism.adapters, record=organism.record)
    draft.add_questions(release.questions)
    draft.add_conditions(map(_stored, release.conditions))
    draft.add_responses((*release.responses, *release.variants))
    draft.add_responses(answer.response for answer in release.traced)
    draft.add_scores(release.scores)
    draft.add_scores(score for answer in release.traced for score in answer.scores)
    draft.add_sources(release.sources)
    draft.add_traces(answer.trace for answer in release.traced if answer.trace is not None)
    draft.add_traces(release.readings)
    for answer in release.traced:
        if answer.trace is not None and answer.significance is not None:
            draft.add_significance(answer.response.id, answer.trace.reader, answer.significance)
    draft.add_directions(release.directions)


def _stored(condition: Condition) -> Condition:
    """Without the vectors of 48 layers, which would make tens of megabytes of every sweep: the study has them once."""
    held = sum(len(edit.directions) for edit in condition.edits)
    return condition if held <= _INLINE else replace(condition, edits=())
