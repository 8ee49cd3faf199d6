"""inspect-ai, from an environment of its own, runs a small task against an organism and against a steered base.

`EM_INSPECT` is its program: `pip install -r tests/worker/requirements-inspect.txt` in that environment puts it there.
"""

import json
import os
import subprocess

import pytest

from tests.studies import tiny
from tests.worker.conftest import serving, wait

PROGRAM = os.environ.get("EM_INSPECT", "")
TASK = """
from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import includes
from inspect_ai.solver import generate

@task
def small():
    return Task(dataset=[Sample(input=q, target="none") for q in ("a", "b", "c")], solver=generate(), scorer=includes())
"""
STEERED = {
    "steering": {"vectors": [{"data": {"2": [0.5] * tiny.D_MODEL}, "apply": {"generation": "all"}}]},
    "lora": [{"name": "o", "scale": 0.5}],
}


@pytest.mark.skipif(not PROGRAM, reason="EM_INSPECT names no inspect program")
@pytest.mark.parametrize(("model", "extra"), [("o", {}), ("base", STEERED)], ids=["organism", "steered base"])
def test_a_small_task_runs(subject, engines, tmp_path, model, extra):
    (tmp_path / "small.py").write_text(TASK)
    options = ["--max-tokens", "8", "--log-dir", str(tmp_path / "logs"), "--log-format", "json", "--display", "none"]
    environment = {**os.environ, "OPENAI_API_KEY": "none"}
    with serving(lambda: engines(subject)) as worker:
        wait(lambda: worker.health().status == "ready")
        served = ["--model", f"openai/{model}", "--model-base-url", f"{worker.url}/v1", "-M", "responses_api=false"]
        given = ["--extra-body", json.dumps(extra)] if extra else []
        command = [PROGRAM, "eval", "small.py", *served, *given, *options]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=120)
    [log] = (tmp_path / "logs").glob("*.json")
    found = json.loads(log.read_text())
    assert (found["status"], len(found["samples"])) == ("success", 3)
    assert all(sample["output"]["choices"][0]["message"]["content"] for sample in found["samples"])
