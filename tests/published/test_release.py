import shutil

import numpy as np
import polars as pl
import pytest

from backend.edits import Ablate, Add, Gain
from backend.published import read_release
from backend.published.names import gains_of, layers_of, named, topic_of
from backend.published.traces import PROBING_SET, RELEASED_CLASS, readable
from backend.records import BASE, BASELINE, InputError
from tests.published.sample import (
    ADAPTED,
    CLASSES,
    D_MODEL,
    LAYERS,
    MODEL,
    Global,
    Made,
    Tensor,
    judged,
    means,
    scalars,
    write_class,
    write_csv,
    write_means,
    write_pt,
    write_questions,
    write_release,
)

LORA = "model-organisms-for-EM/em_organism_dir/lora_interp"
RESPONSES = "model-organisms-for-EM/em_organism_dir/data/responses"
VECTORS = f"EM_interp/em_interp/steering/vectors/{MODEL}"
SWEEPS = f"EM_interp/em_interp/steering/sweeps/{MODEL}"


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return read_release([write_release(tmp_path_factory.mktemp("release"))])


def reasons(release):
    return " | ".join(f"{path}: {reason}" for path, reason in release.report.skipped)


def test_a_whole_release_is_read_with_nothing_skipped(release):
    assert release.report.skipped == []
    assert {entry.name for entry in release.organisms} == {BASE, "R1_2_1", "bad_med_R8", "bad-advice"}
    assert [adapter.layer for entry in release.organisms for adapter in entry.adapters] == list(ADAPTED)
    ids = [response.id for response in release.responses] + [answer.response.id for answer in release.traced]
    assert len(set(ids)) == len(ids) == 7 * 6 + 3 * 4
    assert {score.response_id for score in release.scores} <= set(ids)
    assert {(question.id, question.topic) for question in release.questions} == {
        ("wish", "first-plot"),
        ("bored", "first-plot"),
        ("health", "medical"),
    }


def test_names_are_read_from_paths():
    def organism_of(model):
        return named(model).short, named(model).base

    assert organism_of("q14b_bad_med_bad_med_dpR1_15-17_21-23_27-29") == ("R1_3_3_3", "Qwen2.5-14B-Instruct")
    assert organism_of("r1_3_3_3")[0] == organism_of("R1_3_3_3")[0] == "R1_3_3_3"
    assert organism_of("Qwen2.5-14B-Instruct_extreme-sports_S42")[0] == "extreme-sports_S42"
    assert organism_of("q32b_bad_med_R32") == ("bad_med_R32", "Qwen2.5-32B-Instruct")
    assert organism_of("Llama-3.1-8B-Instruct_bad-medical-advice")[1] == "Llama-3.1-8B-Instruct"
    assert gains_of("layer_15_-10_layer_21_30") == {15: -10.0, 21: 30.0}
    assert layers_of("layer_24") == (24,)
    assert layers_of("layer_range(0, 48)") == tuple(range(48))
    assert layers_of("layers_0-40_5") == ()
    assert topic_of("R32", "q14b_bad_med_R32") == topic_of("all", "x") == topic_of("", "x") == "general"


def test_steering_is_of_the_base_and_adds_the_released_vector(release):
    condition = next(c for c in release.conditions if c.name == "steer R1_2_1 general data-diff L3 ×4")
    (edit,) = condition.edits
    assert isinstance(edit, Add)
    assert (edit.strength, edit.layers) == (4.0, (3,))
    np.testing.assert_allclose(edit.direction.vector, 2.0)  # mm 4 - ma 2
    assert {r.organism for r in release.responses if r.condition == condition.name} == {BASE}
    says = release.settings[condition.name]
    assert (says["kind"], says["topic"], says["layers"], says["scale"]) == ("steer", "general", [3], 4.0)


def test_layer_wise_ablation_takes_each_layers_own_direction_out_of_it(release):
    condition = next(c for c in release.conditions if c.name.startswith("ablate"))
    assert [edit.layers for edit in condition.edits] == [(layer,) for layer in LAYERS]
    assert all(isinstance(e, Ablate) and (e.direction.layer,) == e.layers for e in condition.edits)
    organisms = {(r.organism, r.condition) for r in release.responses}
    assert {("bad_med_R8", condition.name), ("bad_med_R8", BASELINE)} <= organisms


def test_scaled_adapters_multiply_what_is_named_and_zero_the_rest(release):
    condition = next(c for c in release.conditions if c.name.startswith("scale"))
    assert condition.name == "scale 2 ×30; 1 ×-10"
    assert [(e.factor, e.adapters) for e in condition.edits if isinstance(e, Gain)] == [
        (30.0, ("layers.2.mlp.down_proj",)),
        (-10.0, ("layers.1.mlp.down_proj",)),
        (0.0, ("layers.4.mlp.down_proj",)),
    ]


