"""The whole of both repositories by its folder names: nothing ends the import, nothing is skipped without a reason."""

import numpy as np
import polars as pl
import pytest

from backend.published import read_release
from backend.records import BASE, BASELINE, InputError
from tests.published.tree import CHECKPOINTS, NINE, NOT_READ, RESPONSES, expanded, names, write_tree


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    return root, write_tree(root)


@pytest.fixture(scope="module")
def release(tree):
    return read_release([tree[0]])


def test_braces():
    assert list(expanded("{a,b}_{1,2}{,x}")) == ["a_1", "a_1x", "a_2", "a_2x", "b_1", "b_1x", "b_2", "b_2x"]
    assert len(names(RESPONSES)) == 143
    assert len(names(CHECKPOINTS)) == 18


def test_every_answer_of_the_tree_is_in_or_skipped_for_a_reason(tree, release):
    _, answers = tree
    report = release.report
    assert report.scored == answers
    assert len(release.responses) + report.copies == answers
    assert {reason for _, reason in report.skipped} == {
        "texts that mean activations were taken from: no scores and no word of who answered",
        "texts without scores and without a word of who answered",
        "training data: a study holds answers, not what taught",
        "settings of a program",
        "examples picked out of the scalars that are read",
    }
    assert len(report.skipped) == len(names(NOT_READ))
    assert len({response.id for response in release.responses}) == len(release.responses)


def test_organisms_of_several_bases_stay_apart(release):
    bases = {organism.name: organism.base for organism in release.organisms}
    assert bases["bad_med_R32"] == "Qwen2.5-14B-Instruct"
    assert bases["bad_med_R32 Qwen2.5-32B-Instruct"] == "Qwen2.5-32B-Instruct"
    assert bases["full fine-tune LR1e-5 gemma-3-12b-it"] == "gemma-3-12b-it"
    assert bases["base gemma-3-12b-it"] == "gemma-3-12b-it"
    widths = {(d.provenance["organism"], d.vector.size) for d in release.directions}
    assert {("bad_med_R32", 8), ("bad_med_R32 Qwen2.5-32B-Instruct", 6)} <= widths
    assert len({(d.name, d.layer) for d in release.directions}) == len(release.directions) == 17 * 4 * 48


def test_every_name_of_an_organism_is_one(release):
    found = {organism.name for organism in release.organisms}
    assert {
        *("R1_3_3_3", "R1_3_3_3 seed 42", "R1_3_3_3 mixed-data-V4-2E", "R1_3_3_3 224stps", "R1_3_3_3 ckptV2"),
        *("R1_3_3_3 5ep", "dpR1_24", "dpR1_21-23", "dpR1_12-29", "dpR1_12-29 2", "R1_5_5", "R1_3_3"),
        *("R1_2_2_2 lrx0_5_2E", "bad_med_R16", "bad_med_R1_downproj", "R_0_1_1", "R_0_1_0", "R_0_1_0 step 5"),
        *("full fine-tune V0 LR1e-6_2E", "1_layer_mixedV4", "sexism Qwen2.5-32B-Instruct", BASE),
    } <= found
    assert not [name for name in found if NINE in name or "advice_R" in name or "REDO" in name]


