"""The process: `python -m backend.worker` answers at once, loads, ends when told to, and says why it cannot start."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from unittest.mock import Mock

import pytest

from backend.edits import Gain
from backend.records import Sampling
from backend.worker.__main__ import _load, _Server, main
from backend.worker.client import Arm, Token, Worker
from backend.worker.service import Service
from tests.studies import tiny
from tests.worker.conftest import serving, wait

ENDS = 5.0  # seconds; it takes 0.3 to 0.6 on an idle machine


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny.model(max_position_embeddings=4096).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def start(tmp_path):
    """Starts workers; what a test leaves running is killed."""
    started = []

    def make(*arguments, **options):
        ready = tmp_path / f"ready-{len(started)}"
        command = [sys.executable, "-m", "backend.worker", "--port", "0", "--ready-file", ready, *arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, **options)
        started.append(process)
        wait(ready.exists, seconds=60)
        return process, Worker(ready.read_text())

    yield make
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()


def ends(process):
    """Exit code and seconds until the process is gone."""
    began = time.perf_counter()
    code = process.wait(10)
    return code, time.perf_counter() - began


def test_from_nothing_to_tokens_and_a_prompt_end_in_the_middle_of_them(start, model, folder):
    process, worker = start("--model", model, "--organism", f"o={folder}")
    assert worker.health().status == "loading"
    wait(lambda: worker.health().status != "loading", seconds=120)
    health = worker.health()
    assert (health.status, health.error, list(health.organisms)) == ("ready", "", ["o"])
    arms = [Arm("base"), Arm("organism", (Gain("o", 1.0),))] * 8
    events = worker.generate("hello", arms, Sampling(max_new_tokens=2000), capture=["o"])
    token = next(event for event in events if isinstance(event, Token))
    assert token.scalars["o"].shape == (3,)
    process.send_signal(signal.SIGTERM)
    code, seconds = ends(process)
    assert code == 0
    assert seconds < ENDS


def test_an_interrupt_ends_it_while_it_loads(start, model):
    process, worker = start("--model", model)
    assert worker.health().status == "loading"
    process.send_signal(signal.SIGINT)
    code, seconds = ends(process)
    assert code == 0
    assert seconds < ENDS


def test_a_signal_that_comes_before_the_server_runs_is_not_lost():
    service = Service("none", Mock())
    server = _Server(service)
    server.handle_exit(signal.SIGTERM, None)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        thread.join(5)
    assert not thread.is_alive()


def test_it_ends_with_its_parent(start, model):
    process, _ = start("--model", model, "--with-parent", stdin=subprocess.PIPE)
    assert process.poll() is None
    process.stdin.close()
    _, seconds = ends(process)
    assert seconds < ENDS


def test_a_model_that_is_none_is_reported_by_health(tmp_path):
    with serving(lambda: _load(str(tmp_path), {})) as worker:
        wait(lambda: worker.health().status == "failed")
        assert "no config.json" in worker.health().error


def test_a_port_in_use_is_said_plainly():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        command = [sys.executable, "-m", "backend.worker", "--model", "x", "--port", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert done.stderr == f"worker: cannot listen on 127.0.0.1 port {port}: Address already in use\n"


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--organism", "folder", "is not NAME=FOLDER"),
        ("--organism", "=folder", "is not NAME=FOLDER"),
        ("--organism", "name=", "is not NAME=FOLDER"),
        ("--port", "70000", "is no port"),
        ("--port", "-1", "is no port"),
        ("--rate", "-5", "is no number of requests"),
        ("--rate", "1.5", "is no number of requests"),
        ("--rate", "9" * 30, "is no number of requests"),
    ],
)
def test_malformed_options_are_refused(capsys, option, value, message):
    with pytest.raises(SystemExit) as caught:
        main(["--model", "x", f"{option}={value}"])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_a_host_that_is_none_is_said_plainly(capsys, monkeypatch):
    monkeypatch.setenv("EM_WORKER_TOKEN", "a-token-of-some-length")
    assert main(["--model", "x", "--host", "no host", "--port", "0"]) == 1
    assert capsys.readouterr().err.startswith("worker: cannot listen on no host port 0: ")
