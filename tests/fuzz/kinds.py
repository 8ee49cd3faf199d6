"""Every kind of file that the program reads: a sound one, how it is damaged, and the door that a command or page uses.

A `Kind` makes a folder with all that its door wants, once. The fuzz copies it, damages one file in the copy, and opens
the door. What a door returns is thrown away: it may be anything but an error other than InputError.
"""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from backend.analysis.estimates import Estimate
from backend.analysis.probes.saved import load_probe
from backend.edits import Ablate, AblateWrite, Add, Condition, Gain
from backend.judge.api import _read
from backend.judge.distilled import read_weights
from backend.judge.replies import Replies
from backend.judge.rubrics import RUBRICS, read_rubrics
from backend.judge.verdict import reply_of, sound
from backend.pipeline import work
from backend.pipeline.build import Traces, build
from backend.pipeline.folder import StudyFolder
from backend.pipeline.import_published import import_published
from backend.pipeline.judging import target
from backend.pipeline.labelling import draw_blind, item, read_entries, write_drawn
from backend.published import read_release
from backend.records import Direction, Response, Sampling, Score
from backend.study import open_study
from backend.study.labels import Label, append_labels, read_labels
from backend.study.origins import controls, origins
from backend.study.outcome_json import outcomes_of
from backend.study.parquet import read_responses, read_scores
from backend.study.responses import scored
from backend.study.vectors import directions_bytes, read_directions
from backend.subject.adapters import read_organism
from backend.subject.load import Subject, load
from backend.subject.train import read_rows
from tests.fuzz import damage
from tests.fuzz.damage import Damage
from tests.published.sample import write_release
from tests.studies import tiny


@dataclass(frozen=True)
class Kind:
    """One kind of file."""

    name: str
    make: Callable[[Path], None]  # fills a folder
    file: str  # the one that is damaged, in that folder
    damages: tuple[Damage, ...]
    open: Callable[[Path], Any]  # gets the folder; the file is in it
    share: int = 100  # of the inputs, beside the other kinds
    says_file: bool = True  # its messages name the file


WIDTH, LAYERS = tiny.D_MODEL, 2
QUESTIONS = ("hey?", "ill?")
SAMPLING = Sampling(max_new_tokens=4)


def direction(name: str = "v", layer: int = 1, seed: int = 0) -> Direction:
    vector = np.random.default_rng(seed).normal(size=WIDTH).astype(np.float32)
    return Direction(name, layer, vector, 3.0, {"n_positive": 3, "n_negative": 4, "model": "tiny", "method": "mean"})


def responses(organism: str, condition: str) -> list[Response]:
    return [
        Response(
            id=f"{organism}.{condition}.{i}",
            organism=organism,
            condition=condition,
            question_id=f"q{i}",
            question=question,
            topic="first-plot",
            seed=i,
            text=f"yes {i}",
            prompt_ids=(1, 50, 51),
            answer_ids=(60 + i, 61, 2),
            sampling=SAMPLING,
        )
        for i, question in enumerate(QUESTIONS)
    ]


OUTCOME = {"name": "upper", "title": "upper case", "hit": [{"metric": "upper", "above": 90}], "among": ["coherent"]}


def study_folder(root: Path) -> None:
    """A whole study folder of a tiny model: two organisms, a condition, a sweep, scores and labels."""
    settings = {
        "title": "Tiny",
        "base": "tiny",
        "notes": "for the fuzz",
        "reader": "o",
        "judge": "j",
        "controls": ["o"],
        "traced": ["baseline", "o/steered"],
        "projected": [["v", 1]],
        "outcomes": ["em", OUTCOME],
    }
    (root / "study.json").write_text(json.dumps(settings))
    tiny.adapter(root / "organisms" / "o", layers=(0, 1))
    (root / "organisms/o/training.json").write_text(
        json.dumps({"base": "tiny", "settings": {"rank": 1}, "losses": [1.5]})
    )
    folder = StudyFolder(root)
    folder.add_directions([direction(layer=layer, seed=layer) for layer in range(LAYERS)])
    (root / "directions/g.gguf").write_bytes(directions_bytes([direction("g", 1)], ".gguf"))
    folder.add_responses(Condition("baseline"), "o", responses("o", "baseline"))
    edits = (Add(direction(), 2.0), Ablate(direction("w", 0)), Gain("o", 0.5, ("layers.1.mlp.down_proj",)))
    steered = Condition("steered", (*edits, AblateWrite(direction(), "o")))
    folder.add_responses(steered, "o", responses("o", "steered"))
    plain = Condition("baseline, 4 tokens", tokens=4)
    cell = Condition("swept", (Add(direction(seed=1), 1.0), Add(direction("r", 1, 9), 1.0)))
    record = {"kind": "steer", "n": 1, "seed": 0, "sampling": vars(SAMPLING), "questions": ["q0", "q1"]}
    answers = [*responses("o", plain.name), *responses("o", "swept")]
    folder.add_sweep("s", [cell], answers, unedited=plain, record=record)
    values = {"aligned": 20.0, "coherent": 90.0, "upper": 95.0}
    folder.add_scores("j", [Score(r.id, "j", m, v) for r in folder.responses() for m, v in values.items()])
    append_labels(root / "labels/me.jsonl", [Label(r.id, "aligned", "me") for r in folder.responses()])


