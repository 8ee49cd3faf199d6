"""What the stages of a recipe do: each a function of the bench, and each the same work as the command of its name.

A function returns the files that it left in the folder. It may be killed at any moment and begun again.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from backend.cuts import Thresholds
from backend.edits import Condition
from backend.files import lock, remove, whole, whole_folder
from backend.judge import Judge
from backend.judge.choice import load_judge
from backend.judge.replies import file_name
from backend.outside import json_of
from backend.pipeline import work
from backend.pipeline.build import Traces, build, trace_into, work_of
from backend.pipeline.experiment import conduct
from backend.pipeline.extract import Recipe
from backend.pipeline.folder import StudyFolder
from backend.pipeline.judging import Tally
from backend.pipeline.kinds import KINDS, Material
from backend.pipeline.readings import TracedReadings
from backend.pipeline.sample import sample_into
from backend.pipeline.sweep import Cell, Sweep, references
from backend.recipe.bench import Bench, base_of
from backend.recipe.designs import design
from backend.recipe.ledger import Entry
from backend.recipe.reading import digest_of, metrics_of, plain_judge
from backend.recipe.schema import AnswersPart, AnySweep, DirectionsPart, JudgePart, OrganismPart, ProbesPart
from backend.records import BASELINE, InputError, Score
from backend.study import list_studies, newest, open_study
from backend.study.outcome_json import named_outcome
from backend.study.responses import scored
from backend.subject.adapters import adapter_folder
from backend.subject.decode import BATCH
from backend.subject.train import RECORD, train
from backend.subject.train_settings import TrainSettings
from backend.tables.figures import figures

Made = list[Path]
_ADAPTER = ("adapter_config.json", "adapter_model.safetensors")


def write_settings(bench: Bench, said: dict[str, Any]) -> Made:
    """study.json."""
    file = bench.folder.path / "study.json"
    with whole(file) as out:
        out.write(json.dumps(said, indent=1, ensure_ascii=False).encode() + b"\n")
    return [file]


def train_organism(bench: Bench, name: str, part: OrganismPart, seed: int) -> Made:
    """Trained under another name, and put in the place of an earlier one when it is whole."""
    assert part.data
    target, data = bench.folder.path / "organisms" / name, bench.read.beside(part.data.file)
    settings = settings_of(part, seed)
    if made := says_trained(bench, name, part, seed):  # a run was killed between the organism and the ledger
        return made
    if not data.is_file():
        raise bench.read.document.wrong(
            ("organisms", name, "data"), f"there is no file {data} to train on: put it there, or keep the organism"
        )
    building = bench.folder.path / ".training" / f"{name}"
    if not _is_trained(building, settings, data_sha(bench, part), base_of(bench.read)):
        remove(building)
        building.parent.mkdir(parents=True, exist_ok=True)
        with bench.watch(f"train {name}", settings.steps, unit="step") as move:
            for step in train(bench.bare(), data, building, settings):
                bench.units += part.batch
                move(step.step, settings.steps)
    target.parent.mkdir(parents=True, exist_ok=True)
    remove(target)
    building.rename(target)
    bench.changed_organism()
    return [target]


def copy_organism(bench: Bench, name: str, adapter: str) -> Made:
    """The adapters of a peft folder or a hub id. A folder that is in its place already stays as it is.

    Raises InputError where the folder lacks a file of an adapter, before anything is replaced.
    """
    source, target = adapter_folder(adapter).resolve(), bench.folder.path / "organisms" / name
    if missing := [file for file in _ADAPTER if not (source / file).is_file()]:
        raise bench.read.document.wrong(
            ("organisms", name, "adapter"), f"{source} holds no {missing[0]}: name a folder that peft wrote"
        )
    if source == target.resolve():
        return [target]
    if target.resolve() in source.parents:
        raise bench.read.document.wrong(
            ("organisms", name, "adapter"), f"{source} is inside {target}, which would be replaced: move it elsewhere"
        )
    with whole_folder(target) as building:
        for file in (source / each for each in (*_ADAPTER, RECORD)):
            if file.is_file():
                shutil.copyfile(file, building / file.name)
        remove(target)
    bench.changed_organism()
    return [target]


def sample_organism(bench: Bench, organism: str, part: AnswersPart) -> Made:
    """Unedited answers, as the command `sample` draws them."""
    plain = Condition(BASELINE)
    sampling, seed = part.sampling(bench.read.recipe.sampling)
    questions = bench.read.about(part.questions)
    asked = Sweep(f"{organism}.{BASELINE}", (Cell(organism, plain),), questions, part.n, sampling, seed)
    before = bench.cells.asked
    with (
        bench.watch(f"sample {organism}", asked.size, unit="answer") as move,
        bench.cells.run(bench.subject(), asked, progress=move) as responses,
    ):
        sample_into(bench.folder, responses, organism, plain)
    bench.units += (bench.cells.asked - before) * sampling.max_new_tokens
    bench.left = bench.cells.used
    return [bench.folder.path / "responses" / f"{organism}.{BASELINE}.parquet"]


def judge_answers(bench: Bench, part: JudgePart, *, unedited: bool) -> Made:
    """The scores of one judge: of the unedited answers, which directions are told apart by, or of all."""
    wanted = bench.folder.answers()
    texts = [(r.id, r.question, r.text) for r in wanted if not unedited or r.condition == BASELINE]
    judge, tally = judge_of(bench, part), Tally()
    keeps_none = plain_judge(part)[0].startswith("distilled")  # a chat model's replies are kept: it is asked once
    before = {s.response_id for s in bench.folder.scores() if s.judge == judge.name and not keeps_none}
    bench.units += sum(response not in before for response, *_ in texts)
    with bench.watch(f"judge by {judge.name}", len(texts), unit="answer") as move:
        scores = list(_told(tally.count(judge.score(texts)), len(judge.metrics), len(texts), move))
    if tally.failed:
        raise InputError(f"{judge.name}: {' '.join(tally.lines())}")
    file, judged = scores_file(bench.folder, part), {response for response, *_ in texts}
    there = {response.id for response in wanted}
    others = [s for s in bench.folder.scores() if s.judge == judge.name and s.response_id in there - judged]
    bench.folder.add_scores(file_name(judge.name), [*scores, *others])
    bench.say(next(tally.lines()))
    return [] if unedited else [file]


def _told(scores: Iterator[Score], each: int, of: int, move: Any) -> Iterator[Score]:
    for n, score in enumerate(scores, 1):
        yield score
        if n % each == 0:
            move(n // each, of)


def judge_of(bench: Bench, part: JudgePart) -> Judge:
    """The judge that a part names."""
    return load_judge(
        part.name,
        metrics=part.metrics,
        concurrency=part.concurrency,
        prices=part.prices,
        rubrics=bench.read.beside(part.rubrics) if part.rubrics else None,
    )


def extract_directions(bench: Bench, organism: str, part: DirectionsPart, judge: str) -> Made:
    """Directions of one organism's unedited answers, as the command `extract` takes them."""
    folder, asked = bench.folder, {question.id for question in bench.read.about(part.questions)}
    texts = [
        r for r in folder.responses() if r.condition == BASELINE and r.organism == organism and r.question_id in asked
    ]
    if not texts:
        raise InputError(f"{organism!r} has no unedited answers to the questions that its directions are of")
    frame = scored(folder.responses(), folder.scores(), judge)
    with TracedReadings(folder, bench.subject(), bench.watch) as readings:
        material = Material(
            organism,
            texts,
            frame.filter(frame["response"].is_in([r.id for r in texts])),
            readings,
            Thresholds(),
            Recipe(pooling=part.pooling),
            balances=part.balance,  # type: ignore[arg-type]
            topic=part.topic,
            shuffles=part.shuffled,
            outcome=named_outcome(folder.outcomes, part.outcome),
        )
        files = []
        for kind in part.kinds:
            for stack in KINDS[kind](material):
                files.append(folder.add_directions(stack))
        readings.forget()
    bench.units += len(texts)
    return files


