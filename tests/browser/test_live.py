"""Probes, Directions and Live in a real browser: train, send a direction, stream, stop, and leave nothing running."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from playwright.sync_api import Browser, Page, expect

from backend.edits import Add
from tests.browser.conftest import StartApp, button, free_port, parameters, settle
from tests.studies.fake_worker import FakeWorker, fake_worker

pytestmark = pytest.mark.browser
ROOT = Path(__file__).resolve().parents[2]
expect.set_options(timeout=30_000)  # machines that run tests are busy


@pytest.fixture(scope="module")
def worker() -> Iterator[FakeWorker]:
    with fake_worker(pause=0.05) as running:
        yield running


def within(seconds: float, happened: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.02)


def test_both_answers_stream_with_their_scalars_and_stop_frees_the_worker(
    live: Callable[[str], Page], worker: FakeWorker
):
    page = live("live?live_tokens=500")
    button(page, "Generate").click()
    writing = page.get_by_text(re.compile(r"\d+ tokens, writing"))
    expect(writing).to_have_count(2)
    first = writing.first.inner_text()
    page.wait_for_timeout(600)
    assert writing.first.inner_text() != first
    assert page.locator('span[title*="scalar +"]').count() > 2
    assert worker.active == 2
    button(page, "Stop").click()
    within(2, lambda: worker.active == 0)
    expect(page.get_by_text(re.compile(r"\d+ tokens, stopped"))).to_have_count(2)
    expect(page.get_by_text("plain1 ", exact=False).first).to_be_visible()


@pytest.mark.parametrize("leave", ["a widget", "a reload", "a closed tab"])
def test_whatever_leaves_the_answers_comes_back_to_them(
    live: Callable[[str], Page], browser: Browser, worker: FakeWorker, leave: str
):
    page = live("live?live_tokens=120")
    button(page, "Generate").click()
    expect(page.get_by_text(re.compile(r"\d+ tokens, writing"))).to_have_count(2)
    there = page
    match leave:
        case "a widget":
            page.get_by_text("System prompt").first.click()
            page.get_by_label("Seed").fill("3")
            page.keyboard.press("Enter")
        case "a reload":
            page.reload()
        case "a closed tab":
            address = page.url
            assert "live_run=" in address
            page.goto("about:blank")
            there = browser.new_page()
            there.goto(address)
    expect(there.get_by_text("120 tokens, reached the limit of tokens")).to_have_count(2)
    expect(there.get_by_text("plain119", exact=False).first).to_be_visible()
    assert len(worker.kept) % 2 == 0
    if there is not page:
        assert not there.locator('[data-testid="stException"]').count()
        there.close()
        page.go_back()
        settle(page)


def test_a_direction_goes_from_its_page_into_a_generation(live: Callable[[str], Page], worker: FakeWorker):
    page = live("directions")
    button(page, "Send to Live").click()
    expect(button(page, "Generate")).to_be_visible()
    settle(page)
    chosen = parse_qs(parameters(page))
    assert chosen["live_edits_b"] == ["1"]
    assert re.fullmatch(r"misaligned minus aligned.* #[0-9a-f]{12}", chosen["live_direction_b_0"][0])
    page.get_by_label("Most tokens").fill("3")
    page.keyboard.press("Enter")
    settle(page)
    button(page, "Generate").click()
    expect(page.get_by_text("3 tokens, reached the limit of tokens")).to_have_count(2)
    (added,) = worker.requests[-1].arms[0].edits
    assert isinstance(added, Add)
    assert added.direction.layer == int(chosen["live_layer_b_0"][0])
    assert added.direction.name.startswith("misaligned minus aligned")


def test_a_probe_is_trained_beside_chance(live: Callable[[str], Page]):
    page = live("probes?probes_split=token")
    expect(page.get_by_text("This split leaks")).to_be_visible()
    button(page, "Train").click()
    expect(page.get_by_text("under shuffled labels:")).to_be_visible(timeout=60_000)
    settle(page)
    expect(page.locator('[data-testid="stVegaLiteChart"]').nth(2)).to_be_visible()  # metrics, ROC, calibration at least


SERVE = """
import sys, time
from tests.studies import fake_worker
from http.server import ThreadingHTTPServer as Server
handler = type("Handler", (fake_worker._Handler,), {"worker": fake_worker.FakeWorker()})
Server(("127.0.0.1", int(sys.argv[1])), handler).serve_forever()
"""


@contextmanager
def worker_process(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A worker in a process of its own, which can be killed."""
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(port)], cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("path", ["overview", "live"])
def test_a_page_that_nobody_touches_follows_the_death_and_the_return_of_the_worker(
    start_app: StartApp, browser: Browser, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    port, told = free_port(), tmp_path / "worker"
    monkeypatch.setenv("EM_WORKER_KEPT", str(told))
    told.write_text("")
    # a page says it 3 s after (EVERY and FRESH of panels/frame.py); where eight processes share two cores, a look that
    # takes a tenth of a second takes ten
    soon = 20_000
    with start_app(f"http://127.0.0.1:{port}") as url, closing(browser.new_page()) as page:
        status = page.locator('[data-testid="stSidebar"]').get_by_text(re.compile("Worker|worker"))
        with worker_process(port) as worker:
            page.goto(f"{url}/{path}")
            settle(page)
            expect(status).to_contain_text("Worker ready: tiny")
            worker.kill()
            expect(status).to_contain_text("No worker", timeout=soon)
        told.write_text("The worker ended 7 times in a row and is given up")
        expect(status).to_contain_text("is given up", timeout=soon)
        told.write_text("")
        with worker_process(port):
            expect(status).to_contain_text("Worker ready: tiny", timeout=soon)
            if path == "live":
                expect(page.get_by_text("the worker is missing")).to_have_count(0, timeout=soon)
                page.get_by_label("Most tokens").fill("3")
                page.keyboard.press("Enter")
                settle(page)
                button(page, "Generate").click()
                expect(page.get_by_text("3 tokens, reached the limit of tokens")).to_have_count(2)
            settle(page)
        assert not page.locator('[data-testid="stException"]').count()


KEEP = """
import sys
from pathlib import Path
import uvicorn
from backend.worker.history import History
from backend.worker.protocol import Health
from backend.worker.service import Service
from tests.worker.scripted import ScriptedEngine

class Engine(ScriptedEngine):
    def health(self):
        return Health("ready", "synthetic", 12, 16, 256, rows=16)

engine = Engine(0.1, tuple(f" word{at}" for at in range(60)))
service = Service("synthetic", lambda: engine, history=History(Path(sys.argv[2])))
uvicorn.run(service.app, port=int(sys.argv[1]), log_level="error", lifespan="off", ws="none")
"""


@contextmanager
def keeping_worker(port: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The worker's own service with a history on the disk, and an engine without a model."""
    process = subprocess.Popen([sys.executable, "-c", KEEP, str(port), str(folder)], cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_two_browsers_steer_at_once_and_each_reopens_its_history_after_a_kill(
    start_app: StartApp, browser: Browser, tmp_path: Path
):
    port = free_port()
    lanes = "live?live_edits_b=1&live_direction_b_0=misalignment&live_strength_b_0="
    with start_app(f"http://127.0.0.1:{port}") as url, ExitStack() as tabs:
        contexts = [tabs.enter_context(closing(browser.new_context())) for _ in range(2)]
        pages = [context.new_page() for context in contexts]
        with keeping_worker(port, tmp_path / "history") as worker:
            for strength, page in zip((2, 3), pages, strict=True):
                page.goto(f"{url}/{lanes}{strength}")
                settle(page)
                expect(button(page, "Generate")).to_be_enabled(timeout=30_000)
            for page in pages:
                button(page, "Generate").click()
            for page in pages:
                expect(page.get_by_text(re.compile(r"\d+ tokens, writing"))).to_have_count(2)
            worker.kill()
            worker.wait()
        addresses = [page.url for page in pages]
        seen = [page.locator('[data-testid="stHtml"]').first.inner_text().split() for page in pages]
        assert all(address.count("live_run=") == 1 for address in addresses)
        with keeping_worker(port, tmp_path / "history"):
            for strength, page in zip((2, 3), pages, strict=True):  # it goes on by itself
                expect(page.get_by_text("the worker ended before the answer was finished")).to_have_count(2)
                expect(page.get_by_text(f"λ {strength}.00", exact=False).first).to_be_visible()
            for address, words, context in zip(addresses, seen, contexts, strict=True):
                fresh = context.new_page()
                fresh.goto(address)
                expect(fresh.get_by_text("the worker ended before the answer was finished")).to_have_count(2)
                kept = fresh.locator('[data-testid="stHtml"]').first.inner_text().split()
                assert kept[: len(words)] == words
                fresh.get_by_text("History").last.click()
                expect(fresh.get_by_text("4 of 4 generations", exact=False)).to_be_visible()
