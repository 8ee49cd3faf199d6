"""The engine: one thread that owns the model and writes everybody's answers, one forward pass at a time.

Knows who enters, who leaves and whose error it was. Requests enter before any step in which there is room for all their
arms, so that users with different edits share every forward pass. Refuses to know HTTP: events go to a function.

An error while requests enter ends those requests. An error in a pass that all rows share cannot be laid at one door: it
ends the answers being written, and the engine goes on with an empty decoder and whoever waits.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jinja2 import TemplateError

from backend.edits import Edit
from backend.records import FloatArray, InputError
from backend.subject.chat import prompt_ids
from backend.subject.decode import Decoder, Emission, Request
from backend.subject.edits import compile_row
from backend.subject.load import Subject
from backend.worker.protocol import Busy, Done, End, Event, Failed, Generation, Health, Place, Start, Token

Deliver = Callable[[Sequence[Event]], None]  # called from the engine's thread; must not block or raise

CAPACITY = 64  # rows of one forward pass
QUEUE = 32  # requests that may wait for room
RETRY = 10  # seconds after which a refused request may be sent again
_CHARACTERS = 64  # a prompt of more characters a token of context is refused before it is tokenised

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Key:
    """A decoder row's name. Equal for all arms of a job, so that one call removes them all."""

    job: str
    arm: int = field(default=0, compare=False)


@dataclass(eq=False)
class _Job:
    id: str
    requests: tuple[Request, ...]
    capture: tuple[str, ...]
    deliver: Deliver
    unfinished: set[int]  # arms
    tokens: int = 0
    entered: float = 0.0  # time.perf_counter()

    def cancelled(self) -> list[Event]:
        return [*(End(arm, "cancelled") for arm in sorted(self.unfinished)), self.done()]

    def done(self) -> Done:
        return Done(time.perf_counter() - self.entered if self.entered else 0.0, self.tokens)


