"""The synthetic study, opened once for the tests of its tables."""

from contextlib import closing

import pytest

from backend.study import open_study


@pytest.fixture(scope="session")
def study(studies):
    """It is never written to."""
    with closing(open_study("synthetic", studies)) as opened:
        yield opened