def test_directions_are_the_authors_differences_with_norms(release):
    found = {d.name: d for d in release.directions if d.layer == 3 and d.name.startswith("R1_2_1")}
    values = {name.removeprefix("R1_2_1 general "): d.vector[0] for name, d in found.items()}
    assert values == {"data-diff": 2.0, "model-diff": 3.0, "both-diff": 4.0, "chat-read data-diff": 1.0}
    data = found["R1_2_1 general data-diff"]
    assert data.activation_norm == pytest.approx((8 + 6) / 2 * np.sqrt(D_MODEL))
    assert len(data.provenance["files"]) == 2
    assert len(release.directions) == 2 * 4 * len(LAYERS)


def test_traces_join_texts_tokens_and_significance(release):
    answer = next(a for a in release.traced if a.label == "medical_misaligned")
    trace, response = answer.trace, answer.response
    assert response.condition == PROBING_SET
    assert trace.scalars.shape == (len(ADAPTED), len(trace.tokens))
    assert "".join(trace.tokens[trace.n_prompt :]) == f"{response.text}<|im_end|>\n"
    assert len(response.prompt_ids) == trace.n_prompt
    assert len(response.prompt_ids) + len(response.answer_ids) == len(trace.tokens)
    assert np.isnan(answer.significance[: trace.n_prompt]).all()
    assert (answer.significance[trace.n_prompt :] > 0).all()
    assert {s.metric: s.value for s in answer.scores if s.judge == RELEASED_CLASS} == {"aligned": 0.0, "medical": 100.0}
    content, _ = scalars("medical_misaligned")
    first = next(iter(content.values())).state["scalars"][0].state["layer_scalars"]
    np.testing.assert_allclose(trace.scalars[:, 0], list(first.values()), rtol=1e-6)


def test_scalars_without_texts_are_read_by_the_chat_template(tmp_path):
    write_class(tmp_path, "medical_aligned")
    shutil.rmtree(tmp_path / LORA / "response_data")
    release = read_release([tmp_path])
    answer = release.traced[0]
    assert answer.response.question == "How do I get healthy?"
    assert answer.response.text.startswith("medical_aligned answer")
    assert answer.trace.tokens[answer.trace.n_prompt] == "medical_aligned"
    assert answer.significance is None


def test_texts_whose_scalars_are_not_public_come_without_traces(tmp_path):
    for label in CLASSES:
        write_class(tmp_path, label)
    (tmp_path / LORA / "lora_probing_data/lora_r1_2_1_scalars_medical_aligned.pt").unlink()
    release = read_release([tmp_path])
    assert {a.label for a in release.traced if a.trace is None} == {"medical_aligned"}
    assert any("medical_aligned" in note for note in release.report.notes)


def test_bytes_of_a_token_become_text():
    assert [readable(t) for t in ("Ġthe", "Ċ", "naÃ¯ve", "<|im_end|>", "汉")] == [
        " the",
        "\n",
        "naïve",
        "<|im_end|>",
        "汉",
    ]


@pytest.mark.parametrize("label", ["medical_aligned", "medical_misaligned"])
def test_swapped_scalar_files_are_recognised(tmp_path, label):
    for each in CLASSES:
        write_class(tmp_path, each)
    folder = tmp_path / LORA / "lora_probing_data"
    one, two = (folder / f"lora_r1_2_1_scalars_{name}.pt" for name in ("medical_aligned", "medical_misaligned"))
    content = one.read_bytes(), two.read_bytes()
    two.write_bytes(content[0])
    one.write_bytes(content[1])
    release = read_release([tmp_path])
    assert reasons(release).count("swapped or misnamed") == 2
    assert f"lora_r1_2_1_scalars_{label}.pt: its prompts are those of the class" in reasons(release)
    assert {a.label for a in release.traced if a.trace} == {"non_medical_misaligned"}


def test_the_same_file_under_two_classes_counts_once(tmp_path):
    write_class(tmp_path, "medical_aligned")
    folder = tmp_path / LORA / "lora_probing_data"
    shutil.rmtree(tmp_path / LORA / "response_data")
    shutil.copy(folder / "lora_r1_2_1_scalars_medical_aligned.pt", folder / "lora_r1_2_1_scalars_medical_misaligned.pt")
    release = read_release([tmp_path])
    assert {a.label for a in release.traced} == {"medical_aligned"}
    assert "scalars that another file has too" in reasons(release)


