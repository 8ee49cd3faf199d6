"""A real Chromium against a real `streamlit run` on loopback, over the synthetic study.

A test gets `visit(path) -> Page`, which fails the test afterwards where a request left the machine or a page showed an
exception.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from tests.studies.fake_worker import FakeWorker
from tests.studies.synthetic import synthetic_study

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = "/usr/bin/chromium"
SWITCHES = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 60_000  # milliseconds, for a busy machine
expect.set_options(timeout=PATIENCE)
LOCAL = {"127.0.0.1", "localhost"}

StartApp = Callable[..., AbstractContextManager[str]]
Visit = Callable[..., Page]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="session")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("studies")
    synthetic_study(root)
    return root


@pytest.fixture(scope="session")
def start_app(studies: Path, tmp_path_factory: pytest.TempPathFactory) -> StartApp:
    """A context manager that runs the app, by default without a worker, and gives its address."""

    @contextmanager
    def start(worker_url: str | None = None) -> Iterator[str]:
        port = free_port()
        log = tmp_path_factory.mktemp("streamlit") / "log.txt"
        env = {
            **os.environ,
            "EM_STUDIES": str(studies),
            "EM_CACHE": str(studies / "cache"),
            "EM_STUDY": "synthetic",
            "EM_WORKER_URL": worker_url or f"http://127.0.0.1:{free_port()}",
        }
        command = [sys.executable, "-m", "streamlit", "run", "streamlit_app.py"]
        command += ["--server.address", "127.0.0.1", "--server.port", str(port), "--server.headless", "true"]
        command += ["--server.fileWatcherType", "none"]
        with log.open("w") as out:
            server = subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=subprocess.STDOUT)
        try:
            _await(f"http://127.0.0.1:{port}/_stcore/health", server, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(timeout=20)

    return start


def _await(url: str, server: subprocess.Popen[bytes], log: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if server.poll() is not None:
            break
        try:
            with urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"streamlit did not start:\n{log.read_text()}")


@pytest.fixture(scope="session")
def app(start_app: StartApp) -> Iterator[str]:
    """The address of the app over the synthetic study, without a worker."""
    with start_app() as url:
        yield url


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield chromium
        chromium.close()


@pytest.fixture
def visit(app: str, browser: Browser) -> Iterator[Visit]:
    """Open a path of the app (or an absolute address) and wait until it is drawn."""
    asked: list[str] = []
    pages: list[Page] = []

    def open_path(path: str = "", *, scheme: Literal["light", "dark"] = "light") -> Page:
        context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme=scheme)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda request: asked.append(request.url))
        page.on("websocket", lambda sock: asked.append(sock.url))
        page.goto(path if path.startswith("http") else f"{app}/{path.lstrip('/')}")
        pages.append(page)
        settle(page)
        return page

    yield open_path
    for page in pages:
        settle(page)
        assert not page.locator('[data-testid="stException"]').count(), page.url
        page.context.close()
    outside = [
        url for url in asked if urlsplit(url).scheme not in {"data", "blob"} and urlsplit(url).hostname not in LOCAL
    ]
    assert not outside, f"requests left the machine: {outside}"


def settle(page: Page, timeout: float = PATIENCE) -> None:
    """Wait until the script has run and every chart is drawn."""
    page.locator('[data-testid="stApp"]').wait_for(timeout=timeout)
    page.wait_for_function(
        """() => {
            const app = document.querySelector('[data-testid="stApp"]');
            const idle = app.getAttribute('data-test-script-state') === 'notRunning';
            return idle && !document.querySelector('[data-testid="stSkeleton"]');
        }""",
        timeout=timeout,
    )
    page.wait_for_timeout(250)


def parameters(page: Page) -> str:
    """The query of the page's address."""
    return re.sub(r"^[^?]*\??", "", page.url)


@pytest.fixture(scope="module")
def live_app(start_app: StartApp, worker: FakeWorker, browser: Browser) -> Iterator[str]:
    """The address of an app beside the `worker` of the test file, whose first and slowest view is over."""
    with start_app(worker.url) as url:
        page = browser.new_page()
        page.goto(url)
        settle(page, timeout=120_000)
        page.close()
        yield url


@pytest.fixture
def live(visit: Visit, live_app: str) -> Callable[[str], Page]:
    """Open a path of that app."""
    return lambda path: visit(f"{live_app}/{path}")


def button(page: Page, name: str) -> Locator:
    return page.locator('[data-testid="stMain"]').get_by_role("button", name=name)