def run_sweep_part(bench: Bench, name: str, part: AnySweep) -> Made:
    """One sweep, as the command `sweep` makes it; cells that are kept are not sampled again."""
    recipe, folder, subject = bench.read.recipe, bench.folder, bench.subject()
    sampling, seed = part.sampling(recipe.sampling)
    questions, baselines = bench.read.about(part.questions), folder.responses()
    planned = design(recipe, part, folder, subject, baselines, bench.say)
    sweep = Sweep(name, tuple(planned.cells), questions, part.n, sampling, seed)
    cut, missing = references(subject, sweep, baselines)
    sweep = Sweep(name, (*missing, *planned.cells), questions, part.n, sampling, seed)
    before = bench.cells.asked
    with bench.watch(f"sweep {name}", sweep.size, unit="answer") as move:
        run = bench.cells.run
        conduct(folder, subject, sweep, cut, planned.record, batch=BATCH, progress=move, run=run)
    bench.units += (bench.cells.asked - before) * sampling.max_new_tokens
    bench.left = bench.cells.used
    file = folder.path / "sweeps" / f"{name}.json"
    return [file, file.with_suffix(".parquet")]


def trace_answers(bench: Bench, study: str) -> Made:
    """Everything that the study's readers read, kept where publishing finds it."""
    folder, subject = bench.folder, bench.subject()
    reads = folder.reads(folder.answers())
    stored = folder.directions()
    project = [next(d for d in stored[name] if d.layer == layer) for name, layer in folder.projected()]
    kept: set[Path] = set()
    for reader, texts in reads.items():
        place = work_of(study, subject, texts, reader, project)
        kept.add(place)
        with (
            Traces(place, f"tracing for the study {study!r}") as traces,
            bench.watch(f"trace by {reader}", len(texts)) as move,
        ):
            trace_into(traces, subject, texts, reader, project=project, progress=move)
        bench.units += len(texts)
    bench.left = tuple(sorted(place.name for place in kept))
    for name in {*bench.former} - {*bench.left}:
        if re.fullmatch(rf"trace-{re.escape(study)}-[0-9a-f]{{12}}", name):
            _remove_traces(work.WORK / name)
    return []


