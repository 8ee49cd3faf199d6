"""`python -m backend.worker --model smollm2 --organism bad-medical=FOLDER`: load a model and serve live generations.

Knows the command line, the socket and the end of the process: SIGTERM, SIGINT or (with --with-parent) the end of stdin
stop it within two seconds, whatever the model is doing.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from starlette.concurrency import run_in_threadpool

from backend.files import whole
from backend.hosts import bracketed, is_loopback, token_refused
from backend.records import InputError
from backend.worker.access import Admission
from backend.worker.history import History
from backend.worker.intake import TimedHttp
from backend.worker.metrics import requests_log
from backend.worker.protocol import DEFAULT_PORT, TOKEN_VARIABLE, token_in
from backend.worker.service import Service

if TYPE_CHECKING:
    from backend.worker.engine import Engine

RATE = 120  # requests a minute of one client, where others than this machine ask


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; returns the exit code."""
    options = _options(arguments)
    logging.basicConfig(level=logging.WARNING, format="worker: %(message)s")
    if options.log:
        _log_requests()
    local = is_loopback(bracketed(options.host))
    try:
        token = token_in(os.environ)
        refused = token_refused(TOKEN_VARIABLE, token, local=local)
    except InputError as error:
        refused = str(error)
    if refused is not None:
        print(f"worker: {refused}", file=sys.stderr)
        return 2
    if options.with_parent:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        listener = _listen(options.host, options.port)
    except OSError as error:
        reason = error if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        print(f"worker: cannot listen on {options.host} port {options.port}: {reason}", file=sys.stderr)
        return 1
    try:
        history = History(options.history) if options.history else None
    except InputError as error:
        print(f"worker: {error}", file=sys.stderr)
        return 1
    service = Service(
        options.model,
        partial(_load, options.model, dict(options.organism), options.memory),
        history=history,
        admission=Admission(not local, token, options.rate if options.rate is not None else 0 if local else RATE),
    )
    if lost := service.generations.interrupted:
        print(f"worker: {len(lost)} generations were interrupted: {', '.join(sorted(lost)[:10])}", file=sys.stderr)
    server = _Server(service, options.drain)
    for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn's own handlers come later, and raise them again at the end
        signal.signal(number, server.handle_exit)
    url = f"http://{bracketed(options.host)}:{listener.getsockname()[1]}"
    print(f"worker: {options.model} at {url}", flush=True)
    if options.ready_file:
        with whole(options.ready_file) as out:
            out.write(url.encode())
    server.run(sockets=[listener])
    return 0


class _Server(uvicorn.Server):
    """uvicorn, which ends the streams before it waits for them."""

    def __init__(self, service: Service, drain: float = 0.0) -> None:
        super().__init__(
            uvicorn.Config(
                service.app,
                http=TimedHttp,
                log_level="error",
                access_log=False,
                lifespan="off",
                ws="none",
                timeout_graceful_shutdown=1,
            )
        )
        self._service = service
        self._drain = drain

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._drain:
            await run_in_threadpool(self._service.drain, self._drain)
        await run_in_threadpool(self._service.close)
        await super().shutdown(sockets)


def _log_requests() -> None:
    """A line of JSON a request on stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    requests_log.addHandler(handler)
    requests_log.setLevel(logging.INFO)
    requests_log.propagate = False


def _load(model: str, organisms: Mapping[str, str], memory: float | None = None) -> Engine:
    from backend.subject.load import load  # torch is imported in the loading thread: /health answers meanwhile
    from backend.worker.engine import Engine

    return Engine(load(model, organisms=organisms), memory=None if memory is None else int(memory * 2**30))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m backend.worker", description="Serve live generations of one model and its organisms."
    )
    parser.add_argument("--model", required=True, help="smollm2, a folder, a .gguf file or a hub id")
    parser.add_argument(
        "--organism",
        action="append",
        default=[],
        type=_organism,
        metavar="NAME=FOLDER",
        help="a LoRA adapter (peft folder or hub id) that rows can wear; may be given several times",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    parser.add_argument("--port", type=_port, default=DEFAULT_PORT, help=f"0: any free one (default: {DEFAULT_PORT})")
    parser.add_argument("--ready-file", type=Path, help="write the address here once it is listened on")
    parser.add_argument("--history", type=Path, help="keep every question and answer in this folder (default: nowhere)")
    what = "GB that the keys and values of all answers may take (default: a quarter of what is free)"
    parser.add_argument("--memory", type=_positive, help=what)
    what = f"requests a minute of one client, 0 without limit (default: {RATE}; on this machine alone 0)"
    parser.add_argument("--rate", type=_rate, help=what)
    parser.add_argument("--drain", type=_positive, default=0.0, help="seconds that answers may take when told to stop")
    parser.add_argument("--log", action="store_true", help="a line of JSON a request on stderr, without what was said")
    parser.add_argument("--with-parent", action="store_true", help="end when stdin ends: whoever started this is gone")
    return parser.parse_args(arguments)


def _organism(text: str) -> tuple[str, str]:
    name, _, folder = text.partition("=")
    if not name or not folder:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FOLDER")
    return name, folder


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**16:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: 0 to 65535")
    return int(text)


def _rate(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of requests from 0")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return value


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=128)


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a forward pass may still run in the engine's thread: nobody waits for it
