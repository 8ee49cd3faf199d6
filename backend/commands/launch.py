"""Start the worker and the app together, and end them together.

Knows processes: each program runs in a group of its own, tied to this one by a pipe on its stdin, which ends when this
process ends, however it ends. Imports next to nothing: it stays small beside the two programs while they run.

Run as a program (`python -m backend.commands.launch MODULE ARGUMENTS...`) it runs a module that ends with its stdin.
"""

from __future__ import annotations

import http.client
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

from backend.files import lock
from backend.hosts import APP_TOKEN, bracketed, is_loopback, token_refused
from backend.records import InputError

ROOT = Path(__file__).resolve().parents[2]
GRACE = 3.0  # seconds between asking a program to end and ending it
TICK = 0.1  # seconds
PATIENCE = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # seconds before a program that ended is started again, by how often it did
LASTING = 60.0  # seconds after which a program that ends counts as one that ran well
DOOR = "backend.commands.door"  # the program that asks for the token
HISTORY_LOCK = "history"  # what the worker locks in the folder of its history
MOST_APPS = 20  # of one study at once
_LOCAL = "127.0.0.1"
_ALL = {"0.0.0.0": _LOCAL, "::": "::1"}  # addresses that mean all of a machine, and how it reaches itself


@dataclass(frozen=True)
class Program:
    """One program of several that run together. `name` is what messages call it."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)  # beside the present one
    again: bool = False  # start it again when it ends: the others can do without it for a while
    told: Path | None = None  # where the others can read what became of it; empty while it runs


def launch(study: str, model: str | None, organisms: Mapping[str, Path], host: str, port: int, token: str = "") -> int:
    """Run worker and app until Ctrl-C or SIGTERM (exit code 0), or until the app ends (1).

    A worker that ends is started again, and the app stays: what is stored can be read without it. Without a model
    there is no worker. Prints the address once the app answers, which it does while the model still loads. Raises
    InputError when `port` on `host` is in use, and where others could reach the app without a token.
    """
    if (refused := token_refused(APP_TOKEN, token, local=is_loopback(bracketed(host)))) is not None:
        raise InputError(refused)
    port = _free_port(host, port)
    programs, environment = [], {"EM_STUDY": study, APP_TOKEN: token}
    with TemporaryDirectory(prefix="em-launch-") as folder:
        if model is not None:
            worker_port, told = _free_port(_LOCAL, 0), Path(folder) / "worker"
            command = _worker(model, organisms, worker_port, _history(study))
            programs.append(Program("the worker", command, _quiet(model), again=True, told=told))
            environment |= {"EM_WORKER_URL": f"http://{_LOCAL}:{worker_port}", "EM_WORKER_KEPT": str(told)}
        programs.append(Program("the app", _app(host, port, door=bool(token)), environment))
        near = _ALL.get(host, host)
        message = f"Open http://{bracketed(near)}:{port} (Ctrl-C ends it){_reach(host, door=bool(token))}"
        return run(programs, ready=lambda: _answers(near, port), message=message)


def run(programs: Sequence[Program], *, ready: Callable[[], bool], message: str) -> int:
    """Run all programs until told to stop (0) or until one ends that is not started again (1). None outlives it.

    Prints `message` once `ready`.
    """
    with _stop_signals() as stopped, ExitStack() as stack:
        kept = [stack.enter_context(_kept(program)) for program in programs]
        stack.callback(lambda: _end_all(each.process for each in kept))
        announced = False
        while not stopped.is_set():
            if not all(each.goes_on() for each in kept):
                return 1
            if not announced and ready():
                print(message, flush=True)
                announced = True
            time.sleep(TICK)
        return 0


class _Kept:
    """One program and its present process, which may be another than the first."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._failures = 0
        self._next: float | None = None  # when it is started again; None while it runs
        self._over = False
        self._start()

    def _start(self) -> None:
        self._next, self._since = None, time.monotonic()
        self._tell("")
        self.process = _started(self._program)

    def goes_on(self) -> bool:
        """Whether the others may run on. Starts the program again when its time has come."""
        if self._next is not None:
            if time.monotonic() >= self._next:
                self._start()
        elif not self._over and (code := self.process.poll()) is not None:
            return self._ended(f"{self._program.name} ended ({_cause(code)})")
        return True

    def _ended(self, what: str) -> bool:
        if not self._program.again:
            _say(f"{what}: everything is stopped")
            return False
        _end(self.process)  # what it left behind
        self._failures = 0 if time.monotonic() - self._since > LASTING else self._failures
        if self._failures < len(PATIENCE):
            wait = PATIENCE[self._failures]
            self._failures += 1
            self._next = time.monotonic() + wait
            said = f"{what}: it is started again in {wait:g} s"
        else:
            self._over = True
            said = f"{what} {self._failures + 1} times in a row and is given up: what is stored can still be read"
        self._tell(said[:1].upper() + said[1:])
        _say(said)
        return True

    def _tell(self, text: str) -> None:
        """Where the other programs read it, whole or as before; a full disk keeps nobody from running."""
        if self._program.told is not None:
            with suppress(OSError):
                new = self._program.told.with_suffix(".new")
                new.write_text(text, encoding="utf-8")
                new.replace(self._program.told)