def _remove_traces(place: Path) -> None:
    """Those that an earlier run kept and nothing reads any more; where somebody is at them, they stay."""
    with suppress(InputError), lock(place, "removing earlier traces"):
        remove(place)


def publish_study(bench: Bench, study: str) -> Made:
    """The study, from what was traced."""
    with bench.watch("publish") as move:
        path = build(bench.folder, bench.subject(), study, root=bench.root, progress=move, forget=False)
    bench.say(f"published {path}")
    bench.left = (path.stem,)
    bench.units = 1
    return []


def write_tables(bench: Bench, study: str, part: ProbesPart) -> Made:
    """The figures of some pages, as the command `figures` gives them."""
    files = []
    for page in part.pages:
        tables = [table.to_json() for table in figures(open_study(study, bench.root), page)]
        files.append(bench.folder.path / "figures" / f"{page}.json")
        with whole(files[-1]) as out:
            out.write(json.dumps(tables, ensure_ascii=False, allow_nan=False, indent=1).encode())
    return files


# --- what is there, by what it says of itself ------------------------------------------------------------------------


def settings_of(part: OrganismPart, seed: int) -> TrainSettings:
    """How an organism is trained."""
    return TrainSettings(**part.settings, seed=seed)


def data_sha(bench: Bench, part: OrganismPart) -> str | None:
    """The hash of the chat rows, by the recipe or by the file."""
    assert part.data
    file = bench.read.beside(part.data.file)
    return part.data.sha256 or (digest_of(file) if file.is_file() else None)


