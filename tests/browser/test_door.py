"""The app behind its token, in a real browser: the form, the page behind it, and an address that holds the token."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import ROOT, free_port, settle

pytestmark = pytest.mark.browser
TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def guarded(studies: Path) -> Iterator[str]:
    """The address of an app that asks for a token, without a worker."""
    port = free_port()
    code = (
        "import sys; from backend.commands.launch import launch\n"
        f"sys.exit(launch('synthetic', None, {{}}, '127.0.0.1', {port}, {TOKEN!r}))"
    )
    environment = {**os.environ, "EM_STUDIES": str(studies), "EM_CACHE": str(studies / "cache")}
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        process.stdout.readline()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=20)
        process.stdout.close()


def test_who_signs_in_is_where_the_link_led_and_stays_signed_in(guarded: str, browser: Browser):
    with closing(browser.new_context()) as context:
        page = context.new_page()
        page.goto(f"{guarded}/live?live_seed=3")
        page.get_by_label("The token of this app").fill("another token of some length")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_have_text("That is not the token of this app.")
        page.get_by_label("The token of this app").fill(TOKEN)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Live")).to_be_visible()
        settle(page)
        assert page.get_by_label("Seed").input_value() == "3"
        again = context.new_page()
        again.goto(f"{guarded}/responses")
        expect(again.get_by_role("heading", name="Responses")).to_be_visible()


def test_an_address_with_the_token_leads_to_one_without_it(guarded: str, browser: Browser):
    with closing(browser.new_context()) as context:
        page = context.new_page()
        page.goto(f"{guarded}/live?token={TOKEN}&live_seed=4")
        expect(page.get_by_role("heading", name="Live")).to_be_visible()
        settle(page)
        assert not re.search(TOKEN, page.url)
        assert page.get_by_label("Seed").input_value() == "4"