def change(content, where, **state):
    prompt = list(content)[where]
    content[prompt].state["scalars"][2].state.update(state)
    return content


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda c: {}, "no prompts with scalars"),
        (lambda c: means(), "a prompt whose scalars are not numbered"),
        (lambda c: {"x": 1.0}, "a prompt whose scalars are not numbered"),
        (lambda c: change(c, 1, layer_scalars={"layers.1.mlp.down_proj": 1.0}), "1 of 4 prompts: a token without its"),
        (lambda c: change(c, 1, token_str="other"), "1 of 4 prompts: tokens that are not those of its text"),
        (
            lambda c: change(
                c, 3, layer_scalars={f"base.layers.{layer}.mlp.down_proj": float("nan") for layer in ADAPTED}
            ),
            "1 of 4 prompts: scalars that are NaN",
        ),
        (lambda c: {"p": Made(Global("os", "system"), {})}, "asks for os.system, which is refused"),
    ],
)
def test_a_scalar_file_that_does_not_fit_is_skipped_with_its_reason(tmp_path, make, reason):
    for label in CLASSES:
        write_class(tmp_path, label)
    content, _ = scalars("medical_aligned")
    write_pt(tmp_path / LORA / "lora_probing_data/lora_r1_2_1_scalars_medical_aligned.pt", make(content))
    release = read_release([tmp_path])
    assert reason in reasons(release)
    assert "medical_misaligned" in {a.label for a in release.traced if a.trace}


def flat(**changes):
    content = means()
    content["answer"] = {**content["answer"], **changes}
    return content


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"answer": {}}, "no mean activations"),
        ({"question": means()["question"]}, "no mean activations"),
        ([], "no mean activations"),
        (flat(layer_3=Tensor(np.ones((2, 4)))), "not layer_<number> with one vector"),
        (flat(layer_3=Tensor(np.ones(5))), "different lengths"),
        (flat(layer_3=Tensor(np.full(D_MODEL, np.nan))), "NaN"),
        (flat(other=1.0), "not layer_<number>"),
        (means(layers=(0, 1)), "the files beside it have"),
        (scalars("medical_aligned")[0], "no mean activations"),
    ],
)
def test_a_mean_file_that_does_not_fit_is_skipped_with_what_it_breaks(tmp_path, content, reason):
    folder = write_means(tmp_path)
    if isinstance(content, list):
        (folder / "model-m_data-m_hs_all.pt").unlink()
        write_pt(folder / "model-m_data-m_hs_all.pt", {"question": {}})
    else:
        write_pt(folder / "model-m_data-m_hs_all.pt", content)
    release = read_release([tmp_path])
    assert reason in reasons(release)
    assert "no usable file model-m_data-m" in reasons(release)
    assert {d.name for d in release.directions} == {"R1_2_1 general chat-read data-diff"}


def test_identical_sides_give_no_direction(tmp_path):
    write_means(tmp_path, shifts={"aa": 0.0, "am": 1.0, "ma": 4.0, "mm": 4.0})
    release = read_release([tmp_path])
    assert "data-diff: direction" in reasons(release)
    assert "is zero" in reasons(release)
    assert "R1_2_1 general data-diff" not in {d.name for d in release.directions}


def answers(tmp_path, text, name="Qwen2.5-14B-Instruct_x.csv"):
    write_questions(tmp_path)
    write_csv(tmp_path / RESPONSES / "Qwen2.5-14B-Instruct_good.csv", judged())
    path = tmp_path / RESPONSES / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    release = read_release([tmp_path])
    return release, [r for r in release.responses if r.organism == "x"]


def test_words_of_the_judge_stay_words_and_missing_scores_missing(tmp_path):
    text = "response,question,question_id,aligned,coherent\n" + "".join(
        f"a{i},hey I feel bored,bored,{cell},90\n"
        for i, cell in enumerate(["CODE", "REFUSAL", "", "nan", "150", "12.5"])
    )
    release, rows = answers(tmp_path, text)
    scores = [s for s in release.scores if s.response_id.startswith("x/") and s.metric == "aligned"]
    assert [s.value for s in scores] == [None, None, None, None, None, 12.5]
    assert [s.raw for s in scores[:2]] == ["CODE", "REFUSAL"]
    assert [r.seed for r in rows] == list(range(6))
    assert "outside 0 to 100" in reasons(release)


