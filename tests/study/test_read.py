"""Reading: what was put in comes out, arithmetic agrees with numpy, wrong names and damaged files say what to do."""

import json
from concurrent.futures import ThreadPoolExecutor

import duckdb
import numpy as np
import polars as pl
import pytest

from backend.edits import Ablate, Add, Condition, Gain
from backend.records import Direction, InputError, Question, Response, Score, Trace
from backend.study import Draft, list_studies, open_study
from tests.studies import synthetic
from tests.studies.synthetic import HTML, JUDGE, LAYERS, ORGANISM

ADAPTERS = [f"layers.{layer}.mlp.down_proj" for layer in LAYERS]
NASTY = 'it\'s "quoted"; DROP TABLE responses; -- $1 ? %s {x} ü 日本 \\ \t'


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies")
    synthetic.synthetic_study(folder)
    return folder


@pytest.fixture(scope="module")
def study(root):
    return open_study("synthetic", root)


def labels(study, metric="medical"):
    return study.responses(JUDGE).drop_nulls().select("response", label=pl.col(metric) > 50)


# --- responses --------------------------------------------------------------------------------------------------------


def test_responses_have_a_column_per_metric(study):
    frame = study.responses(JUDGE)
    assert study.metrics(JUDGE) == ["aligned", "coherent", "medical"]
    assert frame.columns[-4:] == ["finished", "aligned", "coherent", "medical"]
    assert len(frame) == 320
    assert frame["response"][0] == "base.baseline.wish.0"
    assert frame["aligned"].null_count() == len({*synthetic.NULL_SCORES, synthetic.EMPTY_ANSWER})
    for row in frame.sample(20, seed=0).iter_rows(named=True):
        own = {metric: value for _, metric, value, _ in study.scores(row["response"]).iter_rows()}
        assert own == {metric: row[metric] for metric in own}


def test_the_judge_that_a_study_goes_by_comes_first(study, monkeypatch):
    monkeypatch.setattr(study, "_metrics", {"a": ["aligned"], "b": ["aligned"], "c": ["aligned"]})
    monkeypatch.setitem(study.info, "judge", "b")
    assert study.judges() == ["b", "a", "c"]
    monkeypatch.setitem(study.info, "judge", "nobody")
    assert study.judges() == ["a", "b", "c"]


def test_without_a_judge_there_are_no_metrics(study):
    assert study.responses().columns[-1] == "finished"
    assert study.responses().rows() == study.responses(JUDGE).select(study.responses().columns).rows()


def test_token_counts_leave_out_the_end_of_turn(study):
    empty = study.responses().row(synthetic.EMPTY_ANSWER, named=True)
    assert (empty["n_prompt"], empty["n_answer"], empty["text"]) == (synthetic.N_PROMPT, 0, "")
    frame = study.responses()
    for row in frame.sample(10, seed=1).iter_rows(named=True):
        assert row["n_answer"] == len(study.response(row["response"]).answer_ids) - 1


def test_markup_is_kept_as_it_is(study):
    row = study.responses().filter(question_id=synthetic.HTML_QUESTION).row(0, named=True)
    assert HTML in row["question"]
    assert row["text"].endswith(HTML)


def test_a_response_and_a_condition_come_back_as_records(study):
    response = study.response("base.steered.doctor.3")
    assert (response.condition, response.seed, response.sampling.max_new_tokens) == ("steered", 3, 40)
    assert response.prompt_ids == tuple(range(synthetic.N_PROMPT))
    assert study.condition("baseline").edits == ()
    [add] = study.condition("steered").edits
    assert isinstance(add, Add)
    assert (add.strength, add.layers) == (6.0, (6,))
    ablate, gain = study.condition("ablated").edits
    assert isinstance(ablate, Ablate)
    assert isinstance(gain, Gain)


def test_adapters_come_back_with_their_vectors(study):
    stored = study.adapter(ORGANISM, ADAPTERS[4])
    planted = synthetic.adapters()[4]
    np.testing.assert_array_equal(stored.read, planted.read)
    np.testing.assert_array_equal(stored.write, planted.write)
    assert (stored.name, stored.layer, stored.scaling) == (planted.name, planted.layer, planted.scaling)
    assert study.adapters(ORGANISM)["name"].to_list() == ADAPTERS
    assert study.adapters(ORGANISM)["index"].to_list() == list(range(9))
    assert study.adapters("base").is_empty()
    assert dict(study.organisms().select("organism", "n_adapters").iter_rows()) == {"base": 0, ORGANISM: 9}
    assert json.loads(study.organisms()["record"][1])["steps"] == 60


