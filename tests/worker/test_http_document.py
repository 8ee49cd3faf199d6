"""docs/http.md: what it tells to type runs, against a worker without a model."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from backend.worker.__main__ import _options
from backend.worker.openapi import openapi
from tests.worker.conftest import serving
from tests.worker.scripted import ScriptedEngine

TEXT = (Path(__file__).resolve().parents[2] / "docs/http.md").read_text()
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", TEXT, re.DOTALL)
PYTHON = [code for kind, code in BLOCKS if kind == "python"]
SHELL = [line for kind, code in BLOCKS if kind == "sh" for line in code.replace("\\\n", "").splitlines()]
ADDRESS = "http://127.0.0.1:8600"


@pytest.fixture(scope="module")
def url():
    with serving(ScriptedEngine) as worker:
        yield worker.url


@pytest.mark.parametrize("code", PYTHON)
def test_python_runs(url, code, capsys):
    assert ADDRESS in code
    names: dict[str, object] = {}
    exec(code.replace(ADDRESS, url), names)
    names["client"].close()
    assert "receipts" in capsys.readouterr().out or "receipts" in code


@pytest.mark.parametrize("line", [line for line in SHELL if line.startswith("curl")])
def test_curl_runs(url, line):
    done = subprocess.run(
        shlex.split(line.replace(ADDRESS, url)), capture_output=True, text=True, timeout=60, check=True
    )
    assert '"judge":' in done.stdout if "/v1/scores" in line else '"object":' in done.stdout, done.stdout


def test_the_workers_options_are_its_own():
    [start] = [line for line in SHELL if "backend.worker" in line]
    assert _options(shlex.split(start)[3:]).model == "smollm2"
    for option in set(re.findall(r"`(--[a-z]+)", TEXT)):
        if option not in ("--log",):
            _options(["--model", "x", option, "1"])


def test_every_route_that_it_names_is_served():
    known = {re.sub(r"\{.*?\}", "ID", path) for path in openapi()["paths"]} | {"/openapi.json"}
    named = set(re.findall(r"`(?:GET |POST )?(/[\w./{}-]+)`", TEXT))
    assert {re.sub(r"\{.*?\}", "ID", path) for path in named} <= known
