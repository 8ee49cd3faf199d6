"""Reading a study: one published file, opened read-only, answering from any thread.

Every method runs on a cursor of its own and returns a polars frame, a record or a frozen holder of arrays. What a
study does not have comes back empty; what is asked for by a wrong name raises InputError with the right ones.
"""

from __future__ import annotations

from pathlib import Path

from backend.study.measured import Measurements
from backend.study.organisms import Organisms
from backend.study.residuals import Residuals
from backend.study.responses import Responses
from backend.study.scalars import Scalars
from backend.study.schema import STUDIES, newest


class Study(Organisms, Responses, Scalars, Residuals, Measurements):
    """One published study. Immutable: whatever it returned may be kept, and a new build is a new Study."""


def open_study(name: str, root: Path = STUDIES) -> Study:
    """The newest published file of a study. Raises InputError when there is none or it cannot be read."""
    return Study(name, newest(name, root))
