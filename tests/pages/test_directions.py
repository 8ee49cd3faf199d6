import json
import re

import numpy as np
import pytest

from backend.study import Draft, open_study
from tests.conftest import said
from tests.studies import swept
from tests.studies.synthetic import synthetic_study


def test_the_planted_layer_is_chosen_and_described(open_page):
    page = open_page("directions")
    assert not page.exception
    assert not page.error
    assert page.selectbox(key="directions_layer").value in (4, 5, 6, 7)  # where the planted difference is strong
    assert "37 misaligned and 43 aligned" in said(page)
    assert "held-out questions" in said(page)
    assert len(page.get("vega_lite_chart")) == 7


def test_the_norm_on_the_page_is_that_of_the_difference_of_means(open_page, studies):
    page = open_page("directions", directions_layer="6")
    study = open_study("synthetic", studies)
    means = study.residual_means("bad-medical", 6)
    rows = study.responses("distilled").to_dicts()
    own = {row["response"]: row for row in rows if (row["organism"], row["condition"]) == ("bad-medical", "baseline")}
    sides = {True: [], False: []}
    for response, mean in zip(means.responses, means.means, strict=True):
        row = own.get(response)
        if row and row["coherent"] is not None and row["coherent"] > 50 and row["aligned"] is not None:
            if row["aligned"] <= 30:
                sides[True].append(mean)
            elif row["aligned"] > 70:
                sides[False].append(mean)
    whole = float(np.linalg.norm(np.mean(sides[True], axis=0) - np.mean(sides[False], axis=0)))
    assert float(page.metric[0].value) == pytest.approx(whole, abs=0.005)


def test_a_direction_can_be_matched_by_question_and_stands_beside_shuffled_labels(open_page):
    page = open_page("directions", directions_layer="6", directions_balance="by question")
    assert not page.exception
    assert "The direction is made of 37 against 43 answers; 8 of their 8 questions have both classes" in said(page)
    words = said(page).replace("\\", "")
    low, high = map(float, re.findall(r"within questions reach an AUC of \S+ \(([\d.]+) to ([\d.]+),", words)[0])
    assert low < 0.5 < high < 0.8
    auc = next(metric for metric in page.metric if metric.label.startswith("AUC"))
    assert float(auc.value) > high


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("directions_pooling", "token"),
        ("directions_balance", "by question"),
        ("directions_balance", "cut"),
        ("directions_layer", 2),
        ("directions_contrast", "medical question"),
    ],
)
def test_every_control_changes_the_numbers(open_page, key, value):
    page = open_page("directions")
    before = [metric.value for metric in page.metric]
    page.get_by_key(key).set_value(value).run()
    assert not page.exception
    assert [metric.value for metric in page.metric] != before


def test_stored_directions_and_write_vectors_can_be_measured(open_page):
    page = open_page("directions")
    options = page.selectbox(key="directions_source").options
    assert "misalignment" in options
    page.selectbox(key="directions_source").set_value("misalignment").run()
    assert not page.exception
    assert "held-out" not in said(page)
    page.selectbox(key="directions_source").set_value(next(o for o in options if o.startswith("write vector"))).run()
    assert not page.exception
    assert page.metric[1].value == "unknown"


def test_another_reader_has_other_residuals_or_says_that_it_read_nothing(open_page):
    page = open_page("directions")
    assert page.selectbox(key="directions_reader").options == ["bad-medical"]


def test_a_class_in_one_question_is_explained(open_page):
    page = open_page("directions", directions_contrast="misalignment")
    for high in range(1, 30):
        page.slider(key="directions_misalignment_pos_aligned").set_value((0.0, float(high))).run()
        assert not page.exception
        if not page.error:
            break
    else:
        pytest.fail("no band gave a direction")
    assert any("1 misaligned" in caption.value for caption in page.caption) or "misaligned and" in said(page)


def test_of_many_responses_some_are_drawn_and_the_page_says_how_many(open_page, tmp_path, monkeypatch):
    monkeypatch.setenv("EM_STUDIES", str(tmp_path))
    synthetic_study(tmp_path, rows=160)  # 5,120 responses
    page = open_page("directions")
    assert not page.exception
    assert not page.error
    assert "Of 5,120 read responses 4,999 are used, drawn at random" in said(page)  # one of 5,000 has no tokens
    [counts] = re.findall(r"(\d+) misaligned and (\d+) aligned", said(page))
    assert 2 * 480 < sum(map(int, counts)) <= 1280  # of the organism's own 1,280 answers