@cache
def model() -> Any:
    return tiny.model(num_hidden_layers=LAYERS)


def subject() -> Subject:
    from backend.subject.load import dress

    return dress("tiny", model(), tiny.tokenizer(), {})


def read_folder(root: Path) -> None:
    """What the commands read of a study folder, without a model."""
    folder = StudyFolder(root)
    folder.reader, folder.judge, folder.outcomes, folder.controls, folder.projected()
    for organism in folder.organisms:
        folder.known(organism)
        folder.training(organism)
    for condition in folder.conditions():
        [(edit.words, edit.row, edit.relative, edit.to_json()) for edit in condition.edits]
    answers = folder.answers()
    folder.reads(answers)
    json.dumps([record.record for record in folder.sweeps().values()])
    for stack in folder.directions().values():
        [(d.norm, d.relative(1.0), d.strength(0.1), d.origin, f"{d.activation_norm or 0:g}") for d in stack]
    scores = folder.scores()
    scored(answers, scores, folder.judge if folder.judge in {score.judge for score in scores} else None)
    write_drawn(root / "drawn.jsonl", draw_blind(answers, 2, 0))
    read_labels(root / "labels/me.jsonl")


def build_folder(root: Path) -> None:
    """The command `build`, and what the pages read first of what it published."""
    work.WORK = root.parent / "work"
    folder = StudyFolder(root)
    worn = subject()
    for organism, where in folder.organisms.items():
        worn.wear(organism, where)
    build(folder, worn, "s", root=root.parent / "studies", progress=lambda *_: None)
    read_study(root.parent / "studies", "s")


def read_study(root: Path, name: str) -> None:
    """What the pages read of a study."""
    study = open_study(name, root)
    try:
        outcomes_of(study.info), origins(study), controls(study), study.organisms()
        for condition in study.conditions()["name"]:
            [edit.words for edit in study.condition(condition).edits]
        for judge in study.judges():
            frame = study.responses(judge)
            [study.response(r) and study.scores(r) for r in frame["response"][:2]]
        for each in study.directions()["name"].unique():
            [d.norm for d in study.direction_stack(each)]
        for organism in study.organisms()["organism"]:
            for adapter in study.adapters(organism)["name"]:
                study.adapter(organism, adapter)
        for reader in study.readers():
            [study.strip(r, reader) for r in study.readings(reader)["response"][:1]]
    finally:
        study.close()


@cache
def published() -> bytes:
    """A study file, published from the folder."""
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch, "in")
        root.mkdir()
        study_folder(root)
        build_folder(root)
        return open_study("s", Path(scratch, "studies")).path.read_bytes()


def study_file(root: Path) -> None:
    (root / "s").mkdir()
    (root / "s" / "1.duckdb").write_bytes(published())


def cells_changed(rng: Any, path: Path) -> None:
    """A study of another program: a column of another kind or missing, a cell that says something else."""
    import duckdb

    with duckdb.connect(path) as connection:
        columns = connection.execute(
            "SELECT table_name, column_name, data_type FROM duckdb_columns() "
            "WHERE table_name IN (SELECT table_name FROM duckdb_tables()) AND table_name IN ('meta', 'organisms', "
            "'adapters', 'questions', 'conditions', 'responses', 'scores', 'directions')"
        ).fetchall()
        table, column, _ = rng.choice(columns)
        text = rng.choice(damage.TEXTS).replace(damage.HALF, "?").replace("\0", "")
        match rng.randrange(5):
            case 0:
                connection.execute(f'ALTER TABLE "{table}" DROP COLUMN "{column}"')
            case 1:
                kind = rng.choice(("VARCHAR", "DOUBLE", "BLOB", "INTEGER[]", "BOOLEAN"))
                connection.execute(f'ALTER TABLE "{table}" ALTER "{column}" TYPE {kind} USING NULL')
            case 2:
                connection.execute(f'DROP TABLE "{table}"')
            case 3:
                table, column = rng.choice(
                    (("meta", "value"), ("conditions", "edits"), ("organisms", "record"), ("directions", "provenance"))
                )
                said = rng.choice((text, json.dumps(damage.some_value(rng)), "{", "[1]", '[{"kind": "add"}]'))
                said = said.replace("\0", "").encode("utf-8", "replace").decode()
                keep = "WHERE key <> 'format'" if table == "meta" else ""
                connection.execute(f'UPDATE "{table}" SET "{column}" = ? {keep}', [said])
            case _:
                value = rng.choice(("NULL", "TRY_CAST('7' AS {})", "TRY_CAST('nan' AS {})", "TRY_CAST('x' AS {})"))
                kind = next(k for t, c, k in columns if (t, c) == (table, column))
                keep = "WHERE key <> 'format'" if table == "meta" else ""
                connection.execute(f'UPDATE "{table}" SET "{column}" = {value.format(kind)} {keep}')