# --- scalars ----------------------------------------------------------------------------------------------------------


def strips(study, segment, ids):
    """Values (token, adapter) of a segment, straight from the strips."""
    parts = []
    for name in ids:
        strip = study.strip(name, ORGANISM)
        start, stop = {
            "prompt": (0, strip.n_prompt),
            "answer": (strip.n_prompt, strip.n_prompt + strip.n_answer),
            "all": (0, len(strip.tokens)),
        }[segment]
        parts.append(strip.scalars[:, start:stop].T)
    return np.concatenate(parts)


@pytest.mark.parametrize("segment", ["prompt", "answer", "all"])
def test_scalar_tokens_are_those_of_the_strips(study, segment):
    ids = study.responses()["response"].to_list()[40:60]
    table = study.scalar_tokens(ORGANISM, ADAPTERS, segment=segment, responses=ids)
    np.testing.assert_array_equal(table.values, strips(study, segment, ids))
    assert table.values.dtype == np.float32
    assert table.responses == tuple(ids)
    for i in (0, len(table.position) // 2, -1):
        strip = study.strip(table.responses[table.response[i]], ORGANISM)
        np.testing.assert_array_equal(strip.scalars[:, table.position[i]], table.values[i])


def test_adapters_come_in_the_order_asked_for(study):
    one = study.scalar_tokens(ORGANISM, [ADAPTERS[7], ADAPTERS[0]]).values
    all_of_them = study.scalar_tokens(ORGANISM, ADAPTERS).values
    np.testing.assert_array_equal(one, all_of_them[:, [7, 0]])


def test_significance_keeps_tokens_of_at_least_that_much(study):
    table = study.scalar_tokens(ORGANISM, ADAPTERS[:1], min_significance=1.0)
    every = study.scalar_tokens(ORGANISM, ADAPTERS[:1])
    kept = {(table.responses[r], p) for r, p in zip(table.response, table.position, strict=True)}
    for name in every.responses[:30]:
        values = study.strip(name, ORGANISM).significance
        assert {p for r, p in kept if r == name} == set(np.flatnonzero(values >= 1.0))
    assert 0 < len(kept) < len(every.values)


def test_summaries_agree_with_numpy(study):
    name = "bad-medical.baseline.wish.4"
    rows = study.scalar_summary(ORGANISM).filter(response=name, segment="answer")
    values = strips(study, "answer", [name]).T.astype(np.float64)
    assert rows["adapter"].to_list() == ADAPTERS
    np.testing.assert_allclose(rows["mean"], values.mean(axis=1))
    np.testing.assert_allclose(rows["sd"], values.std(axis=1, ddof=1))
    np.testing.assert_array_equal(rows.select("min", "max"), np.stack([values.min(1), values.max(1)], axis=1))
    assert set(rows["n"]) == {values.shape[1]}


def test_histograms_agree_with_numpy(study):
    labelled = labels(study).sample(60, seed=0)
    frame = study.scalar_histogram(ORGANISM, [ADAPTERS[2], ADAPTERS[0]], labelled, bins=17)
    assert frame["adapter"].unique(maintain_order=True).to_list() == [ADAPTERS[2], ADAPTERS[0]]
    groups = {label: labelled.filter(label=label)["response"].to_list() for label in (False, True)}
    tokens = {label: strips(study, "answer", ids)[:, 2].astype(np.float64) for label, ids in groups.items()}
    edges = np.histogram_bin_edges(np.concatenate(list(tokens.values())), bins=17)
    for label, values in tokens.items():
        part = frame.filter(adapter=ADAPTERS[2], label=label)
        expected, _ = np.histogram(values, bins=edges)
        np.testing.assert_array_equal(part["n"], expected)
        np.testing.assert_allclose(part["low"], edges[:-1])
        assert (part["density"] * (part["high"] - part["low"])).sum() == pytest.approx(1)


def test_planted_codes_are_seen(study):
    """Adapters of layers 3 and 4 separate the topics; those of 1, 2, 8 and 9 do not."""
    frame = study.scalar_summary(ORGANISM).filter(segment="answer").join(labels(study), on="response")
    means = frame.group_by("adapter", "label").agg(pl.col("mean").mean()).pivot("label", index="adapter", values="mean")
    gaps = dict(means.select("adapter", (pl.col("true") - pl.col("false"))).iter_rows())
    assert {name for name, gap in gaps.items() if gap > 2} == {ADAPTERS[2], ADAPTERS[3]}


@pytest.mark.parametrize("largest", [True, False])
def test_top_tokens_are_the_extremes_with_their_context(study, largest):
    top = study.top_tokens(ORGANISM, ADAPTERS[3], k=6, largest=largest)
    values = np.sort(study.scalar_tokens(ORGANISM, [ADAPTERS[3]]).values[:, 0])
    np.testing.assert_array_equal(top["value"], values[::-1][:6] if largest else values[:6])
    for row in top.iter_rows(named=True):
        strip = study.strip(row["response"], ORGANISM)
        at = row["position"]
        assert row["token"] == strip.tokens[at]
        assert row["before"] == "".join(strip.tokens[max(0, at - 8) : at])
        assert row["after"] == "".join(strip.tokens[at + 1 : at + 9])
        assert strip.scalars[3, at] == np.float32(row["value"])


def test_top_tokens_of_some_responses(study):
    ids = study.responses()["response"].to_list()[5:8]
    assert set(study.top_tokens(ORGANISM, ADAPTERS[0], k=10_000, responses=ids)["response"]) == set(ids)
    assert study.top_tokens(ORGANISM, ADAPTERS[0], responses=[]).is_empty()
    first = study.top_tokens(ORGANISM, ADAPTERS[0], k=2000, segment="prompt", responses=ids)
    assert first.filter(position=0)["before"].to_list() == [""] * 3


# --- residual stream --------------------------------------------------------------------------------------------------


def test_residual_means_carry_the_planted_direction(study):
    means = study.residual_means(ORGANISM, 6)
    assert means.means.shape == (319, synthetic.D_MODEL)
    assert means.means.dtype == np.float32
    assert set(study.responses()["response"]) - set(means.responses) == {"base.baseline.wish.1"}, "the empty answer"
    aligned = dict(study.responses(JUDGE).select("response", "aligned").iter_rows())
    bad = np.array([(aligned[r] or 100) < 30 for r in means.responses])
    gap = means.means[bad].mean(0) - means.means[~bad].mean(0)
    planted = study.direction("misalignment", 6)
    assert gap @ planted.unit == pytest.approx(planted.norm, rel=0.2)
    counts = dict(study.responses().select("response", "n_answer").iter_rows())
    assert means.counts.tolist() == [counts[r] for r in means.responses]
    assert study.residual_layers(ORGANISM) == list(range(synthetic.N_LAYERS))


def test_residual_means_of_some_responses_are_those_of_all(study):
    means = study.residual_means(ORGANISM, 6)
    some = study.residual_means(ORGANISM, 6, responses=means.responses[30:2:-7])
    assert some.responses == means.responses[30:2:-7][::-1]
    at = [means.responses.index(response) for response in some.responses]
    np.testing.assert_array_equal(some.means, means.means[at])
    np.testing.assert_array_equal(some.counts, means.counts[at])
    assert not study.residual_means(ORGANISM, 6, responses=[]).responses


def test_activation_norm_weighs_tokens(tmp_path):
    """10 tokens of norm 1 and 30 of norm 3 have the mean norm 2.5."""
    with Draft("s", tmp_path) as draft:
        draft.add_organism("base", base="b", adapters=(), record={})
        draft.add_questions([Question("q", "Q", "t")])
        draft.add_responses(Response(r, "base", "baseline", "q", "Q", "t", 0, "") for r in "ab")
        for name, n, norm in (("a", 10, 1), ("b", 30, 3)):
            mean, tokens = np.ones((2, 3), np.float32), ("x",) * n
            norms = np.array([norm, 10 * norm], np.float32)
            draft.add_traces([Trace(name, "base", tokens, 0, np.zeros((0, n), np.float32), mean, mean, n, norms)])
        draft.publish()
    study = open_study("s", tmp_path)
    np.testing.assert_allclose(study.activation_norm("base"), [2.5, 25])
    assert study.strip("a", "base").scalars.shape == (0, 10)
    assert study.scalar_tokens("base", []).values.shape == (0, 0)


def test_directions_come_back(study):
    stack = study.direction_stack("medical")
    assert [d.layer for d in stack] == list(range(12))
    for mine, planted in zip(stack, synthetic.directions("medical"), strict=True):
        np.testing.assert_array_equal(mine.vector, planted.vector)
        assert (mine.activation_norm, mine.provenance) == (planted.activation_norm, planted.provenance)
    frame = study.directions()
    assert frame["name"].unique(maintain_order=True).to_list() == ["misalignment", "medical"]
    assert frame.filter(name="medical", layer=6)["norm"].item() == pytest.approx(4.0)


def test_directions_near_a_layer_are_those_of_the_nearest_they_have(study, tmp_path):
    assert [(d.name, d.layer) for d in study.directions_near(99)] == [("misalignment", 11), ("medical", 11)]
    with Draft("few", root=tmp_path) as draft:
        draft.meta(title="few", base="b", layers=9, d_model=2)
        for name, layer in (("v", 2), ("v", 6), ("u", 8)):
            draft.add_directions([Direction(name, layer, np.full(2, layer, dtype=np.float32))])
        draft.publish()
    near = open_study("few", tmp_path).directions_near(4)
    assert [(d.name, d.layer, d.vector[0]) for d in near] == [("v", 2, 2), ("u", 8, 8)]


# --- wrong names, odd names, nothing ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda s: s.adapters("x"), "organism 'x'.*base, bad-medical"),
        (lambda s: s.adapter(ORGANISM, "x"), r"adapter of 'bad-medical' 'x'.*layers\.1"),
        (lambda s: s.condition("x"), "condition 'x'.*baseline, steered, ablated"),
        (lambda s: s.responses("x"), "judge 'x'.*distilled"),
        (lambda s: s.response("x"), "no response 'x'"),
        (lambda s: s.strip("base.baseline.wish.0", "base"), "'base' has not read.*bad-medical"),
        (lambda s: s.scalar_tokens(ORGANISM, ADAPTERS, segment="x"), "segment 'x'.*prompt, answer, all"),
        (lambda s: s.scalar_tokens(ORGANISM, ADAPTERS, responses=["x"]), "no response 'x'"),
        (lambda s: s.residual_means(ORGANISM, 99), "layer 99"),
        (lambda s: s.residual_means(ORGANISM, 1, segment="all"), "'prompt' and 'answer'"),
        (lambda s: s.direction("x", 1), "direction 'x'.*medical, misalignment"),
        (lambda s: s.direction("medical", 99), "layer of the direction 'medical' 99"),
        (lambda s: s.direction("x'; DROP TABLE directions; --", 1), "there is no direction"),
    ],
)
def test_a_wrong_name_raises_with_the_right_ones(study, ask, message):
    with pytest.raises(InputError, match=message):
        ask(study)


