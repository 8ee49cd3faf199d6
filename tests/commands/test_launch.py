"""The launcher: two programs start together and end together, however the end comes."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time

import psutil
import pytest

from backend.commands.launch import _app, _history, _reach, launch
from backend.records import InputError
from backend.worker.history import History
from tests.studies import tiny

STAND_IN = """
    import os, pathlib, signal, subprocess, sys, time
    folder, name, *habits = sys.argv[1:]
    if "stubborn" in habits:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) if "parent" in habits else None
    pathlib.Path(folder, f".{name}").write_text(" ".join(str(p) for p in (os.getpid(), child and child.pid) if p))
    pathlib.Path(folder, f".{name}").rename(pathlib.Path(folder, f"{name}.pid"))
    print("a banner that nobody wants")
    with pathlib.Path(folder, f"{name}.starts").open("a") as starts:
        starts.write("x")
    time.sleep(0.5 if "brief" in habits else 0 if "hopeless" in habits else 60)
    sys.exit(7)
"""
DRIVER = """
    import pathlib, signal, sys
    from backend.commands import launch

    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
    launch.GRACE, launch.PATIENCE = 0.5, (0.2, 0.3)
    folder = pathlib.Path(sys.argv[1])
    def program(name, *habits):
        tied = ["-m", "backend.commands.launch", "stand_in"]
        command = [sys.executable, *tied, str(folder), name, *habits]
        told = folder / f"{name}.told"
        return launch.Program(name, command, {"PYTHONPATH": str(folder)}, again="again" in habits, told=told)
    def ready():
        return all((folder / f"{name}.pid").exists() for name in ("one", "two"))
    programs = [program("one", *sys.argv[2].split()), program("two")]
    sys.exit(launch.run(programs, ready=ready, message="all is ready"))