@contextmanager
def _kept(program: Program) -> Iterator[_Kept]:
    """The program, of which nothing runs when the `with` ends."""
    kept = _Kept(program)
    try:
        yield kept
    finally:
        _end(kept.process)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that is set by Ctrl-C, SIGTERM or the terminal's end."""
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _started(program: Program) -> subprocess.Popen[bytes]:
    """A process in a group of its own."""
    return subprocess.Popen(
        program.command,
        cwd=ROOT,
        env={**os.environ, **program.environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,  # banners; what goes wrong is on stderr
        start_new_session=True,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Nothing of the process's group runs after this. Harmless to one that has ended."""
    assert process.stdin is not None
    if process.stdin.closed:
        return
    _end_all([process])
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    _signal(process, signal.SIGKILL)  # what ignored the request, and what the program left behind
    process.wait()
    process.stdin.close()


def _end_all(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        _signal(process, signal.SIGTERM)


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _history(study: str) -> Path:
    """Where the worker keeps what was asked and answered: one folder a study, or a further one where that is taken."""
    folder = Path(os.environ.get("EM_CACHE") or ROOT / "cache") / "live"
    number = 1
    while True:
        home = folder / (study if number == 1 else f"{study}-{number}")
        try:
            with lock(home / HISTORY_LOCK, "looking whether this history is free"):
                return home
        except InputError:
            if number == MOST_APPS:
                raise
            number += 1


def _worker(model: str, organisms: Mapping[str, Path], port: int, history: Path) -> list[str]:
    worn = [f"--organism={name}={folder}" for name, folder in organisms.items()]
    serve = ["--host", _LOCAL, "--port", str(port), "--with-parent", f"--history={history}"]
    return [sys.executable, "-m", "backend.worker", "--model", model, *worn, *serve]


def _reach(host: str, *, door: bool) -> str:
    """What to know where the app asks for a token, and where others can reach it."""
    told = f"\nSign in with the token in {APP_TOKEN}." if door else ""
    if is_loopback(bracketed(host)):
        return told
    who = "every machine that reaches this one" if host in _ALL else f"every machine that reaches {host}"
    return (
        f"{told} Whoever has it on {who} can read the studies here, write labels and have answers written. "
        "It travels unencrypted unless a proxy with TLS stands in front: docs/serve.md. HOST=127.0.0.1 serves this "
        "machine alone."
    )


def _app(host: str, port: int, *, door: bool = False) -> list[str]:
    settings: dict[str, str | int | bool] = {
        "server.headless": True,
        "server.address": host,
        "server.port": port,
        "browser.serverAddress": _ALL.get(host, host),  # or Streamlit asks outside what its address is
        "server.fileWatcherType": "none",
        "logger.level": "warning",
        "browser.gatherUsageStats": False,
    }
    if door:
        return [sys.executable, "-m", __name__, DOOR, json.dumps(settings)]
    options = [word for name, value in settings.items() for word in (f"--{name}", str(value).lower())]
    return [sys.executable, "-m", __name__, "streamlit", "run", str(ROOT / "streamlit_app.py"), *options]


def _quiet(model: str) -> dict[str, str]:
    """No progress bars, except where the model may have to be downloaded first."""
    here = model == "smollm2" or Path(model).expanduser().exists()
    return {"HF_HUB_DISABLE_PROGRESS_BARS": "1"} if here else {}


def _free_port(host: str, port: int) -> int:
    """`port`, or any free one for 0. Raises InputError where it cannot be listened on."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host, port), family=family) as listener:
            return int(listener.getsockname()[1])
    except (OSError, UnicodeError) as error:
        reason = _strerror(error)
        raise InputError(
            f"the app cannot listen on {host} port {port} ({reason}): choose another with --port"
        ) from error


def _strerror(error: OSError | UnicodeError) -> str:
    """Why, without numbers; a name that leads nowhere says so itself."""
    if isinstance(error, UnicodeError | socket.gaierror):
        return str(error)
    return os.strerror(error.errno or 0)


def _answers(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=1)
    try:
        connection.request("GET", "/_stcore/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _cause(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"


def _run_tied(arguments: Sequence[str]) -> None:
    """Run a module as `python -m` does; end this process when stdin ends."""

    def watch() -> None:
        while os.read(0, 4096):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    if arguments[0] in ("streamlit", DOOR):
        _ask_nobody()
    sys.argv = list(arguments)
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


def _ask_nobody() -> None:
    """Streamlit compares a foreign origin with the address that a web service says this machine has: never ask it."""
    from streamlit import net_util

    net_util.get_external_ip = lambda: None


if __name__ == "__main__":
    _run_tied(sys.argv[1:])