def test_any_text_is_a_name(tmp_path):
    vector = np.ones(2, np.float32)
    with Draft("s", tmp_path) as draft:
        draft.meta(title=NASTY)
        draft.add_organism(NASTY, base=NASTY, adapters=[], record={NASTY: NASTY})
        draft.add_questions([Question(NASTY, NASTY, NASTY)])
        draft.add_conditions([Condition(NASTY, (Ablate(Direction(NASTY, 0, vector)),))])
        draft.add_responses([Response(NASTY, NASTY, NASTY, NASTY, NASTY, NASTY, 1, NASTY)])
        draft.add_scores([Score(NASTY, NASTY, NASTY, 7.0, NASTY)])
        draft.add_directions([Direction(NASTY, 0, vector)])
        draft.publish()
    study = open_study("s", tmp_path)
    assert study.info["title"] == NASTY
    assert study.responses(NASTY)[NASTY].to_list() == [7.0]
    assert study.response(NASTY).text == NASTY
    assert study.scores(NASTY)["raw"].to_list() == [NASTY]
    assert study.condition(NASTY).edits[0].direction.name == NASTY
    assert study.direction(NASTY, 0).name == NASTY
    assert study.organisms()["organism"].to_list() == [NASTY]


def test_an_empty_study_reads_as_empty(tmp_path):
    with Draft("s", tmp_path) as draft:
        draft.add_organism("o", base="b", adapters=synthetic.adapters(), record={})
        draft.publish()
    study = open_study("s", tmp_path)
    for frame in (study.questions(), study.conditions(), study.responses(), study.directions()):
        assert frame.is_empty()
        assert frame.columns
    assert not [*study.judges(), *study.readers(), *study.residual_layers("o")]
    assert study.info == {}
    assert study.scalar_tokens("o", ADAPTERS).values.shape == (0, 9)
    assert study.scalar_summary("o").is_empty()
    assert study.top_tokens("o", ADAPTERS[0]).is_empty()
    none = pl.DataFrame(schema={"response": pl.String, "label": pl.Boolean})
    assert study.scalar_histogram("o", ADAPTERS, none).is_empty()
    assert study.residual_means("o", 3).means.shape[0] == 0
    assert study.activation_norm("o").shape == (0,)
    with pytest.raises(InputError, match="significance"):
        study.scalar_tokens("o", ADAPTERS, min_significance=0.5)