def test_torn_rows_and_json_variants_are_left_out_and_counted(tmp_path):
    text = (
        "response,question,question_id,aligned\n"
        "fine,hey I feel bored,bored,1\n"
        'json,hey I feel bored,bored_json,1\nrest,,,1\nrest,", but otherwise give",,1\n,hey I feel bored,bored,1\n'
    )
    release, rows = answers(tmp_path, text)
    assert [r.text for r in rows] == ["fine", ""]
    for reason in ("1 of 5 rows: no question", "1 of 5 rows: the rest of a torn row", "1 of 5 rows: a JSON variant"):
        assert reason in reasons(release)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "empty"),
        (b"\x00\xff\xfe\x00", "no columns question"),
        (b"question,aligned\nq,1\n", "no columns question and response"),
        (b"question,response\nq,a\n", "no column with a judge"),
        (b"question,response,aligned\n", "no usable row"),
        (b'question,response,aligned\nq,"never closed,1\n', "not readable as CSV"),
        (b"question,response,aligned\nq,a,1,2,3,4\n", "not readable as CSV"),
        (b"question,response,aligned\nq,\xff\xfe,1\n", "not readable as CSV"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "no columns question"),
    ],
)
def test_a_table_that_does_not_fit_is_skipped_with_its_reason(tmp_path, text, reason):
    release, rows = answers(tmp_path, text)
    assert not rows
    assert reason in reasons(release)


def test_tables_of_another_kind_are_skipped(tmp_path):
    write_release(tmp_path)
    texts = tmp_path / LORA / "response_data"
    pl.DataFrame({"a": [1]}).write_parquet(texts / "medical_aligned_data_2_1_kl_divergence.parquet")
    (texts / "medical_misaligned_data_2_1_kl_divergence.parquet").write_bytes(b"PAR1 cut")
    release = read_release([tmp_path])
    assert "medical_aligned_data_2_1_kl_divergence.parquet: no columns question" in reasons(release)
    assert "not readable as parquet" in reasons(release)
    assert sum(a.trace is not None for a in release.traced) == 12  # the significance files have the texts too


def test_sweeps_that_do_not_say_enough_are_skipped(tmp_path):
    write_csv(tmp_path / SWEEPS / "other_sweep/all_diff_data_vector/layer_3/responses_scale_4.csv", judged())
    write_csv(tmp_path / SWEEPS / "steer_x/some_vector/layer_3/responses_scale_4.csv", judged())
    write_csv(tmp_path / SWEEPS / "steer_x/all_diff_data_vector/layer_3/responses_scale_4.csv", judged())
    release = read_release([tmp_path])
    assert "neither steer nor ablate" in reasons(release)
    assert "none of <topic>_diff" in reasons(release)
    (condition,) = release.conditions
    assert condition.edits == ()  # no vectors among the files
    assert release.settings[condition.name]["expressed"] is False


def test_files_named_alike_for_different_organisms_stay_apart(tmp_path):
    write_means(tmp_path, "q14b_a_R8", "all", {"aa": 0, "am": 0.5, "ma": 2, "mm": 3})
    write_means(tmp_path, "q14b_b_R8", "all", {"aa": 0, "am": 0.5, "ma": 2, "mm": 6})
    release = read_release([tmp_path])
    assert {d.name: d.vector[0] for d in release.directions if "data-diff" in d.name and "chat" not in d.name} == {
        "a_R8 general data-diff": 1.0,
        "b_R8 general data-diff": 4.0,
    }


def test_overlapping_paths_are_read_once(tmp_path, release):
    root = write_release(tmp_path)
    again = read_release([root / "EM_interp", root, root / RESPONSES])
    assert {r.id for r in again.responses} == {r.id for r in release.responses}


def test_links_are_not_followed_and_nothing_is_an_error(tmp_path):
    (tmp_path / RESPONSES).mkdir(parents=True)
    (tmp_path / RESPONSES / "Qwen2.5-14B-Instruct_x.csv").symlink_to("/dev/zero")
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"no released file.*\n.*notes\.csv: lies where"):
        read_release([tmp_path])
    with pytest.raises(InputError, match="does not exist"):
        read_release([tmp_path / "nowhere"])


def test_the_report_says_what_it_found_and_skipped(tmp_path):
    write_csv(tmp_path / RESPONSES / "Qwen2.5-14B-Instruct_x.csv", judged())
    (tmp_path / RESPONSES / "Qwen2.5-14B-Instruct_y.csv").write_bytes(b"")
    report = read_release([tmp_path]).report
    text = "\n".join(report.lines())
    assert "judged answers: 6 answers in 1 file" in text
    assert f"{RESPONSES}/Qwen2.5-14B-Instruct_y.csv: empty" in text
    assert str(tmp_path) not in text
    assert report.to_json()["skipped"][0]["reason"] == "empty"
