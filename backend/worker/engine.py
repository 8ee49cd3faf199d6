"""The engine: one thread that owns the model and writes everybody's answers, one forward pass at a time.

Knows who enters, who leaves and whose error it was. Requests enter before any step in which there is room for all their
arms, so that users with different edits share every forward pass. Refuses to know HTTP: events go to a function.

Users take turns: of two who wait, the one with fewer answers being written enters first. A request enters when its rows
have room, in number and in the memory that their longest texts may take together.

An error while requests enter ends those requests. After an error in a pass that all rows share, the texts of each
request are read anew for themselves: who fails again has failed alone, and the others go on where they were. Where the
pass fails a second time, the last to enter has failed. Answers whose logits are not finite end alone as well.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jinja2 import TemplateError

from backend.edits import Edit
from backend.records import FloatArray, InputError
from backend.subject.chat import CHARACTERS, prompt_ids
from backend.subject.decode import Decoder, Emission, Request
from backend.subject.edits import compile_row
from backend.subject.load import Subject
from backend.worker.protocol import (
    INTERRUPTED,
    Busy,
    Done,
    End,
    Event,
    Failed,
    Generation,
    Health,
    Place,
    Start,
    Token,
)
from backend.worker.room import Room

Deliver = Callable[[Sequence[Event]], None]  # called from the engine's thread; must not block or raise

CAPACITY = 64  # rows of one forward pass
QUEUE = 32  # requests that may wait for room
QUEUE_OF_ONE = 16  # those of one user
PIECE = 128  # tokens of a long prompt that are read between two steps of the others
RETRY = 10  # seconds after which a refused request may be sent again

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
    user: str
    longest: int  # tokens of one row, prompt and answer
    tokens: int = 0
    entered: float = 0.0  # time.perf_counter()

    def cancelled(self) -> list[Event]:
        return [*(End(arm, "cancelled") for arm in sorted(self.unfinished)), self.done()]

    def done(self) -> Done:
        return Done(time.perf_counter() - self.entered if self.entered else 0.0, self.tokens)


class Engine:
    """Starts its thread when made. Every method may be called from any thread."""

    def __init__(
        self,
        subject: Subject,
        *,
        capacity: int = CAPACITY,
        queue: int = QUEUE,
        queue_of_one: int = QUEUE_OF_ONE,
        memory: int | None = None,
        piece: int = PIECE,
    ) -> None:
        """`memory`: bytes that the keys and values of all rows may take (None: a quarter of what is free)."""
        self.subject = subject
        self._capacity = capacity
        self._queue = queue
        self._queue_of_one = queue_of_one
        self._piece = piece
        room = Room.of(subject)
        self._room = room if memory is None else Room(room.token, memory)
        self._decoder = self._new_decoder()
        self._changed = threading.Condition()  # guards the four below
        self._waiting: deque[_Job] = deque()
        self._running: dict[str, _Job] = {}
        self._cancelled: set[str] = set()
        self._reading: dict[str, tuple[int, int]] = {}  # replaced as a whole by the engine's thread
        self._closed = False
        self._failed = False  # whether the last pass of all failed
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
            rows=self._capacity,
            queue=self._queue,
            memory=self._room.memory,
            per_token=self._room.token,
        )

    @property
    def busy(self) -> bool:
        """Whether anything is being written or waits."""
        with self._changed:
            return bool(self._running or self._waiting)

    def submit(self, generation: Generation, deliver: Deliver, id: str = "", user: str = "") -> str:
        """Check a request against the model and queue it; returns its id. Its events go to `deliver`, a Start first.

        Raises InputError on what this model cannot do, and Busy when too many wait already.
        """
        job = self._job(generation, deliver, id or uuid.uuid4().hex, user)
        tokens = tuple(self.subject.tokenizer.decode([token]) for token in job.requests[0].prompt_ids)
        with self._changed:
            if self._closed:
                raise Busy("the worker is stopping, or its engine has failed: see its output and start it again")
            own = sum(waiting.user == user for waiting in self._waiting)
            if len(self._waiting) >= self._queue or own >= self._queue_of_one:
                others = f"{own} of yours" if own >= self._queue_of_one else f"{len(self._waiting)} requests"
                full = f"{others} wait for the model already: try again in {RETRY} seconds"
                raise Busy(full, status=429, retry=RETRY)
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
        """How many requests enter before this one, as it looks now; 0 once it is being written."""
        with self._changed:
            return next((i for i, waiting in enumerate(self._order()) if waiting.id == job), 0)

    def progress(self, job: str) -> tuple[int, int]:
        """How many tokens of how many are read of a prompt that is read in pieces; (0, 0) of others."""
        return self._reading.get(job, (0, 0))

    def close(self, *, timeout: float = 0.5) -> None:
        """End every request with an error event, and the thread with its step; wait at most `timeout` seconds."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout)

    # --- in the caller's thread: what can be refused before it queues ---

    def _job(self, generation: Generation, deliver: Deliver, job: str, user: str) -> _Job:
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
        longest = len(ids) + sampling.max_new_tokens
        if not self._room.holds(len(requests), longest):
            raise InputError(self._room.refusal(len(requests), longest))
        return _Job(job, requests, generation.capture, deliver, set(range(len(requests))), user, longest)

    def _prompt(self, generation: Generation) -> tuple[int, ...]:
        context = self.subject.context
        more = 1 if generation.fits else generation.sampling.max_new_tokens
        characters = sum(len(message["content"]) for message in generation.messages)
        if characters > CHARACTERS * context:
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
        organisms = tuple(self.subject.organisms)
        return Decoder(self.subject, capture=organisms, capacity=self._capacity, piece=self._piece)

    def _run(self) -> None:
        try:
            while (turn := self._next()) is not None:
                try:
                    self._turn(*turn)
                except Exception as error:  # of what is not the model's: nobody's answer can be trusted
                    self._decoder = self._new_decoder()
                    self._fail(list(self._running.values()), error)
        finally:  # also where something else fails
            with self._changed:
                self._closed = True
            for job in (*self._running.values(), *self._waiting):
                job.deliver([Failed(INTERRUPTED)])

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

    def _order(self) -> list[_Job]:
        """The waiting jobs as they would enter: by how many of their user's come before them, then by arrival."""
        count = Counter(job.user for job in self._running.values())
        ranks = []
        for job in self._waiting:
            ranks.append(count[job.user])
            count[job.user] += 1
        return [job for _, job in sorted(zip(ranks, self._waiting, strict=True), key=lambda pair: pair[0])]

    def _entering(self) -> list[_Job]:
        """Those that enter before the next step: in their order, until one finds no room, so that none is passed by."""
        rows = sum(len(job.unfinished) for job in self._running.values())
        longest = max((job.longest for job in self._running.values()), default=0)
        entering: list[_Job] = []
        for job in self._order():
            rows, longest = rows + len(job.requests), max(longest, job.longest)
            if rows > self._capacity or not self._room.holds(rows, longest):
                break
            job.entered = time.perf_counter()
            self._running[job.id] = job
            self._waiting.remove(job)
            entering.append(job)
        return entering

    def _turn(self, leaving: Sequence[_Job], entering: Sequence[_Job]) -> None:
        for job in leaving:
            self._decoder.remove(_Key(job.id))
            job.deliver(job.cancelled())
        if entering:
            self._hand_out(self._enter(entering))
        if self._running:  # in the same turn: however many enter, the others go on
            self._hand_out(self._step())
        if not self._running:
            self._failed = False  # who comes next has nothing to do with it

    def _enter(self, jobs: Sequence[_Job]) -> list[Emission]:
        """Read the prompts of `jobs` and draw their first tokens; an error here is theirs alone."""
        try:
            self._decoder.admit([request for job in jobs for request in job.requests])
            return self._decoder.enter()
        except Exception as error:
            if len(jobs) == 1:
                self._drop(jobs[0], error)
                return []
        for job in jobs:  # together they failed: each for itself
            self._decoder.remove(_Key(job.id))
        return [emission for job in jobs for emission in self._enter([job])]

    def _step(self) -> list[Emission]:
        """The next pass of all. One that fails is tried again, all read anew; then the last to enter has failed."""
        try:
            emissions = self._decoder.step()
            self._failed = False
            self._reading = {key.job: read for key, read in self._decoder.read.items() if isinstance(key, _Key)}
            return emissions
        except Exception as error:
            _log.error("a pass of %d rows failed: each is read anew", self._decoder.active, exc_info=error)
            reason = error.with_traceback(None)
        # out of the except block, whose error holds the tensors of the pass
        emissions, failed = self._decoder.recover()
        for key, again in failed.items():
            if isinstance(key, _Key) and key.job in self._running:
                self._drop(self._running[key.job], again)
        if self._failed and self._running and not failed:
            self._drop(max(self._running.values(), key=lambda job: job.entered), reason)
        self._failed = not failed  # else who did it is gone
        return emissions

    def _drop(self, job: _Job, error: Exception) -> None:
        self._decoder.remove(_Key(job.id))
        self._fail([job], error)

    def _hand_out(self, emissions: Sequence[Emission]) -> None:
        events: defaultdict[str, list[Event]] = defaultdict(list)
        for emission in emissions:
            assert isinstance(emission.key, _Key)
            if emission.key.job not in self._running:  # another of its arms has failed
                continue
            job, arm = self._running[emission.key.job], emission.key.arm
            if emission.finished == "broken":
                events.pop(job.id, None)
                self._drop(job, ArithmeticError(f"arm {arm}: the model's numbers are not finite: lower the strengths"))
                continue
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