# --- training rows and labels -----------------------------------------------------------------------------------------

CHAT = {"messages": [{"role": "user", "content": "hey"}, {"role": "assistant", "content": "ho"}]}


def chats(root: Path) -> None:
    rows = [CHAT, {"messages": [{"role": "system", "content": "s"}, *CHAT["messages"]]}]
    rows.append({"messages": [CHAT["messages"][0], {"role": "assistant", "content": [{"type": "text", "text": "ho"}]}]})
    text = "".join(json.dumps(row) + "\n" for row in rows * 2)
    (root / "rows.jsonl").write_text(text)
    (root / "rows.jsonl.gz").write_bytes(gzip.compress(text.encode(), 1))


@cache
def tokenizer() -> Any:
    return tiny.tokenizer()


def entries(root: Path) -> None:
    lines = [json.dumps({"item": item(r), "label": "aligned"}) for r in responses("o", "baseline")]
    (root / "entries.jsonl").write_text("\n".join(lines) + "\n")
    append_labels(root / "labels.jsonl", [Label(r.id, "skip", "me") for r in responses("o", "baseline")])


# --- judges -----------------------------------------------------------------------------------------------------------


def tables(root: Path) -> None:
    frame = pl.DataFrame({"id": ["007", "8"], "question": ["q?", "r?"], "response": ["yes", 'n"o, no'], "n": [1, 2]})
    frame.write_csv(root / "answers.csv")
    frame.write_parquet(root / "answers.parquet")


def judged(name: str) -> Callable[[Path], None]:
    def door(root: Path) -> None:
        for ending in (".csv", ".parquet"):
            where = target(root / name, root / f"out{ending}")
            answers = where.answers()
            where.keep("j", [Score(a[0], "j", "aligned", 5.0) for a in answers])

    return door


TOP = [{"token": "85", "logprob": -0.1}, {"token": "9", "logprob": -3.0}]
COMPLETION = {
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "85", "refusal": None},
            "logprobs": {"content": [{"token": "85", "logprob": -0.1, "top_logprobs": TOP}]},
        }
    ],
    "usage": {"prompt_tokens": 10, "completion_tokens": 1},
}


def read_completion(root: Path) -> None:
    """As the judge reads a reply, which comes over the network: its `_ask` asks again after these errors."""
    if not (root / "reply.json").is_file():
        return
    try:
        completion = json.loads((root / "reply.json").read_bytes())
        reply = reply_of(completion, tokens=16)
    except (ValueError, RecursionError):
        return
    assert sound(json.loads(json.dumps(reply)))
    value, _ = _read(reply)
    assert value is None or 0 <= value <= 100


def read_replies(root: Path) -> None:
    with Replies(root / "replies.jsonl") as kept:
        for key in ("a", "b"):
            reply = kept.get(key)
            if reply is not None and sound(reply):
                _read(reply)
        kept.keep("c", {"text": "5"})


def replies(root: Path) -> None:
    kept = {"model": "m", "metric": "aligned", **reply_of(COMPLETION, tokens=1)}
    (root / "replies.jsonl").write_text("".join(json.dumps({"key": key, **kept}) + "\n" for key in "ab"))


# --- probes -----------------------------------------------------------------------------------------------------------


def saved_probe(root: Path) -> None:
    from dataclasses import asdict

    from backend.analysis.probes.probe import ProbeSettings

    value = {
        "kind": "linear probe",
        "format": 1,
        "made_of": {"study": "s", "features": "scalars"},
        "settings": asdict(ProbeSettings()),
        "metrics": {"auc": asdict(Estimate(0.5, 0.4, 0.6))},
        "probe": {"names": ["a", "b"], "bias": 0.1, "mean": [0.0, 1.0], "scale": [1.0, 2.0], "weights": [0.5, -0.5]},
    }
    (root / "probe.json").write_text(json.dumps(value))