"""


@pytest.fixture
def driver(tmp_path):
    """Starts the launcher with two stand-ins, of which the first has habits; gives it and all pids once it is ready."""
    (tmp_path / "stand_in.py").write_text(textwrap.dedent(STAND_IN))
    started = []

    def start(habits=""):
        command = [sys.executable, "-c", textwrap.dedent(DRIVER), str(tmp_path), habits]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "all is ready\n"
        pids = [int(pid) for file in sorted(tmp_path.glob("*.pid")) for pid in file.read_text().split()]
        return process, [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]  # one may have ended at once

    yield start
    for process in started:
        process.terminate()
        process.wait(10)
        process.stdout.close()
        process.stderr.close()


def gone(processes, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(map(runs, processes)):
        time.sleep(0.02)
    return not any(map(runs, processes))


def runs(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_all_and_is_no_error(driver, number):
    process, programs = driver()
    process.send_signal(number)
    assert process.wait(10) == 0
    assert gone(programs, 0.1)
    assert process.stdout.read() == process.stderr.read() == ""


def test_one_that_ends_takes_the_other_along_and_is_named(driver):
    process, programs = driver("brief")
    assert process.wait(10) == 1
    assert gone(programs, 0.1)
    assert process.stderr.read() == "one ended (exit code 7): everything is stopped\n"


def test_one_that_is_killed_is_named(driver):
    process, programs = driver()
    programs[1].kill()
    assert process.wait(10) == 1
    assert gone(programs, 0.1)
    assert process.stderr.read() == "two ended (killed by SIGKILL): everything is stopped\n"


def test_one_that_is_kept_is_started_again_and_the_other_runs_on(driver, tmp_path):
    process, (one, child, two) = driver("again parent")
    (tmp_path / "one.pid").unlink()
    one.kill()
    assert process.stderr.readline() == "one ended (killed by SIGKILL): it is started again in 0.2 s\n"
    deadline = time.monotonic() + 20
    while not (tmp_path / "one.pid").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    second = [psutil.Process(int(pid)) for pid in (tmp_path / "one.pid").read_text().split()]
    assert runs(two)
    assert (tmp_path / "one.told").read_text() == ""
    assert gone([one, child], 0.1)
    assert process.poll() is None
    process.terminate()
    assert process.wait(10) == 0
    assert gone([*second, two], 0.1)


def test_one_that_ends_at_once_again_and_again_is_given_up_and_the_other_runs_on(driver, tmp_path):
    process, programs = driver("again hopeless")
    lines = [process.stderr.readline() for _ in range(3)]
    assert lines == [
        "one ended (exit code 7): it is started again in 0.2 s\n",
        "one ended (exit code 7): it is started again in 0.3 s\n",
        "one ended (exit code 7) 3 times in a row and is given up: what is stored can still be read\n",
    ]
    assert (tmp_path / "one.told").read_text() == f"O{lines[-1][1:-1]}"
    assert (tmp_path / "two.told").read_text() == ""
    assert (tmp_path / "one.starts").read_text() == "xxx"
    assert process.poll() is None
    assert runs(programs[-1])
    programs[-1].kill()
    assert process.wait(10) == 1


def test_others_are_told_of_only_where_they_can_reach_the_app():
    assert [_reach(host, door=False) for host in ("127.0.0.1", "localhost", "::1")] == [""] * 3
    assert _reach("127.0.0.1", door=True) == "\nSign in with the token in EM_TOKEN."
    assert "Whoever has it on every machine that reaches this one can read" in _reach("0.0.0.0", door=True)
    assert "every machine that reaches 10.0.0.7 can" in _reach("10.0.0.7", door=True)


@pytest.mark.parametrize(("token", "why"), [("", "sets a token in EM_TOKEN"), ("short", "at least 16")])
def test_nobody_else_reaches_an_app_without_a_token(token, why):
    with pytest.raises(InputError, match=why):
        launch("none", None, {}, "0.0.0.0", 0, token)


def test_the_history_of_an_app_that_runs_is_left_to_it(tmp_path, monkeypatch):
    monkeypatch.setenv("EM_CACHE", str(tmp_path))
    assert _history("demo") == tmp_path / "live" / "demo"
    worker = History(tmp_path / "live" / "demo")  # as a worker holds it
    assert _history("demo") == tmp_path / "live" / "demo-2"
    worker.close()
    assert _history("demo") == tmp_path / "live" / "demo"


@pytest.mark.parametrize("host", ["127.0.0.1", "::", "0.0.0.0", "10.0.0.7"])
def test_streamlit_never_asks_what_its_address_is(host):
    """It would in its banner, unless it has an address that is its own, and at every origin that it refuses."""
    command = _app(host, 8501)
    assert command[command.index("--browser.serverAddress") + 1] not in {"0.0.0.0", "::"}
    code = (
        "from backend.commands.launch import _ask_nobody; import requests; requests.get = None\n"
        "_ask_nobody(); from streamlit.web.server.server_util import is_url_from_allowed_origins as allowed\n"
        "from streamlit import net_util; net_util._make_blocking_http_get = None; print(allowed('http://evil.test'))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_the_stubborn_and_their_children_are_ended_too(driver):
    process, programs = driver("stubborn parent")
    assert len(programs) == 3
    process.terminate()
    assert process.wait(10) == 0
    assert gone(programs, 0.1)


def test_programs_end_although_the_launcher_was_killed(driver):
    process, programs = driver()
    process.kill()
    assert gone(programs, 5)


def test_a_port_in_use_is_said_plainly():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(InputError, match=rf"cannot listen on 127.0.0.1 port {port} \(Address already in use\)"):
            launch("none", "none", {}, "127.0.0.1", port)
    with pytest.raises(InputError, match=r"cannot listen on x+ port 0 \(.*: choose another"):
        launch("none", "none", {}, "x" * 300, 0, "a-token-of-some-length")


def test_worker_and_app_for_real(tmp_path):
    model = tmp_path / "model"
    tiny.model().save_pretrained(model)
    tiny.tokenizer().save_pretrained(model)
    organism = tiny.adapter(tmp_path / "organism")
    code = (
        "import sys; from backend.commands.launch import launch\n"
        "sys.exit(launch('none', sys.argv[1], {'o': sys.argv[2]}, '127.0.0.1', 0))"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "EM_STUDIES": str(tmp_path)}
    command = [sys.executable, "-c", code, model, organism]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        said = process.stdout.readline()
        assert said.startswith("Open http://127.0.0.1:"), process.stderr.read()
        assert fetch(said.split()[1], "/")[0] == 200
        programs = psutil.Process(process.pid).children(recursive=True)
        worker = next(p.environ()["EM_WORKER_URL"] for p in programs if "streamlit" in p.cmdline())
        deadline = time.monotonic() + 120
        while (health := json.loads(fetch(worker, "/health")[1]))["status"] == "loading":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert (health["status"], list(health["organisms"])) == ("ready", ["o"])
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert gone(programs, 0.1)
        assert process.stdout.read() == process.stderr.read() == ""
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()
        process.stderr.close()


def fetch(url, path):
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    connection.request("GET", path)
    reply = connection.getresponse()
    status, body = reply.status, reply.read()
    connection.close()
    return status, body