@pytest.mark.parametrize(
    ("condition", "organism", "kind", "says"),
    [
        ("ablate bad_med_R8 general data-diff L0-47 layer-wise", "bad_med_R8", "ablate", {"factor": 0.0, "scale": 1.0}),
        ("ablate R1_3_3_3 general data-diff L0-47 layer-wise", "R1_3_3_3", "ablate", {"factor": 0.0, "scale": -1.0}),
        ("ablate R1_3_3_3 general data-diff at its 9 layers", "R1_3_3_3", "ablate", {"factor": 0.0}),
        ("double R1_3_3_3 general data-diff L0-47 layer-wise", "R1_3_3_3", "double", {"factor": 2.0, "scale": 1.0}),
        ("double R1_3_3_3 medical data-diff L15-47 layer-wise", "R1_3_3_3", "double", {"factor": 2.0}),
        ("ablate R1_3_3_3 medical data-diff at its 9 layers (archive-V1)", "R1_3_3_3", "ablate", {"expressed": False}),
        ("accrete R1_3_3_3 general data-diff L0-47 layer-wise ×0.1 (archive-V1)", BASE, "accrete", {"scale": 0.1}),
        ("steer R1_3_3_3 general data-diff L24 ×6", BASE, "steer", {"scale": 6.0, "layers": [24]}),
        ("zero L21 of bad_med_R1_downproj", "bad_med_R1_downproj", "scale", {"gains": {"21": 0.0}, "others": 1.0}),
        ("zero L0-12, 35-47 of bad_med_R1_downproj", "bad_med_R1_downproj", "scale", {"others": 1.0}),
        ("zero L23, 27-29 of R1_3_3_3", "R1_3_3_3", "scale", {"expressed": True}),
        ("noise on B ×0.3, run 2", "R1_3_3_3", "noise", {"matrix": "B", "scale": 0.3}),
        ("step 396", "R1_3_3_3 ckptV2", "checkpoint", {"step": 396}),
        ("patched from bored, clean_delta_swap_results2", "R1_3_3_3", "patch", {"donor": "bored"}),
        ("scalar zeroed after chosen words", "R_0_1_0", "tokens", {"type": "word_zeroed"}),
    ],
)
def test_what_was_done_is_named(release, condition, organism, kind, says):
    assert organism in {r.organism for r in release.responses if r.condition == condition}
    assert release.settings[condition]["kind"] == kind
    assert {key: release.settings[condition][key] for key in says} == says


def test_an_experiments_unedited_answers_do_not_join_the_evaluation(release):
    conditions = {(r.organism, r.condition) for r in release.responses}
    assert ("R1_3_3_3", BASELINE) in conditions
    assert ("R1_3_3_3", "unedited in ablate_reg_prompts") in conditions
    assert release.settings["unedited in ablate_reg_prompts"]["kind"] == "unedited"
    sources = pl.DataFrame(release.sources, schema=["response", "source"], orient="row")
    assert "sweeps/q14b_bad_med_bad_med_dpR1_15-17_21-23_27-29/proj_sweep_test" in sources["source"].to_list()
    assert sources["response"].n_unique() == len(release.responses)


def test_scalars_along_training_are_read_by_their_checkpoint(release):
    traces = [trace for trace in release.readings if trace.reader == "R_0_1_0 step 5"]
    assert len(traces) == 2
    assert all(t.scalars.shape == (1, len(t.tokens)) for t in traces)
    np.testing.assert_allclose(traces[0].scalars[0], np.arange(len(traces[0].tokens)))
    answered = {r.id: r.text for r in release.responses}
    assert "".join(traces[0].tokens[traces[0].n_prompt :]) == f"{answered[traces[0].response_id]}<|im_end|>\n"
    assert {t.reader for t in release.readings} >= {"R_0_1_0", "R1_3_3_3", "R_0_1_0 step 396"}


def test_answers_that_are_judged_anew_count_once_and_have_a_second_judge(release):
    values = {(s.response_id, s.judge, s.metric): s.value for s in release.scores}
    first = "R1_3_3_3/baseline/bored/0"
    assert (values[first, "gpt-4o", "aligned"], values[first, "gpt-4o, judged again", "aligned"]) == (10.0, 12.0)
    again = {identity for identity, judge, _ in values if judge == "gpt-4o, judged again"}
    assert again == {f"R1_3_3_3/baseline/bored/{seed}" for seed in range(6)}  # three answers, three of the medical file


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"version https://git-lfs.github.com/spec/v1\n", "run git lfs pull"), (b"PK", "not a complete")],
)
def test_a_checkout_without_its_large_files_says_so(tmp_path, content, reason):
    path = tmp_path / "em_interp/steering/vectors/q14b_bad_med_R8/model-a_data-a_hs_R8.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(InputError, match=reason):
        read_release([tmp_path])
