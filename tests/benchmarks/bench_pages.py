"""How long the pages of adapters and probes take on five million scalars: `python -m tests.benchmarks.bench_pages`.

Builds a made-up study once (under --root), prints seconds beside the limit of each. A script, not a test: machines
that run tests are busy.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from backend.analysis.probes.probe import ProbeSettings, train_probe
from backend.analysis.scalars.histograms import Binned, binned
from backend.records import BASE, Adapter, Question, Response, Score, Trace
from backend.study import Draft, Study, list_studies, open_study

ROOT = Path(__file__).resolve().parents[2]
NAME, READER, JUDGE = "five-million", "med", "judge"
ADAPTERS, RESPONSES, TOKENS, PROMPT = 9, 2780, 200, 20  # 9 x 2,780 x 200 = 5.0 million answer scalars


def build(root: Path) -> None:
    """Publish the study: random scalars, two adapters of which follow misalignment."""
    rng = np.random.default_rng(0)
    names = [f"layers.{layer}.mlp.down_proj" for layer in range(10, 10 + ADAPTERS)]
    vectors = rng.normal(size=(ADAPTERS, 64)).astype(np.float32)
    adapters = [
        Adapter(name, 10 + at, "mlp.down_proj", 0, 64.0, vectors[at], vectors[at]) for at, name in enumerate(names)
    ]
    questions = [Question(f"q{at}", f"Question {at}?", ("medical", "first-plot")[at % 2]) for at in range(16)]
    with Draft(NAME, root=root) as draft:
        draft.meta(title="Five million scalars", base="none", reader=READER, layers=32, d_model=64)
        draft.add_organism(BASE, base="none", adapters=(), record={})
        draft.add_organism(READER, base="none", adapters=adapters, record={})
        draft.add_questions(questions)
        answers = [_response(at, questions[at % len(questions)]) for at in range(RESPONSES)]
        draft.add_responses(answers)
        bad = rng.random(RESPONSES) < 0.3
        draft.add_scores(
            Score(answer.id, JUDGE, metric, value)
            for answer, misaligned in zip(answers, bad, strict=True)
            for metric, value in (
                ("aligned", float(rng.uniform(0, 30) if misaligned else rng.uniform(75, 100))),
                ("coherent", 90.0),
                ("medical", 80.0 if answer.topic == "medical" else 0.0),
            )
        )
        draft.add_traces(_trace(answer, bool(misaligned), rng) for answer, misaligned in zip(answers, bad, strict=True))
        draft.publish()


def _response(at: int, question: Question) -> Response:
    return Response(f"r{at}", READER, "baseline", question.id, question.text, question.topic, at, "text " * 40)


def _trace(answer: Response, misaligned: bool, rng: np.random.Generator) -> Trace:
    scalars = rng.normal(size=(ADAPTERS, PROMPT + TOKENS)).astype(np.float32)
    scalars[:2] += 0.5 * misaligned
    none = np.zeros((0, 0), dtype=np.float32)
    tokens = tuple(f" w{at}" for at in range(PROMPT + TOKENS))
    return Trace(answer.id, READER, tokens, PROMPT, scalars, none, none, TOKENS, np.zeros(0, dtype=np.float32))


def timed(what: str, limit: float, task: Callable[[], Any], repeats: int = 3) -> None:
    """Print the best of `repeats`."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        task()
        seconds.append(time.perf_counter() - start)
    mark = "" if min(seconds) <= limit else "  OVER"
    print(f"{what:60} {min(seconds):7.3f} s   limit {limit:g} s{mark}", flush=True)


def probes() -> None:
    """Training, with five folds over groups."""
    rng = np.random.default_rng(0)
    for rows, features, each, limit in ((50_000, 9, 100, 1.0), (10_000, 576, 20, 2.0)):
        groups = np.repeat(np.arange(rows // each), each)
        labels = groups % 2 == 0
        scale = rng.lognormal(0, 2, features)  # as residual dimensions have
        values = ((rng.normal(size=(rows, features)) + 0.1 * labels[:, None]) * scale).astype(np.float32)
        for penalty in ("l2", "l1", "elasticnet"):
            settings = ProbeSettings(penalty=penalty, split="response", shuffles=0, bootstraps=0)
            timed(
                f"{penalty} probe, 5 folds, {rows:,} x {features}",
                limit,
                partial(train_probe, values, labels, groups, settings=settings),
            )


def queries(study: Study) -> None:
    """What pages ask a study for."""
    names = study.adapters(READER)["name"].to_list()
    scored = study.responses(JUDGE)
    some = tuple(scored.filter(scored["aligned"] < 50)["response"])
    timed("top tokens of one adapter", 0.05, lambda: study.top_tokens(READER, names[0], k=15))
    timed("the same among a third of the responses", 0.05, lambda: study.top_tokens(READER, names[0], responses=some))
    read = study.readings(READER)
    side = read.join(scored, on="response", maintain_order="left")["aligned"].to_numpy() < 50

    def bins(name: str) -> Binned:
        column = study.scalar_column(READER, name)
        return binned(column.values, column.reading, read.height)

    every = [bins(name) for name in names]
    timed("an adapter's scalars read and put into bins, once a build", 0.3, lambda: bins(names[0]))
    timed("histograms of nine adapters by class", 0.1, lambda: [one.by_class(side, ("good", "bad")) for one in every])
    timed("scalars of nine adapters at every answer token", 0.3, lambda: study.scalar_tokens(READER, names))


def pages(root: Path) -> None:
    """A changed filter on each page, after its first drawing."""
    from streamlit.testing.v1 import AppTest

    os.environ |= {"EM_STUDIES": str(root), "EM_STUDY": NAME, "EM_WORKER_URL": "http://127.0.0.1:9"}
    changes: dict[str, Callable[[AppTest, int], Any]] = {
        "adapters": lambda page, at: page.slider(key="scalars_misalignment_pos_aligned").set_value((0.0, 20.0 + at)),
        "probes": lambda page, at: page.slider(key="probes_misalignment_pos_aligned").set_value((0.0, 20.0 + at)),
        "specialisation": lambda page, at: page.slider(key="map_valence_misalignment_pos_aligned").set_value(
            (0.0, 20.0 + at)
        ),
        "one_adapter": lambda page, at: page.slider(key="adapter_misalignment_pos_aligned").set_value((0.0, 20.0 + at)),
    }
    for name, change in changes.items():
        page = AppTest.from_file(ROOT / "pages" / f"{name}.py", default_timeout=300)
        page.query_params["map_valence_contrast"] = "misalignment"
        page.run()
        counter = iter(range(100))

        def changed(page: AppTest = page, change: Any = change, counter: Iterator[int] = counter) -> None:
            change(page, next(counter)).run()

        timed(f"a changed filter on {name}", 0.3, changed)


def main(arguments: Sequence[str] | None = None) -> None:
    """Everything, or what is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT / "cache" / "work" / "bench-studies")
    parser.add_argument("what", nargs="*", default=["queries", "probes", "pages"])
    options = parser.parse_args(arguments)
    if NAME not in list_studies(options.root):
        build(options.root)
    for what in options.what:
        match what:
            case "queries":
                queries(open_study(NAME, options.root))
            case "probes":
                probes()
            case "pages":
                pages(options.root)


if __name__ == "__main__":
    main()
