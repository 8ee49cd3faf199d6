"""Pages, to hold their tables against those of `figures`."""

from tests.conftest import open_page, studies  # noqa: F401  fixtures of pages
