"""Panels are tested inside the pages that use them."""

from tests.pages.conftest import open_page, open_swept, studies, sweeps  # noqa: F401 - pytest finds fixtures by name