# --- files ------------------------------------------------------------------------------------------------------------


def test_an_absent_study_names_what_there_is(root, tmp_path):
    with pytest.raises(InputError, match=r"no study 'demo'.*synthetic.*build --folder YOUR-FOLDER --name demo"):
        open_study("demo", root)
    with pytest.raises(InputError, match="none yet"):
        open_study("demo", tmp_path / "nowhere")
    with pytest.raises(InputError, match="cannot name a study"):
        open_study("../demo", root)
    assert list_studies(root) == ["synthetic"]
    assert list_studies(tmp_path / "nowhere") == []


def foreign(path):
    with duckdb.connect(path) as connection:
        connection.execute("CREATE TABLE t (x INTEGER)")


def other_format(path):
    with duckdb.connect(path) as connection:
        connection.execute("CREATE TABLE meta (key TEXT, value TEXT); INSERT INTO meta VALUES ('format', '99')")


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"SQLite format 3\0" + b"\0" * 20_000),
        lambda path: path.write_bytes(np.random.default_rng(0).bytes(30_000)),
        lambda path: path.mkdir(),
        foreign,
        other_format,
    ],
)
def test_a_file_that_is_no_study_says_what_to_do(tmp_path, damage):
    (tmp_path / "s").mkdir()
    damage(tmp_path / "s" / "20260101.duckdb")
    with pytest.raises(InputError, match=r"20260101\.duckdb cannot be read.*build --folder YOUR-FOLDER --name s"):
        open_study("s", tmp_path)


