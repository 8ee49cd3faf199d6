"""Where the authors' files are, which are not in the project: tests of them are skipped where they are not.

`EM_PUBLISHED` names their folder; a second part of the same repositories lies beside it, with `_more` behind its name.
"""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RELEASED = Path(os.environ.get("EM_PUBLISHED") or ROOT.parent / "shared" / "published")
MORE = RELEASED.with_name(f"{RELEASED.name}_more")
needs_released = pytest.mark.skipif(
    not RELEASED.is_dir(), reason=f"the authors' files are not at {RELEASED}: set EM_PUBLISHED to their folder"
)
needs_more = pytest.mark.skipif(
    not (RELEASED.is_dir() and MORE.is_dir()),
    reason=f"the authors' files are not at {RELEASED} and {MORE}: set EM_PUBLISHED to the first folder",
)
