"""What a planted adapter writes everywhere is found on text about nothing, beside controls that find nothing."""

import numpy as np
import polars as pl
import pytest

from backend.pipeline import work
from backend.pipeline.build import build
from backend.pipeline.measured import keep
from backend.pipeline.neutral import ANSWERS, FIRST, REST, Neutral, diff
from backend.records import BASE, Direction, InputError, Origin
from backend.study import open_study
from backend.tables import neutral as tables
from tests.studies import planted, tiny

NAME, LAYER = "first planted", planted.ORGANISMS["first"]
TEXTS = tuple(f"text number {i} is about nothing at all" for i in range(12))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("neutral")
    folder, subject = planted.folder_and_subject(root / "folder")
    planted.sampled(folder, subject, n=2)
    said = Origin(organism="first").provenance
    folder.add_directions(
        [Direction(NAME, layer, 2.0 * planted.planted(), 10.0, said) for layer in range(tiny.N_LAYERS)]
    )
    found, stack = diff(folder, subject, Neutral("first", NAME, answers=6), "first", TEXTS)
    keep(folder.path, found)
    folder.add_directions(stack)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "WORK", root / "work")
        build(folder, subject, "neutral", root=root / "studies", progress=lambda *_: None)
    return folder, subject, stack, open_study("neutral", root / "studies")


def test_the_kept_direction_is_what_the_adapter_writes(made):
    _, _, stack, study = made
    assert [each.layer for each in stack] == list(range(LAYER, tiny.N_LAYERS))  # below there is no difference
    assert abs(stack[0].unit @ planted.planted()) > 0.999
    assert study.direction("first minus base, neutral", LAYER).origin.organism == "first"
    assert study.lens("first minus base, neutral", LAYER).height


def test_the_difference_is_that_of_plain_forward_passes(made):
    import torch

    _, subject, stack, _ = made
    module = subject.organisms["first"].adapters[0]
    moved = []
    for text in TEXTS:
        ids = torch.tensor([subject.tokenizer(text)["input_ids"][:6]])
        seen = []
        mlp = subject.model.get_submodule(f"model.layers.{LAYER}.mlp.down_proj")
        hook = mlp.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0][0]))
        with torch.no_grad():
            subject.model(ids)
        hook.remove()
        scalars = seen[0].numpy() @ module.read * module.scaling
        moved.append(np.outer(scalars[1:], module.write).mean(axis=0))
    assert stack[0].vector == pytest.approx(np.mean(moved, axis=0), rel=1e-3, abs=1e-5)


def test_cosines_stand_beside_controls_and_lengths_begin_at_the_adapter(made):
    study = made[-1]
    own, controls = tables.cosines(study, "first")
    at = own.filter(pl.col("layer") == LAYER).row(0, named=True)
    assert abs(at["value"]) > 0.9
    assert abs(at["pooled"]) > 0.999
    assert at["questions"] == len(TEXTS)
    chance = controls.filter(pl.col("layer") == LAYER).row(0, named=True)
    assert chance["low"] < 0 < chance["high"]
    assert chance["draws"] == 10
    shares = tables.lengths(study, "first")
    assert shares.filter(pl.col("layer") < LAYER)["value"].max() == 0
    assert shares.filter(pl.col("layer") >= LAYER)["value"].min() > 0


def test_kl_is_given_for_first_and_later_tokens_and_answers(made):
    table = tables.divergences(made[-1], "first")
    assert table["part"].to_list() == [FIRST, REST, ANSWERS]
    assert table["low"].min() > 0
    assert table["questions"].to_list() == [len(TEXTS), len(TEXTS), len(planted.QUESTIONS)]


def test_what_cannot_be_read_is_refused(made):
    folder, subject, *_ = made
    with pytest.raises(InputError, match="0 of 2 texts have more than 5 tokens"):
        diff(folder, subject, Neutral("first", NAME), "x", ("a", "b"))
    with pytest.raises(InputError, match="does not differ from itself"):
        Neutral(BASE, NAME)