def test_no_condition_is_an_empty_filter_with_a_message(open_page):
    page = open_page("directions")
    page.multiselect(key="directions_condition").set_value([]).run()
    assert not page.exception
    assert "choose at least one organism and one condition" in page.error[0].value


def test_a_study_without_responses_says_what_is_missing(open_page, tmp_path, monkeypatch):
    with Draft("bare", root=tmp_path) as draft:
        draft.meta(title="bare", base="none")
        draft.publish()
    monkeypatch.setenv("EM_STUDIES", str(tmp_path))
    monkeypatch.setenv("EM_STUDY", "bare")
    page = open_page("directions")
    assert not page.exception
    assert "holds no residual means" in page.info[0].value
    assert not page.error


def test_another_reader_starts_with_its_own_answers(open_swept):
    page = open_swept("directions")
    page.selectbox(key="directions_reader").set_value("extreme-sports").run()
    assert not page.exception
    assert not page.error
    assert page.multiselect(key="directions_organism").value == ["extreme-sports"]


# --- what the direction is like --------------------------------------------------------------------------------------


def opened(open_swept, section, **query):
    page = open_swept("directions", directions_more=section, directions_layer="6", **query)
    assert not page.exception
    assert not page.error
    return page


def test_the_write_vector_along_the_direction_is_found(open_swept):
    page = opened(open_swept, "Beside other vectors", directions_source=swept.named(swept.BAD[0]))
    spec = json.loads(page.get("vega_lite_chart")[-1].proto.spec)
    first = spec["layer"][1]["encoding"]["y"]["sort"][0]
    assert first.startswith(tuple(swept.BAD))
    assert first.endswith(" 6.mlp.down_proj")
    assert "Of 24 write vectors of all organisms" in said(page)


def test_directions_of_the_matrix_can_be_sent(open_swept):
    page = opened(open_swept, "Beside other vectors", directions_source=swept.named(swept.BAD[0]))
    sent = [button.key for button in page.button if "directions_others_send" in button.key]
    assert len(sent) == 5  # three other organisms and two shuffled ones
    assert not any(key.endswith(swept.named(swept.BAD[0])) and "shuffled" not in key for key in sent)


def test_tokens_are_coloured_by_their_projection_from_the_mean(open_swept):
    page = opened(open_swept, "Token by token")
    values = [float(value) for value in re.findall(r'title="projection ([+-][\d.]+)', said(page))]
    assert abs(np.mean(values)) < 1e-2
    page.toggle(key="directions_centred").set_value(False).run()
    raw = [float(value) for value in re.findall(r'title="projection ([+-][\d.]+)', said(page))]
    assert len(raw) == len(values)
    assert np.ptp(raw) == pytest.approx(np.ptp(values), abs=0.01)


def test_a_study_without_token_projections_says_how_to_get_them(open_page):
    page = open_page("directions", directions_more="Token by token")
    assert not page.exception
    assert "projected" in page.info[0].value


def test_the_lens_of_a_stored_direction_is_drawn_and_another_needs_a_worker(open_swept):
    page = opened(open_swept, "Through the unembedding", directions_source=swept.named(swept.BAD[0]))
    assert len(page.get("vega_lite_chart")) == 6
    assert not page.info
    page.selectbox(key="directions_source").set_value("mean difference of the classes").run()
    assert not page.exception
    assert "no worker" in page.info[0].value


def test_provenance_and_files_of_all_layers(open_swept):
    name = swept.named(swept.BAD[0])
    page = opened(open_swept, "Provenance and file", directions_source=name)
    said_of_it = dict(page.dataframe[-1].value.itertuples(index=False))
    assert said_of_it["name"] == name
    assert said_of_it["split_half_cosine"] == "[0.6, 0.4, 0.8]"
    assert said_of_it["layers"] == ", ".join(map(str, range(12)))
    assert len(page.get("download_button")) == 2