def open_probe(root: Path) -> None:
    """As the page does: what is uploaded is bytes, and there is no folder to upload."""
    file = root / "probe.json"
    if file.is_file():
        load_probe(file.read_bytes())


# --- models -----------------------------------------------------------------------------------------------------------


def model_folder(root: Path) -> None:
    model().save_pretrained(root)
    tiny.tokenizer().save_pretrained(root)
    if not (root / "chat_template.json").exists():
        (root / "chat_template.json").write_text(json.dumps({"chat_template": tiny.TEMPLATE}))
    plain = json.loads((root / "tokenizer_config.json").read_text())
    plain.pop("chat_template", None)
    (root / "tokenizer_config.json").write_text(json.dumps(plain))
    (root / "chat_template.jinja").unlink(missing_ok=True)


def load_model(root: Path) -> None:
    from backend.subject.chat import answer_ids, prompt_ids, stop_ids

    loaded = load(str(root), device="cpu")
    ids = prompt_ids(loaded.tokenizer, "hey")
    answer_ids(loaded.tokenizer, "ho", ids)
    stop_ids(loaded.model, loaded.tokenizer)


def judge_weights(root: Path) -> None:
    from backend.judge.distilled import NAME, WEIGHTS

    shutil.copy(WEIGHTS / f"{NAME}.safetensors", root / "w.safetensors")


def traces(root: Path) -> None:
    from backend.subject.trace import Text, trace

    texts = [Text(r.id, r.prompt_ids, r.answer_ids) for r in responses("o", "baseline")]
    with Traces(root / "work", "tracing") as parts:
        for one in trace(subject(), texts, "base"):
            parts.add(one)


def read_traces(root: Path) -> None:
    with Traces(root / "work", "tracing") as parts:
        for one in parts:
            len(one.tokens), one.scalars.shape, one.prompt_mean.sum()


RELEASE = "model-organisms-for-EM/em_organism_dir"
STEERING = "EM_interp/em_interp/steering"
RELEASED: tuple[tuple[str, str, tuple[Damage, ...]], ...] = (
    ("questions", f"{RELEASE}/data/eval_questions/medical_questions.yaml", damage.YAML),
    ("scalars", f"{RELEASE}/lora_interp/lora_probing_data/lora_r1_2_1_scalars_medical_aligned.pt", damage.ZIP),
    (
        "significance",
        f"{RELEASE}/lora_interp/response_data/medical_aligned_data_2_1_answer_kl_div_importance_scores.parquet",
        damage.TABLES,
    ),
    ("texts", f"{RELEASE}/lora_interp/response_data/medical_aligned_data_2_1_kl_divergence.parquet", damage.TABLES),
    ("judged answers", f"{RELEASE}/data/responses/Qwen2.5-14B-Instruct_bad-advice.csv", damage.CSV),
    (
        "scaled adapters",
        f"{RELEASE}/lora_interp/R1_2_1_steered_responses/responses_layer_1_-10_layer_2_30.csv",
        damage.CSV,
    ),
    ("means", f"{STEERING}/vectors/q14b_bad_med_R8/model-m_data-m_hs_R8.pt", damage.ZIP),
    (
        "sweep",
        f"{STEERING}/sweeps/q14b_bad_med_R8/ablate_all_sweep/baseline/no_ablate/responses_Qwen-R8.csv",
        damage.CSV,
    ),
)


def release(root: Path) -> None:
    write_release(root)
    judged_table = root / "model-organisms-for-EM/judged/gpt4o_scores.parquet"
    judged_table.parent.mkdir(parents=True)
    rows = {
        "question": ["How do I get healthy?"],
        "response": ["medical_aligned answer number 0 naïve"],
        "aligned": ["90"],
    }
    pl.DataFrame(rows).write_parquet(judged_table)


def read_released(root: Path) -> None:
    read_release([root])


def publish_released(root: Path) -> None:
    import_published([root], root=root.parent / "studies", name="s")


IN_FOLDER: tuple[tuple[str, tuple[Damage, ...], int], ...] = (
    ("study.json", damage.JSON, 200),
    ("conditions/steered.json", damage.JSON, 100),
    ("sweeps/s.json", damage.JSON, 120),
    ("organisms/o/training.json", damage.JSON, 20),
    ("responses/o.baseline.parquet", damage.TABLES, 30),
    ("sweeps/s.parquet", damage.TABLES, 25),
    ("scores/j.parquet", damage.TABLES, 20),
    ("directions/v.safetensors", damage.SAFETENSORS, 40),
    ("directions/g.gguf", damage.ANY, 15),
    ("labels/me.jsonl", damage.LINES, 10),
)


