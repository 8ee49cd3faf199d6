"""Commands on a tiny study, disturbed at a chosen file event, run again, and compared with an undisturbed run.

One process loads everything once and forks a child a command, since imports take longer than all that is tried. It
reads orders (JSON, a line each) and answers them. It never calls polars or duckdb itself: their threads do not survive
a fork. A file event is a file opened for writing, renamed, removed or brought to the disk, or a folder made or removed,
below the folder of the trial; what native code writes between two of them is not seen (`limit` reaches it).
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

KINDS = ("train", "sample", "judge", "labels", "extract", "sweep", "build", "import")
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"}
TAKES_SPACE = {"open", "os.mkdir", "fsync", "write"}
WRITES = os.O_WRONLY | os.O_RDWR
PATIENCE = 3.0  # seconds: who waits for a lock that the run which stands still has, waits longer
SAID = "said"  # what the last command said


class Trials:
    """A seed to start from, made once in `base`, and what can be tried with it."""

    def __init__(self, base: Path) -> None:
        self.base, self.home, self.seed = base, base / "home", base / "seed"
        self.study, self.work = self.home / "study", self.home / "cache" / "work"
        self.commands = {
            "train": [
                *("train", base / "train.jsonl", self.study / "organisms/mine", "--model", base / "model"),
                *("--layers", "2", "--steps", "6", "--checkpoint-every", "2", "--batch", "2"),
            ],
            "sample": [*self._on("sample"), "--organism", "first", "--n", "1", "--max-new-tokens", "4"],
            "judge": ["judge", self.study],
            "labels": [*("labels", "enter", base / "read.jsonl", "--folder", self.study, "--by", "me")],
            "extract": [*self._on("extract"), *("--organism", "first", "--shuffled", "1", "--judge", "capitals")],
            "sweep": [
                *("sweep", "gain", "--folder", self.study, "--name", "g", "--organism", "first", "--group", "a=2"),
                *("--factors", "0,2", "--n", "1", "--max-new-tokens", "4"),
            ],
            "build": [*self._on("build"), "--name", "k"],
            "import": ["import-published", base / "release", "--name", "k"],
        }
        self._before: dict[str, Any] = {}

    def _on(self, command: str) -> list[Any]:
        return [command, "--folder", self.study]

    # --- orders -----------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """The seed: a sampled and judged study folder with a published study and a sampled sweep of no consequence."""
        self.home.mkdir(parents=True)
        self._asked(self._make)
        if self._run("build")[0]:
            raise RuntimeError((self.base / SAID).read_text())
        settings = json.loads((self.study / "study.json").read_text())
        (self.study / "study.json").write_text(json.dumps({**settings, "title": "Changed since"}))
        self.home.rename(self.seed)
        self._fresh()
        self._before = {kind: self._asked(partial(self.outcome, kind)) for kind in KINDS}

    def events(self, kind: str) -> dict[str, Any]:
        """An undisturbed run: its events, and what came of it."""
        self._fresh()
        status, events = self._run(kind)
        return {"status": status, "events": events, **self._state(kind)}

    def disturbed(self, kind: str, how: str, at: int) -> dict[str, Any]:
        """How a run ends that is killed ("kill") or finds the disk full ("full") at an event, or may write no file of
        more than so many bytes ("limit"); then how it ends when it is run again."""
        self._fresh()
        status, events = self._run(kind, how, at)
        first = {"status": status, "event": events[at - 1 : at], **self._state(kind)}
        status, _ = self._run(kind)
        return {"first": first, "second": {"status": status, **self._state(kind)}, "before": self._before[kind]}

    def interleaved(self, kind: str, at: int) -> dict[str, Any]:
        """One run stands still at an event while another runs to its end, or until it waits; then it goes on; then a
        third. "quick" is missing where the slow one ended before the event."""
        self._fresh()
        slow, told = self._start(kind, "stop", at, "slow")
        said: dict[str, Any] = {}
        _, code = os.waitpid(slow, os.WUNTRACED)
        if os.WIFSTOPPED(code):
            child, pipe = self._start(kind, "", 0, SAID)
            quick = _ended(child, PATIENCE)
            os.kill(slow, signal.SIGCONT)
            _, code = os.waitpid(slow, 0)
            quick = _ended(child) if quick is None else quick
            _read(pipe)
            said = {"quick": {"status": quick, **self._state(kind)}}
        _read(told)
        both = {"status": os.waitstatus_to_exitcode(code), **self._state(kind, "slow")}
        status, _ = self._run(kind)
        return {**said, "slow": both, "third": {"status": status, **self._state(kind)}}

    # --- children ---------------------------------------------------------------------------------------------------

    def _fresh(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)
        shutil.copytree(self.seed, self.home)

    def _run(self, kind: str, how: str = "", at: int = 0, said: str = SAID) -> tuple[int, list[str]]:
        child, pipe = self._start(kind, how, at, said)
        events = _read(pipe).decode().splitlines()
        if how == "limit":  # under which no log could be written
            (self.base / said).write_text("\n".join(events))
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), events

    def _start(self, kind: str, how: str, at: int, said: str) -> tuple[int, int]:
        reads, writes = os.pipe()
        child = os.fork()
        if child:
            os.close(writes)
            return child, reads
        os.close(reads)
        _end(lambda: self._command(kind, how, at, said, writes))
        raise AssertionError("a child came back")

    def _command(self, kind: str, how: str, at: int, said: str, pipe: int) -> int:
        from backend.__main__ import main

        log = pipe if how == "limit" else os.open(self.base / said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(self.home)
        if how == "limit":
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (at, at))
        else:
            watch(self.home, pipe, how, at)
        return main([str(word) for word in self.commands[kind]])

    def _asked(self, question: Callable[[], Any]) -> Any:
        """What a child answers."""
        reads, writes = os.pipe()
        child = os.fork()
        if not child:
            os.close(reads)
            os.chdir(self.home)
            _end(lambda: os.write(writes, json.dumps(question()).encode()) and 0)
        os.close(writes)
        answer = _read(reads)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code:
            raise RuntimeError(f"a child ended with {code}: see above")
        return json.loads(answer)

    # --- what is there ----------------------------------------------------------------------------------------------

    def _state(self, kind: str, said: str = SAID) -> dict[str, Any]:
        words = (self.base / said).read_text(errors="replace").strip().splitlines()
        return {"outcome": self._asked(lambda: self.outcome(kind)), "left": self._left(), "said": words[-4:]}

    def _left(self) -> list[str]:
        """What only a run in progress may have."""
        every = [path for path in self.home.rglob("*") if path.name != ".lock"]
        odd = (".tmp", ".lock", ".partial", ".damaged", ".wal")
        strays = [p for p in every if p.suffix in odd or p.name.startswith(".building-")]
        return [str(p.relative_to(self.home)) for p in (*strays, *self.work.glob("*"))]

    def outcome(self, kind: str) -> dict[str, Any]:
        """What the command is for, part by part, comparable."""
        return dict(getattr(self, f"_of_{kind}")())

    def _of_train(self) -> Iterator[tuple[str, Any]]:
        from safetensors.numpy import load_file

        from backend.pipeline.folder import StudyFolder

        yield "organisms", list(StudyFolder(self.study).organisms)
        folder = self.study / "organisms" / "mine"
        if folder.exists():
            weights = load_file(folder / "adapter_model.safetensors")
            sums = {name: round(float(weight.sum()), 4) for name, weight in weights.items()}
            yield "mine", [sums, len(json.loads((folder / "training.json").read_text())["losses"])]

    def _of_sample(self) -> Iterator[tuple[str, Any]]:
        yield from _tables(self.study / "responses")

    def _of_sweep(self) -> Iterator[tuple[str, Any]]:
        yield from _tables(self.study / "sweeps")
        for file in (self.study / "sweeps").glob("*.json"):
            said = json.loads(file.read_text())
            yield file.name, {key: said[key] for key in said if key not in ("seconds", "made")}

    def _of_judge(self) -> Iterator[tuple[str, Any]]:
        yield from _tables(self.study / "scores")

    def _of_labels(self) -> Iterator[tuple[str, Any]]:
        from backend.study.labels import read_labels

        yield from _tables(self.study / "scores")
        found = read_labels(self.study / "labels" / "me.jsonl")
        yield from ((label.response_id, label.kind) for label in found)

    def _of_extract(self) -> Iterator[tuple[str, Any]]:
        for file in (self.study / "directions").glob("*.safetensors"):
            yield file.name, hashlib.md5(file.read_bytes()).hexdigest()

    def _of_build(self) -> Iterator[tuple[str, Any]]:
        from backend.study import open_study

        with closing(open_study("k")) as study:
            reader = study.organisms()["organism"].to_list()[-2]
            counts = [len(f) for f in (study.responses(), study.directions(), study.scalar_summary(reader))]
            yield "k", [study.info["title"], *counts]

    _of_import = _of_build

    # --- the seed ---------------------------------------------------------------------------------------------------

    def _make(self) -> None:
        from backend.pipeline.folder import StudyFolder
        from backend.pipeline.labelling import item
        from tests.published.sample import write_release
        from tests.studies import planted

        folder, subject = planted.folder_and_subject(self.study)
        planted.sampled(folder, subject, n=8)
        subject.model.save_pretrained(self.base / "model")
        subject.tokenizer.save_pretrained(self.base / "model")
        settings = {"title": "Planted", "base": str(self.base / "model"), "traced": ["first/baseline"]}
        (self.study / "study.json").write_text(json.dumps(settings))
        write_release(self.base / "release")
        entries = [{"item": item(r), "label": "aligned"} for r in StudyFolder(self.study).responses()[:20]]
        (self.base / "read.jsonl").write_text("\n".join(map(json.dumps, entries)))
        turns = [[{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": f"a{i}"}] for i in range(12)]
        (self.base / "train.jsonl").write_text("\n".join(json.dumps({"messages": turn}) for turn in turns))


def _tables(folder: Path) -> Iterator[tuple[str, Any]]:
    import polars as pl

    for file in folder.glob("*.parquet"):
        yield file.name, hashlib.md5(pl.read_parquet(file).write_json().encode()).hexdigest()


# --- disturbances -----------------------------------------------------------------------------------------------------


def watch(home: Path, pipe: int, how: str, at: int) -> None:
    """Count this process's file events, tell each to the pipe, and disturb the run at one of them."""
    count, kept = 0, {"fsync": os.fsync, "write": os.write}

    def happens(event: str, what: Any) -> None:
        nonlocal count
        path = os.readlink(f"/proc/self/fd/{what}") if isinstance(what, int) else os.fsdecode(what)  # noqa: PTH115
        if path.startswith("/") and not path.startswith(f"{home}/"):
            return
        count += 1
        kept["write"](pipe, f"{event} {path.removeprefix(f'{home}/')}\n".encode())
        if count == at and how in ("kill", "stop"):
            os.kill(os.getpid(), signal.SIGKILL if how == "kill" else signal.SIGSTOP)
        if count >= at and how == "full" and event in TAKES_SPACE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def audited(event: str, arguments: tuple[Any, ...]) -> None:
        if event in CHANGES or (event == "open" and _writes(*arguments)):
            happens(event, arguments[0])

    def through(name: str) -> Callable[..., Any]:
        def call(handle: int, *rest: Any) -> Any:
            happens(name, handle)
            return kept[name](handle, *rest)

        return call

    os.fsync, os.write = through("fsync"), through("write")
    sys.addaudithook(audited)


