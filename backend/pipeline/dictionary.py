"""A dictionary of a study's scalars: learned, kept in the form of sae-lens, and held against what it must beat.

Learned on the answer tokens that one organism read. What is compared is held out by question: in each of four folds a
dictionary of the other questions restores the tokens of these, and probes of equal size tell two classes apart.

    measure                  what
    variance                 the share of a question's variance that is restored at L0 `strength`, held out
    auc, auc low, auc high   of a probe on `strength` of the features that tell most, means of responses, held out
    fires, decoder           of a feature (the part): at which share of tokens; its weight on an adapter (the vector)
    tells                    of a feature: the AUC of its mean in a response; tells low, tells high
    token                    where a feature is largest: the token in its place (the vector), its rank (the strength)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors.numpy import load, save

from backend.analysis.aucs import auc, auc_estimate, auc_table
from backend.analysis.contrasts import label_responses
from backend.analysis.probes.logistic import Design, fit_logistic
from backend.analysis.scalars import dictionary as sparse
from backend.analysis.scalars.dictionary import Dictionary
from backend.files import whole_folder
from backend.outcomes import Outcome
from backend.outside import bytes_of, json_of, understood
from backend.pipeline.measured import Measurement
from backend.records import InputError
from backend.study import Study
from backend.study.parquet import MEASURED
from backend.study.scalars import ScalarTable

KIND = "dictionary"
OWN, COMPONENTS, ADAPTERS, SHUFFLED = "dictionary", "principal components", "single adapters", "shuffled scalars"
FOLDS, TOP, AROUND = 4, 8, 5  # of questions; tokens of a feature; tokens shown before each
Row = tuple[Any, ...]
Features = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True)
class Learning:
    """What is learned of whose scalars."""

    reader: str
    features: int = 32
    active: int = 2  # k
    steps: int = 4000
    seed: int = 0
    judge: str | None = None


def learn(study: Study, asked: Learning, outcome: Outcome, name: str) -> tuple[Measurement, Dictionary]:
    """The dictionary of all tokens, and what it is worth, held out by question.

    Raises InputError on a reader without scalars, too few tokens, questions or adapters.
    """
    adapters = study.adapters(asked.reader)["name"].to_list() if asked.reader in study.readers() else []
    if not adapters:
        raise InputError(f"{asked.reader!r} has read no text with adapters of its own; readers: {study.readers()}")
    table = study.scalar_tokens(asked.reader, adapters)
    values = table.values.astype(np.float64)
    questions = dict(study.responses().select("response", "question_id").iter_rows())
    own = np.array([questions[response] for response in table.responses])
    if len(set(own)) < 2 * FOLDS:
        raise InputError(
            f"{asked.reader} read answers to {len(set(own))} questions: {2 * FOLDS} are needed to hold some out"
        )
    judge = asked.judge or study.info.get("judge") or next(iter(study.judges()), None)
    labels = label_responses(study.responses(judge), outcome.contrast)
    classes = dict(labels.select("response", "label").iter_rows())
    whole = _learned(values, asked)
    rows = [
        *_variances(values, own[table.response], asked),
        *_probes(values, table, own, classes, asked, outcome),
        *_features(study, whole, values, table, adapters, own, classes, asked),
    ]
    record = {
        **asdict(asked),
        "study": study.name,
        "judge": judge,
        "outcome": outcome.name,
        "contrast": outcome.contrast.name,
        "adapters": adapters,
        "tokens": len(values),
        "answers": len(table.responses),
        "questions": len(set(own)),
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return Measurement(KIND, name, record, pl.DataFrame(rows, MEASURED, orient="row")), whole


def _learned(values: NDArray[Any], asked: Learning) -> Dictionary:
    return sparse.trained(values, features=asked.features, active=asked.active, steps=asked.steps, seed=asked.seed)


def _folds(questions: NDArray[Any], seed: int) -> Iterator[set[str]]:
    """The questions of each fold."""
    names = np.random.default_rng((seed, *b"folds")).permutation(sorted(set(questions)))
    yield from (set(part) for part in np.array_split(names, FOLDS))


def _row(measure: str, vector: str, asked: Learning, *, part: str = "", strength: float | None = None) -> Row:
    return measure, vector, asked.reader, "", "answer", None, part, strength


def _variances(values: NDArray[Any], questions: NDArray[Any], asked: Learning) -> Iterator[Row]:
    """Of every question, restored by what was learned of others; beside scalars whose adapters are shuffled."""
    rng, k = np.random.default_rng((asked.seed, *b"shuffled scalars")), asked.active
    shuffled = np.stack([rng.permutation(column) for column in values.T], axis=1)
    for held in _folds(questions, asked.seed):
        inside = np.isin(questions, list(held))
        learned = values[~inside]
        own, control = _learned(learned, asked), _learned(shuffled[~inside], asked)
        for question in sorted(held):
            here = questions == question
            for what, found in (
                (OWN, sparse.explained(values[here], own.restored(values[here]), learned)),
                (SHUFFLED, sparse.explained(shuffled[here], control.restored(shuffled[here]), shuffled[~inside])),
                (COMPONENTS, _compared(sparse.restored_by_components, values[here], learned, k)),
                (ADAPTERS, _compared(sparse.restored_by_adapters, values[here], learned, k)),
            ):
                yield *_row("variance", what, asked, strength=k), question, found


def _compared(restore: Callable[..., NDArray[Any]], here: NDArray[Any], learned: NDArray[Any], active: int) -> float:
    return sparse.explained(here, restore(here, learned, active), learned)


def _probes(
    values: NDArray[Any],
    table: ScalarTable,
    questions: NDArray[Any],
    classes: dict[str, bool],
    asked: Learning,
    outcome: Outcome,
) -> Iterator[Row]:
    """AUCs of logistic probes on the few features that tell most, chosen and fitted on other questions."""
    kept = np.array([response in classes for response in table.responses])
    truth = np.array([classes.get(response, False) for response in table.responses])
    sizes = sorted({1, min(3, values.shape[1]), values.shape[1]})
    scores = {(what, size): np.full(len(kept), np.nan) for what in (OWN, COMPONENTS, ADAPTERS) for size in sizes}
    for held in _folds(questions, asked.seed):
        inside = np.isin(questions, list(held))
        learned = values[~inside[table.response]]
        own, axes = _learned(learned, asked), sparse.principal(learned)
        middle, spread = learned.mean(axis=0), learned.std(axis=0)
        read: dict[str, Features] = {
            OWN: own.features,
            COMPONENTS: lambda x, m=middle, s=spread, a=axes: ((x - m) / s) @ a.T,  # type: ignore[misc]
            ADAPTERS: lambda x: x,
        }
        train, test = kept & ~inside, kept & inside
        for what, of in read.items():
            means = _by_response(of(values), table)
            telling = [abs(auc(column[train], truth[train]) - 0.5) for column in means.T]
            order = np.argsort(np.nan_to_num(telling))[::-1]
            for size in sizes:
                few = order[:size]
                fit = fit_logistic(
                    Design(means[train][:, few]), truth[train], np.ones(int(train.sum())), penalty="l2", C=1.0
                )
                scores[what, size][test] = fit.probability(means[test][:, few])
    for (what, size), found in scores.items():
        estimate = auc_estimate(found[kept], truth[kept], questions[kept])
        for measure, value in (("auc", estimate.value), ("auc low", estimate.low), ("auc high", estimate.high)):
            yield *_row(measure, what, asked, part=outcome.contrast.name, strength=size), "", value


def _by_response(features: NDArray[Any], table: ScalarTable) -> NDArray[Any]:
    """(response, feature), means over tokens."""
    sums = np.zeros((len(table.responses), features.shape[1]))
    np.add.at(sums, table.response, features)
    return np.asarray(sums / np.bincount(table.response, minlength=len(table.responses))[:, None])


def _features(
    study: Study,
    whole: Dictionary,
    values: NDArray[Any],
    table: ScalarTable,
    adapters: list[str],
    questions: NDArray[Any],
    classes: dict[str, bool],
    asked: Learning,
) -> Iterator[Row]:
    """What every feature is: how often it fires, what it is made of, where it is largest, and what it tells."""
    read = whole.features(values)
    means = _by_response(read, table)
    kept = np.array([response in classes for response in table.responses])
    truth = np.array([classes.get(response, False) for response in table.responses])
    tells = auc_table(means[kept], truth[kept], questions[kept])
    strips = {}
    for feature in range(read.shape[1]):
        part = f"feature {feature}"
        yield *_row("fires", "", asked, part=part), "", float((read[:, feature] > 0).mean())
        for adapter, weight in zip(adapters, whole.decoder[feature], strict=True):
            yield *_row("decoder", adapter, asked, part=part), "", float(weight)
        for measure, column in (("tells", "value"), ("tells low", "low"), ("tells high", "high")):
            value = tells[column][feature]
            yield *_row(measure, "", asked, part=part), "", np.nan if value is None else float(value)
        for rank, token in enumerate(np.argsort(read[:, feature])[::-1][:TOP], 1):
            if read[token, feature] <= 0:
                break
            response, position = table.responses[table.response[token]], int(table.position[token])
            if response not in strips:
                strips[response] = study.strip(response, asked.reader).tokens
            before = "".join(strips[response][max(0, position - AROUND) : position])
            said = f"{before}⟦{strips[response][position]}⟧"
            yield *_row("token", said, asked, part=part, strength=rank), response, float(read[token, feature])


# --- files in the form of sae-lens ------------------------------------------------------------------------------------


def write(path: Path, dictionary: Dictionary, record: dict[str, Any]) -> None:
    """A folder with cfg.json and sae_weights.safetensors, whole or not at all. It replaces none."""
    tensors = {
        "W_enc": dictionary.encoder,
        "b_enc": dictionary.threshold,
        "W_dec": dictionary.decoder,
        "b_dec": dictionary.centre,
    }
    said = {
        "architecture": "topk",
        "d_in": dictionary.encoder.shape[0],
        "d_sae": dictionary.encoder.shape[1],
        "k": dictionary.active,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "metadata": {"hook_name": "adapter scalars", "adapters": record["adapters"], "organism": record["reader"]},
    }
    with whole_folder(path) as building:
        (building / "cfg.json").write_text(json.dumps(said, indent=1))
        contiguous = {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in tensors.items()}
        (building / "sae_weights.safetensors").write_bytes(save(contiguous))


def read(path: Path, adapters: list[str]) -> Dictionary:
    """The inverse of `write`. Raises InputError on a dictionary of other adapters, or files that are none."""
    said = json_of(path / "cfg.json", absent="a dictionary is a folder with cfg.json and sae_weights.safetensors")
    metadata = said.get("metadata") if isinstance(said, dict) else None
    own = metadata.get("adapters") if isinstance(metadata, dict) else None
    if own != adapters:
        count = f"{len(own)} other ones" if isinstance(own, list) else "adapters that it does not name"
        raise InputError(
            f"{path} is a dictionary of {count}, and these are {len(adapters)}: it was learned on another organism or "
            "study; learn one of this"
        )
    weights = path / "sae_weights.safetensors"
    with understood(weights, "a dictionary's weights", "learn it again"):
        tensors = {name: value.astype(np.float64) for name, value in load(bytes_of(weights)).items()}
        width, features = tensors["W_enc"].shape
        shapes = {"W_enc": (width, features), "b_enc": (features,), "W_dec": (features, width), "b_dec": (width,)}
        if width != len(adapters) or any(tensors[name].shape != shape for name, shape in shapes.items()):
            raise ValueError("its weights do not fit each other")
        parts = [tensors[name] for name in shapes]
        return Dictionary(parts[0], parts[1], parts[2], parts[3], int(said["k"]))
