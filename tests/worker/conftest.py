"""A tiny model behind a real server on a real socket."""

import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import uvicorn

from backend.records import Direction
from backend.worker.client import Worker
from backend.worker.engine import Engine
from backend.worker.intake import TimedHttp
from backend.worker.service import Service
from tests.studies import tiny

CONTEXT = 4096


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def folder(tmp_path):
    return tiny.adapter(tmp_path / "organism")


@pytest.fixture
def subject(folder):
    return tiny.subject(organisms={"o": folder}, max_position_embeddings=CONTEXT)


@pytest.fixture
def engines():
    """Makes engines and closes them."""
    made = []

    def make(*args, **kwargs):
        made.append(Engine(*args, **kwargs))
        return made[-1]

    yield make
    for engine in made:
        engine.close(timeout=5)


def endless(subject, seconds=0.01):
    """Never stops by itself, and takes at least `seconds` a step."""

    def hook(module, inputs, output):
        time.sleep(seconds)
        output[..., 2] = -1e9
        return output

    subject.model.lm_head.register_forward_hook(hook)
    return subject


def direction(layer=2, width=tiny.D_MODEL, seed=3):
    return Direction("v", layer, np.random.default_rng(seed).normal(size=width).astype(np.float32))


@contextmanager
def serving(load, **options):
    """A Worker client of a server that runs in a thread on a free port."""
    service = Service("tiny", load, **options)
    server = uvicorn.Server(
        uvicorn.Config(service.app, http=TimedHttp, port=0, log_level="error", lifespan="off", ws="none")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Worker(f"http://127.0.0.1:{port}")
    finally:
        service.close()
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture
def ready(subject, engines):
    """A client of a worker whose tiny model is loaded."""
    with serving(lambda: engines(subject)) as worker:
        wait(lambda: worker.health().status == "ready")
        yield worker


def wait(condition, seconds=10.0):
    """How long it took until `condition` held."""
    started = time.perf_counter()
    while not condition():
        assert time.perf_counter() - started < seconds, "waited in vain"
        time.sleep(0.005)
    return time.perf_counter() - started