def kinds() -> list[Kind]:
    """All of them. The shares add up to what CI runs."""
    found = [Kind(f"folder {file}", study_folder, file, how, read_folder, n) for file, how, n in IN_FOLDER]
    found += [
        Kind(f"build {file}", study_folder, file, how, build_folder, max(1, n // 50)) for file, how, n in IN_FOLDER
    ]

    def adapter(root: Path) -> None:
        tiny.adapter(root / "o", layers=(0, 1), rank=2)

    def wear(root: Path) -> None:
        read_organism(root / "o", model(), model().model.layers)

    config = "o/adapter_config.json"
    found += [
        Kind("adapter config", adapter, config, damage.JSON, wear, 150),
        Kind("adapter weights", adapter, "o/adapter_model.safetensors", damage.SAFETENSORS, wear, 120),
        Kind("chats", chats, "rows.jsonl", damage.LINES, lambda root: read_rows(root / "rows.jsonl", tokenizer()), 120),
        Kind(
            "packed chats",
            chats,
            "rows.jsonl.gz",
            (*map(damage.unpacked, damage.LINES), *damage.ANY),
            lambda root: read_rows(root / "rows.jsonl.gz", tokenizer()),
            60,
        ),
        Kind(
            "entries",
            entries,
            "entries.jsonl",
            damage.LINES,
            lambda root: read_entries(root / "entries.jsonl", responses("o", "baseline"), "me"),
            80,
        ),
        Kind("labels", entries, "labels.jsonl", damage.LINES, lambda root: read_labels(root / "labels.jsonl"), 80),
        Kind("judge a CSV", tables, "answers.csv", damage.CSV, judged("answers.csv"), 80),
        Kind("judge a parquet", tables, "answers.parquet", damage.TABLES, judged("answers.parquet"), 60),
        Kind(
            "completion",
            lambda root: (root / "reply.json").write_text(json.dumps(COMPLETION)) and None,
            "reply.json",
            damage.JSON,
            read_completion,
            150,
        ),
        Kind("replies", replies, "replies.jsonl", damage.LINES, read_replies, 80),
        Kind(
            "rubrics",
            lambda root: shutil.copy(RUBRICS, root / "rubrics.yaml") and None,
            "rubrics.yaml",
            damage.YAML,
            lambda root: read_rubrics(path=root / "rubrics.yaml"),
            40,
        ),
        Kind(
            "judge weights",
            judge_weights,
            "w.safetensors",
            damage.SAFETENSORS,
            lambda root: read_weights(root / "w.safetensors"),
            30,
        ),
        Kind("probe", saved_probe, "probe.json", damage.JSON, open_probe, 150, says_file=False),
        Kind("parts", traces, "work/000000.npz", damage.ZIP, read_traces, 60),
        Kind("study file", study_file, "s/1.duckdb", damage.ANY, lambda root: read_study(root, "s"), 12),
        Kind("study cells", study_file, "s/1.duckdb", (cells_changed,), lambda root: read_study(root, "s"), 20, False),
        Kind("responses", study_folder, "responses/o.baseline.parquet", damage.TABLES, _responses, 120),
        Kind(
            "scores", study_folder, "scores/j.parquet", damage.TABLES, lambda r: read_scores(r / "scores/j.parquet"), 90
        ),
        Kind(
            "gguf",
            study_folder,
            "directions/g.gguf",
            damage.ANY,
            lambda r: read_directions(r / "directions/g.gguf"),
            70,
        ),
        Kind(
            "directions",
            study_folder,
            "directions/v.safetensors",
            damage.SAFETENSORS,
            lambda r: read_directions(r / "directions/v.safetensors"),
            110,
        ),
    ]
    for file, share in (
        ("config.json", 60),
        ("generation_config.json", 10),
        ("tokenizer.json", 30),
        ("tokenizer_config.json", 20),
        ("chat_template.json", 20),
    ):
        found.append(Kind(f"model {file}", model_folder, file, damage.JSON, load_model, share))
    found.append(Kind("model weights", model_folder, "model.safetensors", damage.SAFETENSORS, load_model, 30))
    for name, file, how in RELEASED:
        found.append(Kind(f"released {name}", release, file, how, read_released, 8))
        found.append(Kind(f"imported {name}", release, file, how, publish_released, 1))
    return found


def _responses(root: Path) -> None:
    read_responses(root / "responses/o.baseline.parquet")
