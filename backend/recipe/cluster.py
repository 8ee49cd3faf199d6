"""Answers on a Ray cluster: actors that hold the model, each given the next block of cells when it is free.

A block is the same on a cluster as on one machine. Ray places actors, starts them and says which are lost; here a lost
actor's block is given to the next that is free, and Ray is asked for an actor in its place.
"""

from __future__ import annotations

import importlib
import io
import os
import socket
import tarfile
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import backend
from backend.outside import in_a_line
from backend.pipeline.sweep import Answered, Progress, Sweep
from backend.recipe.bench import Bench, base_of
from backend.recipe.cells import Block, answered
from backend.records import InputError
from backend.subject.load import Subject, load

LOSSES = 20  # actors of one run that may be lost before the cluster is given up
_ADAPTER = ("adapter_config.json", "adapter_model.safetensors")


class Answering:
    """What an actor is: a process of some node that holds the model and answers one block at a time."""

    def __init__(self) -> None:
        self._subject: Subject | None = None

    def begin(self, base: str, organisms: bytes) -> str | None:
        """Load the model with its organisms; what is wrong where that cannot be."""
        place = Path(tempfile.mkdtemp(prefix="organisms-"))
        with tarfile.open(fileobj=io.BytesIO(organisms)) as archive:
            archive.extractall(place, filter="data")
        try:
            self._subject = load(base, organisms={folder.name: folder for folder in sorted(place.iterdir())})
        except InputError as error:
            return f"node {os.uname().nodename}: {error}"
        return None

    def answer(self, block: Sweep, batch: int) -> list[Answered]:
        """The answers to a block."""
        assert self._subject
        return answered(self._subject, block, batch)


def _reach(address: str) -> None:
    """Raise OSError where nobody listens at HOST:PORT; what is no such address, Ray looks up itself."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=10).close()


def packed(organisms: Mapping[str, Path]) -> bytes:
    """The adapters of organisms as one archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, folder in organisms.items():
            for file in _ADAPTER:
                archive.add(folder / file, f"{name}/{file}")
    return out.getvalue()


@dataclass(eq=False)
class Cluster:
    """A cluster that this process is connected to."""

    ray: Any
    bench: Bench
    _free: list[Any] = field(default_factory=list)  # actors that wait for the next stage
    _worn: bytes = b""  # what they hold
    lost: int = 0  # actors, so far

    @classmethod
    @contextmanager
    def at(cls, address: str, bench: Bench) -> Iterator[Cluster]:
        """Connect for the time of a block. Raises InputError where Ray is not installed, or nobody answers there."""
        try:
            ray = importlib.import_module("ray")
        except ImportError as error:
            raise InputError("Ray is not installed: pip install -r requirements-ray.txt, or leave --ray out") from error
        environment = {
            "env_vars": {
                "PYTHONPATH": str(Path(str(backend.__file__)).parents[1]),  # the project lies there on every node
                "EM_STUDIES": str(Path(tempfile.gettempdir()) / "emergent-misalignment" / "studies"),
            }
        }
        try:
            _reach(address)  # Ray itself asks again for minutes
            ray.init(address=address, runtime_env=environment, log_to_driver=False, logging_level="ERROR")
        except Exception as error:  # of its own, of gRPC, of the operating system
            raise InputError(
                f"no Ray cluster answers at {address!r} ({in_a_line(error)}): start one with `ray start --head`, and "
                "give HOST:PORT of its head, or auto on one of its nodes"
            ) from error
        try:
            yield cls(ray, bench)
        finally:
            ray.shutdown()

    def blocks(self, subject: Subject, blocks: Sequence[Sweep], batch: int, progress: Progress) -> Iterator[Block]:
        """The blocks as they are answered, in any order.

        Raises InputError where a node has not the model, or actors are lost again and again.
        """
        left, every, done = deque(blocks), sum(block.size for block in blocks), 0
        organisms = self._organisms()
        working: dict[Any, tuple[Any, Sweep | None]] = {}  # what is awaited -> of which actor, and for which block

        def give(actor: Any) -> None:
            """The next block, where one is left."""
            if left:
                block = left.popleft()
                working[actor.answer.remote(block, batch)] = actor, block
            else:
                self._free.append(actor)

        for _ in range(max(0, min(self._room(), len(blocks)) - len(self._free))):
            self._start(working, organisms)
        for actor in [self._free.pop() for _ in range(len(self._free))]:
            give(actor)
        try:
            while left or any(block for _, block in working.values()):
                [ready], _ = self.ray.wait(list(working), num_returns=1)
                actor, block = working.pop(ready)
                try:
                    answer = self.ray.get(ready)
                except self.ray.exceptions.RayActorError as error:
                    self.lost += 1
                    if self.lost > LOSSES:
                        raise InputError(
                            f"{self.lost} actors of the cluster were lost ({in_a_line(error)}): see its nodes (ray "
                            "status), and run again: what is answered is kept"
                        ) from error
                    left.extendleft([block] if block else [])
                    if self._free:  # whose room a new actor may be waiting for
                        give(self._free.pop())
                    else:
                        self._start(working, organisms)
                    continue
                if block is None and answer:
                    raise InputError(f"{answer} Put the model there, under that name, on every node")
                give(actor)
                if block:
                    done += block.size
                    progress(done, every)
                    yield block, answer
        finally:
            for actor, _ in working.values():
                self.ray.kill(actor)

    def _organisms(self) -> Any:
        """Where actors find the organisms of the folder; those that hold others end."""
        archive = packed(self.bench.folder.organisms)
        if archive != self._worn:
            for actor in self._free:
                self.ray.kill(actor)
            self._free, self._worn = [], archive
        return self.ray.put(archive)

    def _start(self, working: dict[Any, tuple[Any, Sweep | None]], organisms: Any) -> None:
        """One more actor, which loads the model as soon as there is room for it."""
        part = self.bench.read.recipe.cluster
        actor = self.ray.remote(Answering).options(num_cpus=part.cpus, num_gpus=part.gpus).remote()
        working[actor.begin.remote(base_of(self.bench.read), organisms)] = actor, None

    def _room(self) -> int:
        """How many actors there are to be. Raises InputError where the cluster has not room for one."""
        part, there = self.bench.read.recipe.cluster, self.ray.cluster_resources()
        room = int(there.get("CPU", 0) // part.cpus)
        room = min(room, int(there.get("GPU", 0) // part.gpus)) if part.gpus else room
        if room < 1:
            has = f"{there.get('CPU', 0):g} CPUs and {there.get('GPU', 0):g} GPUs"
            raise InputError(
                f"the cluster has {has}, and one actor takes {part.cpus:g} and {part.gpus:g}: ask for less under "
                "cluster in the recipe, or add nodes"
            )
        return min(room, part.actors or room)