class Engine:
    """Starts its thread when made. Every method may be called from any thread."""

    def __init__(self, subject: Subject, *, capacity: int = CAPACITY, queue: int = QUEUE) -> None:
        self.subject = subject
        self._capacity = capacity
        self._queue = queue
        self._decoder = self._new_decoder()
        self._changed = threading.Condition()  # guards the four below
        self._waiting: deque[_Job] = deque()
        self._running: dict[str, _Job] = {}
        self._cancelled: set[str] = set()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def health(self) -> Health:
        """Sizes of the model, its organisms, and how much is going on."""
        return Health(
            status="ready",
            model=self.subject.name,
            layers=len(self.subject.blocks),
            d_model=self.subject.d_model,
            context=self.subject.context,
            organisms={
                name: tuple(
                    Place(adapter, lora.layer, lora.module) for lora in organism.loras for adapter in lora.names
                )
                for name, organism in self.subject.organisms.items()
            },
            active=self._decoder.active,
            waiting=len(self._waiting),
        )

    def submit(self, generation: Generation, deliver: Deliver, id: str = "") -> str:
        """Check a request against the model and queue it; returns its id. Its events go to `deliver`, a Start first.

        Raises InputError on what this model cannot do, and Busy when too many wait already.
        """
        job = self._job(generation, deliver, id or uuid.uuid4().hex)
        tokens = tuple(self.subject.tokenizer.decode([token]) for token in job.requests[0].prompt_ids)
        with self._changed:
            if self._closed:
                raise Busy("the worker is stopping, or its engine has failed: see its output and start it again")
            if len(self._waiting) >= self._queue:
                waiting = f"{len(self._waiting)} requests wait for the model already: try again in a minute"
                raise Busy(waiting, status=429, retry=RETRY)
            deliver([Start(job.id, tokens, tuple(arm.name for arm in generation.arms))])
            self._waiting.append(job)
            self._changed.notify()
        return job.id

    def cancel(self, job: str) -> bool:
        """Stop a request before the next step. False where there is none with this id (any more)."""
        with self._changed:
            known = job in self._running or any(job == waiting.id for waiting in self._waiting)
            if known:
                self._cancelled.add(job)
                self._changed.notify()
            return known

    def ahead(self, job: str) -> int:
        """How many requests enter before this one; 0 once it is being written."""
        with self._changed:
            return next((i for i, waiting in enumerate(self._waiting) if waiting.id == job), 0)

    def close(self, *, timeout: float = 0.5) -> None:
        """End every request with an error event, and the thread with its step; wait at most `timeout` seconds."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout)

    # --- in the caller's thread: what can be refused before it queues ---

    def _job(self, generation: Generation, deliver: Deliver, job: str) -> _Job:
        ids = self._prompt(generation)
        unknown = [name for name in generation.capture if name not in self.subject.organisms]
        if unknown:
            loaded = ", ".join(sorted(self.subject.organisms)) or "none"
            raise InputError(
                f"scalars of {unknown[0]!r} were asked for, but no such organism is loaded: there is {loaded}"
            )
        for arm in generation.arms:
            try:
                _check(self.subject, arm.edits)
            except InputError as error:
                raise InputError(f"arm {arm.name!r}: {error}") from error
        sampling = generation.sampling
        if generation.fits:
            sampling = replace(sampling, max_new_tokens=min(sampling.max_new_tokens, self.subject.context - len(ids)))
        requests = tuple(
            Request(
                _Key(job, i),
                ids,
                arm.edits,
                sampling,
                generation.seed + arm.draw,
                generation.receipts,
                generation.stop,
                generation.likeliest,
            )
            for i, arm in enumerate(generation.arms)
        )
        return _Job(job, requests, generation.capture, deliver, set(range(len(requests))))

    def _prompt(self, generation: Generation) -> tuple[int, ...]:
        context = self.subject.context
        more = 1 if generation.fits else generation.sampling.max_new_tokens
        characters = sum(len(message["content"]) for message in generation.messages)
        if characters > _CHARACTERS * context:
            raise InputError(f"the prompt has {characters:,} characters, far beyond the {context} tokens that are read")
        try:
            ids = prompt_ids(self.subject.tokenizer, [dict(message) for message in generation.messages])
        except TemplateError as error:
            raise InputError(f"the chat template of {self.subject.name} refuses these messages: {error}") from error
        if len(ids) + more > context:
            raise InputError(
                f"the prompt has {len(ids)} tokens and up to {more} more are asked for, but {self.subject.name} reads "
                f"{context} at the most: shorten the prompt or lower max_new_tokens"
            )
        return ids

    # --- in the engine's thread ---

    def _new_decoder(self) -> Decoder:
        return Decoder(self.subject, capture=tuple(self.subject.organisms), capacity=self._capacity)

    def _run(self) -> None:
        try:
            while (turn := self._next()) is not None:
                try:
                    self._turn(*turn)
                except Exception as error:
                    self._decoder = self._new_decoder()
                    self._fail(list(self._running.values()), error)
        finally:  # also where not even a new decoder can be made
            with self._changed:
                self._closed = True
            for job in (*self._running.values(), *self._waiting):
                job.deliver([Failed("the worker was stopped before the answer was finished")])

    def _next(self) -> tuple[list[_Job], list[_Job]] | None:
        """Wait for something to do: the jobs that leave and those that enter before the next step; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._cancelled or self._waiting or self._running)
            if self._closed:
                return None
            leaving = [job for job in (*self._running.values(), *self._waiting) if job.id in self._cancelled]
            self._waiting = deque(job for job in self._waiting if job.id not in self._cancelled)
            for job in leaving:
                self._running.pop(job.id, None)
            self._cancelled.clear()
            return leaving, self._entering()

    def _entering(self) -> list[_Job]:
        rows = sum(len(job.unfinished) for job in self._running.values())
        entering: list[_Job] = []
        while self._waiting and rows + len(self._waiting[0].requests) <= self._capacity:
            job = self._waiting.popleft()
            job.entered = time.perf_counter()
            rows += len(job.requests)
            self._running[job.id] = job
            entering.append(job)
        return entering

    def _turn(self, leaving: Sequence[_Job], entering: Sequence[_Job]) -> None:
        for job in leaving:
            job.deliver(job.cancelled())
            self._decoder.remove(_Key(job.id))
        if entering:
            self._hand_out(self._enter(entering))
        if self._running:  # in the same turn: however many enter, the others go on
            self._hand_out(self._decoder.step())

    def _enter(self, jobs: Sequence[_Job]) -> list[Emission]:
        """Read the prompts of `jobs` and draw their first tokens; an error here is theirs alone."""
        try:
            self._decoder.admit([request for job in jobs for request in job.requests])
            return self._decoder.step()
        except Exception as error:
            for job in jobs:
                self._decoder.remove(_Key(job.id))
            self._fail(jobs, error)
            return []

    def _hand_out(self, emissions: Sequence[Emission]) -> None:
        events: defaultdict[str, list[Event]] = defaultdict(list)
        for emission in emissions:
            assert isinstance(emission.key, _Key)
            job, arm = self._running[emission.key.job], emission.key.arm
            scalars = {organism: emission.scalars[organism] for organism in job.capture}
            events[job.id].append(self._token(arm, emission, scalars))
            job.tokens += 1
            if emission.finished:
                events[job.id].append(End(arm, emission.finished, emission.receipts))
                job.unfinished.remove(arm)
        for id, batch in events.items():
            job = self._running[id]
            if not job.unfinished:
                batch.append(job.done())
                self._forget([job])
            job.deliver(batch)

    def _token(self, arm: int, emission: Emission, scalars: Mapping[str, FloatArray]) -> Token:
        told = emission.likelihood
        if told is None:
            return Token(arm, emission.token_id, emission.text, scalars)
        decode = self.subject.tokenizer.decode
        likeliest = tuple((decode([token]), nats) for token, nats in told.likeliest)
        drawn = decode([emission.token_id]), told.drawn
        return Token(arm, emission.token_id, emission.text, scalars, drawn, likeliest)

    def _fail(self, jobs: Sequence[_Job], error: Exception) -> None:
        _log.error("the engine failed while writing %d answers", len(jobs), exc_info=error)
        self._forget(jobs)
        reason = (str(error).splitlines() or ["no reason given"])[0]
        for job in jobs:
            job.deliver([Failed(f"the engine failed while writing this answer ({type(error).__name__}: {reason})")])

    def _forget(self, jobs: Iterable[_Job]) -> None:
        with self._changed:
            for job in jobs:
                self._running.pop(job.id, None)


def _check(subject: Subject, edits: Sequence[Edit]) -> None:
    """Raise InputError unless `edits` fit the subject and leave finite numbers."""
    with np.errstate(all="ignore"):
        for edit in edits:
            _check_sizes(edit)
        row = compile_row(subject, edits)
    if not row.finite:
        raise InputError("the edits together are not finite: lower their strengths")


def _check_sizes(edit: Edit) -> None:
    for direction in edit.directions:
        if not 1e-12 < direction.norm < 1e12:
            raise InputError(
                f"direction {direction.name[:60]!r} has the norm {direction.norm:g}: "
                "too far from the size of any activation to be used"
            )
    strength = edit.row.strength or 0.0
    if abs(strength) > 1e6:
        raise InputError(f"a strength of {strength:g} is beyond any use: at most 1,000,000 is allowed")