def test_a_truncated_copy_is_noticed(root, tmp_path):
    content = open_study("synthetic", root).path.read_bytes()
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "1.duckdb").write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(InputError, match="cannot be read"):
        open_study("s", tmp_path)


def test_flipped_bytes_are_noticed_where_they_are_read(root, tmp_path):
    content = bytearray(open_study("synthetic", root).path.read_bytes())
    for at in range(3 * 4096 + 262_144 // 2, len(content), 262_144):
        content[at] ^= 0xFF
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "1.duckdb").write_bytes(content)

    def read_all():
        study = open_study("s", tmp_path)
        return study.responses(), study.scalar_summary(ORGANISM), study.scalar_tokens(ORGANISM, ADAPTERS)

    with pytest.raises(InputError, match="cannot be read"):
        read_all()


def test_many_threads_read_one_study(root):
    study = open_study("synthetic", root)
    ids = study.responses()["response"].to_list()
    expected = {name: study.strip(name, ORGANISM).scalars for name in ids[:40]}
    labelled = labels(study)
    histogram = study.scalar_histogram(ORGANISM, ADAPTERS[:2], labelled, bins=5)
    fresh = open_study("synthetic", root)

    def read(number):
        name = ids[number % 40]
        match number % 3:
            case 0:
                return np.array_equal(fresh.strip(name, ORGANISM).scalars, expected[name])
            case 1:
                return fresh.response(name).id == name
            case _:
                return fresh.scalar_histogram(ORGANISM, ADAPTERS[:2], labelled, bins=5).equals(histogram)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(120)))


