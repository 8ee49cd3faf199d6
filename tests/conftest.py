"""Pages run alone, without a browser, over the synthetic study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from tests.studies.swept import swept_study
from tests.studies.synthetic import synthetic_study

ROOT = Path(__file__).resolve().parents[1]
NOBODY = "http://127.0.0.1:9"  # the discard port: no worker listens there

OpenPage = Callable[..., AppTest]


@pytest.fixture(scope="session")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the synthetic study; tests do not change it."""
    root = tmp_path_factory.mktemp("studies")
    synthetic_study(root)
    return root


@pytest.fixture
def open_page(studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenPage:
    """Run a page of `pages/` once, with query parameters, and without a worker."""
    monkeypatch.setenv("EM_STUDIES", str(studies))  # a test may set another folder afterwards
    monkeypatch.setenv("EM_STUDY", "synthetic")
    monkeypatch.setenv("EM_WORKER_URL", NOBODY)
    monkeypatch.setenv("EM_CACHE", str(tmp_path / "cache"))
    st.cache_resource.clear()

    def run(name: str, **query: str | list[str]) -> AppTest:
        page = AppTest.from_file(ROOT / "pages" / f"{name}.py", default_timeout=90)
        for key, value in query.items():
            page.query_params[key] = value
        return page.run()

    return run


@pytest.fixture(scope="session")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the study of sweeps; tests do not change it."""
    root = tmp_path_factory.mktemp("sweeps")
    swept_study(root)
    return root


@pytest.fixture
def open_swept(open_page: OpenPage, sweeps: Path, monkeypatch: pytest.MonkeyPatch) -> OpenPage:
    """`open_page` over the study of sweeps."""

    def run(name: str, **query: str | list[str]) -> AppTest:
        monkeypatch.setenv("EM_STUDIES", str(sweeps))
        monkeypatch.setenv("EM_STUDY", "swept")
        return open_page(name, **query)

    return run


def said(page: AppTest) -> str:
    """Everything the page says in words, in one string."""
    kinds = (page.title, page.markdown, page.caption, page.text, page.info, page.warning, page.error, page.html)
    return "\n".join(str(element.value) for kind in kinds for element in kind)
