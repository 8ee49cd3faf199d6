"""The whole product at once: `python -m backend app` on the demo study, a real model behind it, a person in front."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from urllib.request import urlopen

import psutil
import pytest
from playwright.sync_api import Page, expect

from backend.study import list_studies
from tests.browser.conftest import ROOT, Visit, free_port, settle
from tests.studies.demo import DEMO

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not {"demo"} & set(list_studies()), reason="the demo study is not built: make build"),
]
PAGES = ("overview", "responses", "adapters", "probes", "directions", "live")


@pytest.fixture(scope="module")
def launcher() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The launcher's process, and the address that it printed."""
    what = ["--study", "demo", "--folder", str(DEMO)]
    command = [sys.executable, "-m", "backend", "app", *what, "--port", str(free_port())]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, f"the launcher said {line!r}"
        yield process, found[0]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(timeout=20)
        process.stdout.close()


@pytest.fixture
def demo(visit: Visit, launcher: tuple[subprocess.Popen[str], str]) -> Callable[[str], Page]:
    """Open a path of the launched app."""
    return lambda path: visit(f"{launcher[1]}/{path}")


def worker_of(process: subprocess.Popen[str]) -> str:
    """The address of the worker that the launcher started, when its model is ready."""
    [worker] = [p for p in psutil.Process(process.pid).children(recursive=True) if "backend.worker" in p.cmdline()][:1]
    command = worker.cmdline()
    return f"http://127.0.0.1:{command[command.index('--port') + 1]}"


def health(url: str) -> dict[str, object]:
    with urlopen(f"{url}/health", timeout=10) as reply:
        return dict(json.load(reply))


def within(seconds: float, happened: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.05)


@pytest.mark.parametrize("path", PAGES)
def test_every_page_shows_real_data(demo: Callable[[str], Page], path: str):
    page = demo(path)
    expect(page.locator('[data-testid="stMain"]').get_by_role("heading").first).to_be_visible()
    assert not page.locator('[data-testid="stAlertContentError"]').count()


def test_a_direction_steers_a_live_answer_and_stop_frees_the_worker(demo: Callable[[str], Page], launcher):
    url = worker_of(launcher[0])
    within(120, lambda: health(url)["status"] == "ready")
    page = demo("directions")
    main = page.locator('[data-testid="stMain"]')
    main.get_by_role("button", name="Send to Live").click()
    expect(main.get_by_role("button", name="Generate")).to_be_enabled(timeout=30_000)
    settle(page)
    page.get_by_label("Most tokens").fill("200")
    page.keyboard.press("Enter")
    settle(page)
    main.get_by_role("button", name="Generate").click()
    expect(page.get_by_text(re.compile(r"\d+ tokens, writing"))).to_have_count(2, timeout=60_000)
    expect(page.locator('span[title*="scalar"]').nth(12)).to_be_attached(timeout=60_000)
    assert health(url)["active"]
    main.get_by_role("button", name="Stop").click()
    within(10, lambda: not health(url)["active"])


def test_ctrl_c_leaves_nothing_running(launcher):
    process, _ = launcher
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 0
    within(10, lambda: not any(child.is_running() for child in children))