def _writes(path: Any, mode: Any, flags: Any) -> bool:
    return isinstance(path, str | bytes) and bool((flags or 0) & WRITES)


def _ended(child: int, patience: float | None = None) -> int | None:
    """How a child ended; None where it still runs when patience (seconds) does."""
    until = None if patience is None else time.monotonic() + patience
    while until is None or time.monotonic() < until:
        done, code = os.waitpid(child, 0 if until is None else os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(code)
        time.sleep(0.01)
    return None


def _end(do: Callable[[], int]) -> None:
    """End a child with what `do` returns."""
    code = 99
    try:
        code = do()
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _read(pipe: int) -> bytes:
    with os.fdopen(pipe, "rb") as stream:
        return stream.read()


def load_once(base: Path) -> None:
    """Everything that a command imports, small parts, and one model for all."""
    import duckdb
    import peft
    import polars
    import scipy.stats
    import torch

    torch.set_num_threads(1)
    from backend import published, study
    from backend.__main__ import main
    from backend.judge import choice, distilled
    from backend.pipeline import build, experiment, extract, judging, kinds, readings, sweep
    from backend.subject import load, train
    from tests.published import sample
    from tests.studies import planted

    assert all(
        (
            duckdb,
            peft,
            polars,
            scipy.stats,
            published,
            study,
            main,
            choice,
            experiment,
            extract,
            judging,
            kinds,
            readings,
            train,
        )
    )
    assert sample
    build._PART, sweep.PART = 16, 6
    _, subject = planted.folder_and_subject(base / "spare")

    def loaded(name: str, organisms: Any = None) -> Any:
        return load.dress(name, subject.model, subject.tokenizer, organisms or {})

    load.load, distilled.load_distilled = loaded, Loud  # type: ignore[assignment]


class Loud:
    """A judge of no wisdom: the length of an answer."""

    metrics = ("aligned", "coherent")

    def __init__(self, name: str) -> None:
        self.name = name

    def score(self, answers: Any) -> Iterator[Any]:
        """One number a metric."""
        from backend.records import Score

        for name, _, answer in answers:
            yield from (Score(name, self.name, metric, float(len(answer))) for metric in self.metrics)


def serve(base: Path) -> None:
    """Answer orders until there are none."""
    os.environ |= {"EM_CACHE": str(base / "home/cache"), "EM_STUDIES": str(base / "home/cache/studies")}
    load_once(base)
    trials = Trials(base)
    trials.prepare()
    for line in sys.stdin:
        order, *arguments = json.loads(line)
        print(json.dumps(getattr(trials, order)(*arguments)), flush=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]).resolve())