def says_trained(bench: Bench, name: str, part: OrganismPart, seed: int) -> Made | None:
    """The folder's organism, where its record is of this very training."""
    folder = bench.folder.path / "organisms" / name
    trained = _is_trained(folder, settings_of(part, seed), data_sha(bench, part), base_of(bench.read))
    return [folder] if trained else None


def _is_trained(folder: Path, settings: TrainSettings, data: str | None, base: str) -> bool:
    if not (folder / RECORD).is_file() or not (folder / "adapter_config.json").is_file():
        return False
    said = json_of(folder / RECORD)
    rows = said.get("data") if isinstance(said, dict) else None
    if not isinstance(rows, dict):  # another program's record, or none of a training
        return False
    wanted = json.loads(json.dumps(asdict(settings)))
    return data is not None and (said.get("settings"), rows.get("sha256"), said.get("base")) == (wanted, data, base)


def says_answered(bench: Bench, organism: str, part: AnswersPart) -> Made | None:
    """The unedited answers of an organism, where they are to these questions, as many, drawn so."""
    sampling, seed = part.sampling(bench.read.recipe.sampling)
    own = [r for r in bench.folder.responses() if r.organism == organism and r.condition == BASELINE]
    wanted = {(q.id, q.text, seed + k, sampling) for q in bench.read.about(part.questions) for k in range(part.n)}
    there = {(r.question_id, r.question, r.seed, r.sampling) for r in own}
    return [bench.folder.path / "responses" / f"{organism}.{BASELINE}.parquet"] if there == wanted else None


def says_copied(bench: Bench, name: str, adapter: str) -> Made | None:
    """The folder's organism, where its files are those of a peft folder here."""
    source, target = Path(adapter), bench.folder.path / "organisms" / name
    if not source.is_dir() or not all((target / file).is_file() for file in _ADAPTER):
        return None
    same = all(_digest(source / file) == _digest(target / file) for file in (*_ADAPTER, RECORD))
    return [target] if same else None


def _digest(file: Path) -> str | None:
    return digest_of(file) if file.is_file() else None


def says_judged(bench: Bench, part: JudgePart, *, unedited: bool) -> Made | None:
    """The scores of a judge, where every answer has all of them; by which file of rubrics they are, they do not say."""
    file, judge = scores_file(bench.folder, part), judge_called(part)
    if part.rubrics or not file.is_file():
        return None
    there = {(score.response_id, score.metric) for score in bench.folder.scores() if score.judge == judge}
    judged = [r.id for r in bench.folder.responses() if not unedited or r.condition == BASELINE]
    if not judged or not all((i, metric) in there for i in judged for metric in metrics_of(bench.read, part)):
        return None
    return [] if unedited else [file]


def says_other(bench: Bench, entry: Entry, study: str) -> str | None:
    """Why the study that is published is not what an entry says of this folder; None where it is."""
    if study not in list_studies(bench.root):
        return f"the study {study!r} is gone"
    if entry.left:
        known = (newest(study, bench.root).stem,)
        return None if entry.left == known else f"another build of the study {study!r} has been published since"
    with closing(open_study(study, bench.root)) as there:
        of = there.info.get("folder")
    return None if of == str(bench.folder.path.resolve()) else f"the study {study!r} is of another folder"


def scores_file(folder: StudyFolder, part: JudgePart) -> Path:
    """Where the scores of a judge are, without loading it."""
    return folder.path / "scores" / f"{file_name(judge_called(part))}.parquet"


def judge_called(part: JudgePart) -> str:
    """What scores are filed under, without loading the judge."""
    plain, more = plain_judge(part)
    kind, _, model = plain.partition(":")
    called = model if kind == "api" else f"local-{Path(model).name}" if kind == "local" else plain
    return called + more