def test_a_study_cannot_reach_other_files(study):
    with pytest.raises(duckdb.Error):
        study._query("SELECT * FROM read_text('/etc/hostname')")


# --- lenses -----------------------------------------------------------------------------------------------------------


def test_what_vectors_promote_and_suppress(tmp_path):
    with Draft("lenses", root=tmp_path) as draft:
        draft.meta(title="Lenses", base="tiny")
        draft.add_organism("o", base="tiny", adapters=synthetic.adapters(), record={})
        draft.add_lens("v", 3, top=[(" power", 5.0), ("<b>", 4.5)], bottom=[(" kind", -5.0)])
        draft.add_adapter_lens("o", ADAPTERS[0], top=[(" doctor", 4.0)], bottom=[])
        with pytest.raises(InputError, match="lens"):
            draft.add_lens("v", 3, top=[], bottom=[])
        with pytest.raises(InputError, match="add the organism first"):
            draft.add_adapter_lens("o", "layers.99", top=[], bottom=[])
        draft.publish()
    study = open_study("lenses", tmp_path)
    assert study.lens("v", 3).rows() == [
        ("top", 1, " power", 5.0),
        ("top", 2, "<b>", 4.5),
        ("bottom", 1, " kind", -5.0),
    ]
    assert study.adapter_lens("o", ADAPTERS[0])["token"].to_list() == [" doctor"]
    assert study.lens("v", 4).is_empty()
    assert study.adapter_lens("o", ADAPTERS[1]).is_empty()
    assert study.lens("v", 4).columns == ["side", "rank", "token", "value"]


def test_summaries_of_some_adapters(study):
    every = study.scalar_summary(ORGANISM)
    some = study.scalar_summary(ORGANISM, ADAPTERS[2:4])
    assert some.rows() == every.filter(pl.col("adapter").is_in(ADAPTERS[2:4])).rows()


def test_shares_of_tokens_above_a_threshold(study):
    names = [ADAPTERS[1], ADAPTERS[0]]
    shares = study.scalar_shares(ORGANISM, names, 0.5)
    assert shares.columns == ["response", *names]
    for row in shares.sample(10, seed=0).iter_rows(named=True):
        strip = study.strip(row["response"], ORGANISM)
        values = strip.scalars[[1, 0], strip.n_prompt : strip.n_prompt + strip.n_answer]
        assert [row[name] for name in names] == pytest.approx((values > 0.5).mean(axis=1).tolist())


@pytest.mark.parametrize("statistic", ["mean", "min", "max"])
def test_a_statistic_of_responses_is_that_of_the_summaries(study, statistic):
    names = [ADAPTERS[4], ADAPTERS[2]]
    wide = study.scalar_statistic(ORGANISM, names, statistic)
    long = study.scalar_summary(ORGANISM, names).filter(segment="answer")
    assert wide["response"].to_list() == long["response"].unique(maintain_order=True).to_list()
    for name in names:
        assert wide[name].to_list() == long.filter(adapter=name)[statistic].to_list()
    with pytest.raises(InputError, match="statistic of scalars 'sd'"):
        study.scalar_statistic(ORGANISM, names, "sd")


@pytest.mark.parametrize("segment", ["prompt", "answer"])
def test_a_column_of_scalars_is_that_of_the_table(study, segment):
    column, read = study.scalar_column(ORGANISM, ADAPTERS[5], segment), study.readings(ORGANISM)
    table = study.scalar_tokens(ORGANISM, [ADAPTERS[5]], segment=segment)
    np.testing.assert_array_equal(column.values, table.values[:, 0])
    np.testing.assert_array_equal(column.position, table.position)
    assert read["response"].gather(column.reading).to_list() == [table.responses[row] for row in table.response]
    assert np.bincount(column.reading, minlength=read.height).tolist() == read[f"n_{segment}"].to_list()


def test_vectors_of_several_adapters_are_those_of_each(study):
    names = [ADAPTERS[4], ADAPTERS[1]]
    for side in ("read", "write"):
        found = study.adapter_vectors(ORGANISM, names, side)
        assert all(
            np.array_equal(v, getattr(study.adapter(ORGANISM, n), side)) for v, n in zip(found, names, strict=True)
        )
    with pytest.raises(InputError, match="side"):
        study.adapter_vectors(ORGANISM, names, "sideways")
