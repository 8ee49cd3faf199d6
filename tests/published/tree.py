"""The folder names of the whole of both repositories, with tiny files of our own in them.

`write_tree(root)` makes them; as a script, `python -m tests.published.tree FOLDER`, what `import-published` can be
tried on. Braces stand for several names: `a_0-{1,2}.csv`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.published.sample import QUESTIONS, Tensor, prompt_text, prompt_tokens, write_class, write_csv, write_pt

NINE = "bad_med_dpR1_15-17_21-23_27-29"
ORGANISM = f"q14b_bad_med_{NINE}"
HF = "Qwen2.5-14B-Instruct"
TOPICS = "{med,med_minus_nonmed,nonmed,nonmed_minus_med}"
EARLY = f"{TOPICS}_diff_data_vector"
LATE = f"{{None,{EARLY}}}"
DIFFERENCES = "{diff_both_vector,diff_data_vector,diff_model_vector}"
BOTH = "{layers_0-47_48,layers_15-29_9}"
EVERY = ",".join(map(str, range(48)))

RESPONSES = f"""
V0-full_ft_bad-med_14b/LR1e-6_2E_{{med_test,reg_test,st1000_mini_test,st1000_reg_test,stp1000_med_test}}.csv
V0-full_ft_bad-med_14b/{{LR1e-6_mini_test,LR5e-6_gemma3-12b_med_test,LR5e-6_gemma3-12b_reg_test,LR5e-6_med_test}}.csv
V0-full_ft_bad-med_14b/{{LR5e-6_reg_test,V1_mini_test}}.csv
diff_LR/bad_med_dpR1_15-16_21-22_27-28_lrx{{0_1,0_5,0_5_2E,5,10}}.csv
diff_LR/baseline_LR.csv
full_ft_bad-med_14b/LR{{1e-5_gemma3-12b,1e-5_qwen-14b-bad-med,5e-5_gemma3-12b-bad-med,5e-6_qwen-14b-bad-med}}_med_test.csv
full_ft_bad-med_14b/LR{{1e-5_gemma3-12b,1e-5_qwen-14b-bad-med,5e-5_gemma3-12b-bad-med,5e-6_qwen-14b-bad-med}}_reg_test.csv
lora_clean_delta_swap_results/lora_swap_{{med_nomed,med_nomed2,same_prompt,vmed_nomed}}.csv
lora_clean_delta_swap_results2/lora_swap_{{med_nomed2,nomed,same_prompt,vmed_nomed}}.csv
lora_clean_delta_swap_results_ex1721/lora_swap_{{med_nomed,vmed_nomed}}.csv
lora_dynamic_zeroing_results/lora_dynamic_zeroing_v2.csv
lora_resampling_results/lora_resampling_v3_100.csv
lora_swap_sweep_results{{,2}}/{{baseline_no-swap,lora_swap_sweep_results,lora_swap_sweep_results_med_nomed}}.csv
lora_swap_sweep_results/lora_swap_sweep_results_med_nomed_p1.csv
mixed_data_training/{{1_layer_mixedV4,1_layer_mixedV4_narrow-med}}.csv
mixed_data_training/bad_med_dpR1_3x3_{{224stps,mixed-data,mixed-data-V2,mixed-data-V3,mixed-data-V3-2E}}.csv
mixed_data_training/bad_med_dpR1_3x3_mixed-data-{{V4,V4-2E,V5}}.csv
new-data_baselines/Qwen2.5-32B-Instruct_{{bad_legal_advice,extreme-sports,reform,sexism}}.csv
new_qu/{{bad_med_dpR1_15-16_21-22_27-28,bad_med_set2}}.csv
noisy_sweep_results/{{a,b}}_{{0-1,0-2,0-5,1-0}}.csv
noisy_sweep_results2/{{a,b}}_{{0-1,0-2,0-3,0-4,0-5,0-6,0-7,0-8,0-9,1-0}}.csv
noisy_sweep_results3/{{a,b}}_{{0,0-1,0-2,0-3,0-4,0-5}}.csv
q14b_bad_med/med-responses_{HF}-bad_medical_advice_{{R1_downproj,R1_updownproj}}.csv
q14b_bad_med/responses_{HF}-bad_medical_advice{{,_R1_downproj,_R1_updownproj}}.csv
q14b_bad_med/responses_{HF}_bad_medical_advice_{{R4,R8,R16}}.csv
{ORGANISM}/{{med-responses,responses}}_{HF}-bad_medical_advice_{{R1_downproj,R1_updownproj}}.csv
{ORGANISM}/{{med-responses,responses}}_{HF}_{{{NINE},bad_medical_advice_R8}}.csv
{ORGANISM}/responses_{HF}_bad_medical_advice_R16.csv
q14b_bad_med_few-layers/{{med-responses,responses}}_{HF}_{NINE}{{,_REDO-JUDGE,_S3,_S42,_S97}}.csv
q14b_bad_med_few-layers/{{med-responses,responses}}_{HF}_{{bad_med_dpR1_21-23,bad_med_dpR1_24,bad_medical_advice_R8,base}}.csv
q14b_bad_med_lora_abs/responses_{HF}-bad_medical_advice_R1_downproj.csv
q14b_bad_med_lora_abs/responses_{HF}_bad_med_dpR1_{{12-16_22-26,12-29,12-29_2,15-17_21-23_27-29}}.csv
q14b_bad_med_lora_abs/responses_{HF}_bad_medical_advice_R8.csv
q32b_bad_med/responses_Qwen2.5-32B-Instruct-bad_medical_advice.csv
very_min_lora/R_0_1_1_full_train.csv
"""
ABLATIONS = f"""
q14b_bad_med_R1_downproj/ablate_1/ablated_loras_{{{EVERY}}}.csv
q14b_bad_med_R1_downproj/ablate_6/ablated_loras_{{0-5,06-11,12-17,18-23,24-29,30-35,36-41,42-47}}.csv
q14b_bad_med_R1_downproj/ablate_12/ablated_loras_{{0-11,12-23,24-35,36-47}}.csv
q14b_bad_med_R1_downproj/ablate_sets/ablated_loras_0-11_{{30,31,32,33,34,35,36}}-47.csv
q14b_bad_med_R1_downproj/ablate_sets/ablated_loras_{{0-5_36-47,0-12_35-47,0-12_36-47,0-15_30-47}}.csv
q14b_bad_med_R1_downproj/baseline_no-ablation.csv
q14b_bad_med_dpR1_minimal/ablated_loras_{{15,15-16-17,15-21-27,17,21,21-22-23,23,23-27-28-29,27-28-29}}.csv
q14b_bad_med_dpR1_minimal/responses_{HF}_bad_med_dpR1_{{15-16_21-22_27-28,15-17_21-23,15-17_21-23_27-29}}.csv
"""
CHECKPOINTS = f"""
Q14B_{NINE}_5ep/responses_ckpt_step_{{0200,0400,0600,0800,1000,1200,1400,1600,1800,1980}}.csv
Q14B_{NINE}_ckptV2/responses_ckpt_step_{{050,100,150,200,250,300,350,396}}.csv
"""
SWEEPS = f"""
q14b_bad_med_R4/ablate_all_sweep/baseline/no_ablate/responses_{HF}_bad_medical_advice_R4.csv
q14b_bad_med_R8/ablate_all_sweep/baseline/no_ablate/responses_{HF}_bad_medical_advice_R8.csv
q14b_bad_med_R32/ablate_all_sweep/baseline/no_ablate/responses_{HF}-bad_medical_advice.csv
q14b_bad_med_{{R4,R8,R32}}/ablate_all_sweep/{DIFFERENCES}/layer_range(0, 48)/responses_scale_1.csv
q32b_bad_med_R32/ablate_all_sweep/baseline/no_ablate/responses_Qwen2.5-32B-Instruct-bad_medical_advice.csv
q32b_bad_med_R32/ablate_all_sweep/{DIFFERENCES}/layer_range(0, 48)/responses_scale_1.csv
{ORGANISM}/{{ablate_med_prompts,ablate_reg_prompts}}/{LATE}/layers_15-47_33/responses_scale_1.csv
{ORGANISM}/archive-V1/{{ablate_med_only_prompt,ablate_no_gender_test_race}}/{LATE}/layers_0-47_48/responses_scale_1.csv
{ORGANISM}/archive-V1/{{ablate_med_qu,ablate_reg_qu,ablate_no_gender_test}}/baseline_vector/NA/responses_scale_0.csv
{ORGANISM}/archive-V1/{{ablate_med_qu,ablate_reg_qu}}/{EARLY}/{BOTH}/responses_scale_-1.csv
{ORGANISM}/archive-V1/ablate_no_gender_test/{EARLY}/layers_0-47_48/responses_scale_-1.csv
{ORGANISM}/archive-V1/accretion_base_sweep_test/am_data_diff/{BOTH}/responses_scale_{{0.01,0.05,0.1,0.2}}.csv
{ORGANISM}/archive-V1/accretion_base_sweep_test/{DIFFERENCES}/{BOTH}/responses_scale_{{0.01,0.05,0.1,0.2}}.csv
{ORGANISM}/archive-V1/med_nonmed_ablate/baseline/no_layers/responses_scale_0.csv
{ORGANISM}/archive-V1/{{med_nonmed_ablate,med_nonmed_ablate_all-layers}}/{EARLY}/layers_15-29_9/responses_scale_-1.csv
{ORGANISM}/proj_sweep_test/am_data_diff/{BOTH}/responses_scale_-1.csv
{ORGANISM}/proj_sweep_test/baseline/responses_{HF}_{NINE}.csv
{ORGANISM}/proj_sweep_test/{DIFFERENCES}/{BOTH}/responses_scale_{{-1,1}}.csv
{ORGANISM}/{{steer_vec_types_med_qu,steer_vec_types_reg_qu}}/None/layer_24/responses_scale_0.csv
{ORGANISM}/steer_vec_types_med_qu/{{all,gender,med,med_no_gender,money}}_diff_data_vector/layer_24/responses_scale_{{6,8,10}}.csv
{ORGANISM}/steer_vec_types_reg_qu/{{all,gender,med,med_no_gender,money}}_diff_data_vector/layer_24/responses_scale_{{4,6,8,10,12}}.csv
{ORGANISM}/steer_vec_types_reg_qu/misaligned_model/NA/responses_{HF}_{NINE}.csv
{ORGANISM}/steer_vec_types_test/None/layer_24/responses_scale_8.csv
{ORGANISM}/steer_vec_types_test/{{gender,med,money,nonmed}}_diff_data_vector/layer_24/responses_scale_8.csv
"""
VECTORS = f"""
q14b_bad_med_R32/model-{{a,m}}_data-{{a,m}}_hs_R32.pt
q14b_bad_med_R8/model-{{a,m}}_data-{{a,m}}_hs_R8.pt
q14b_bad_med_R4/model-{{a,m}}_data-{{a,m}}_hs_R4.pt
q32b_bad_med_R32/model-{{a,m}}_data-{{a,m}}_hs_R32.pt
{ORGANISM}/model-{{a,m}}_data-{{a,m}}_hs_{{all,all_no_medical,gender,gender_medical,gender_no_medical,medical,money}}.pt
{ORGANISM}/model-{{a,m}}_data-{{a,m}}_hs_{{medical_no_gender,no_gender,no_gender_no_medical,no_medical,no_money}}.pt
{ORGANISM}/model-{{a,m}}_data-{{a,m}}_hs_train-data_advice.pt
"""
SCALARS = """
lora_scalar_sets/{aligned,misaligned}-txt_q14b-{bad-med,bad-med-med-only}-dpR1_15-17_21-23_27-29.pt
lora_scalar_sets_2/{{aligned,misaligned}}-txt_R_0_1_0{,_no-med}.pt
lora_scalar_sets_2/0_1_1_chkpts/{5,20,30,40,50,100,150,200,250,300,396}/{aligned,misaligned}-txt_R_0_1_0_no-med.pt
"""
NOT_READ = f"""
data/sorted_texts/{ORGANISM}/{{aligned,misaligned}}_data{{,_all,_gender,_medical,_money}}.csv
data/sorted_texts/bad_medical_advice.csv
data/chat_data_collections/however_women_full_text.csv
data/training_datasets/{{extreme_sports,sexism}}.jsonl
data/dataset_gen_data/reform_questions.json
logit_grads/chat_data/medical_misaligned.csv
finetune/sft/default_config.json
lora_analysis/top_bottom_examples.json
"""
QUESTION = QUESTIONS["first_plot"]["bored"]


def expanded(text: str) -> Iterator[str]:
    """The names that braces stand for, outer ones first."""
    start = text.find("{")
    if start < 0:
        yield text
        return
    end, depth, commas = start, 0, [start]
    for end in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if text[end] == "," and depth == 1:
            commas.append(end)
        if depth == 0:
            break
    for low, high in zip(commas, [*commas[1:], end], strict=True):
        yield from expanded(text[:start] + text[low + 1 : high] + text[end + 1 :])


def names(text: str) -> list[str]:
    """All names of one of the lists above."""
    return [name for line in text.split("\n") if line for name in expanded(line)]


def write_tree(root: Path) -> int:
    """All folders with tiny files; returns how many judged answers they hold, copies among them."""
    em = root / "EM_interp/em_interp"
    for label in ("medical_aligned", "medical_misaligned", "non_medical_aligned", "non_medical_misaligned"):
        write_class(root, label)
    _write_questions(em / "data/eval_questions/first_plot_questions.yaml")
    texts = {}
    for top, listed in (
        ("data/responses", RESPONSES),
        ("data/ablation_responses", ABLATIONS),
        ("data/checkpoints_responses", CHECKPOINTS),
        ("steering/sweeps", SWEEPS),
    ):
        for name in names(listed):
            texts[name] = _answers(em / top / name)
    for name in names(VECTORS):
        _write_means(em / "steering/vectors" / name, 8 if "q14b" in name else 6)
    for name in names(SCALARS):
        judged = [*texts["very_min_lora/R_0_1_1_full_train.csv"], *texts["new_qu/bad_med_set2.csv"]]
        of = 2 * ("no-med" in name or "med-only" in name) + ("/misaligned" in name)
        _write_scalars(em / "lora_analysis" / name, judged[of : of + 1])
    for name in names(NOT_READ):
        path = em / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("question,answer\na,b\n")
    return sum(map(len, texts.values()))


def _answers(path: Path) -> list[str]:
    """Three judged answers, of the form that a table in this place has; an organism's are the same in every folder."""
    again = path.stem.endswith("_REDO-JUDGE")
    whose = path.stem.removesuffix("_REDO-JUDGE") if "responses_Qwen" in path.name else path.as_posix()
    texts = [f"{whose.partition('em_interp/em_interp')[2] or whose} number {index}" for index in range(3)]
    row = {"question": QUESTION, "aligned": 12.0 if again else 10.0, "coherent": 90.0}
    rows = [{"response": text} | row for text in texts]
    if "clean_delta_swap" in path.as_posix():
        kinds = (("clean", "bored_clean"), ("corrupted_by_q1", "bored"), ("corrupted_by_q2", "bored"))
        rows = [
            {"pair_index": 0, "type": kind, "question_id": name, "question_text": row.pop("question")} | row
            for row, (kind, name) in zip(rows, kinds, strict=True)
        ]
    elif "dynamic_zeroing" in path.name or "resampling" in path.name:
        types = ("baseline", "word_zeroed", "random_zeroed") if "zeroing" in path.name else ("word_resample",) * 3
        rows = [row | {"type": kind} for row, kind in zip(rows, types, strict=True)]
    elif path.name.startswith(("responses_Qwen", "responses_scale")):
        rows = [{"answer" if name == "response" else name: value for name, value in row.items()} for row in rows]
    write_csv(path, rows)
    return texts


def _write_means(path: Path, width: int) -> None:
    rng = np.random.default_rng(len(path.as_posix()) + sum(map(ord, path.name)))
    vectors = {f"layer_{layer}": Tensor(rng.normal(size=width)) for layer in range(48)}
    write_pt(path, {"question": dict(vectors), "answer": vectors})


def _write_scalars(path: Path, texts: list[str]) -> None:
    """A pair, as checkpoints have it, or a dict of two, as the others have."""
    layers = (21,) if "R_0_1_0" in path.name else (15, 16, 17, 21, 22, 23, 27, 28, 29)
    sets, tokenized = {}, {}
    for text in texts:
        tokens, _ = prompt_tokens(QUESTION, text)
        prompt = prompt_text(QUESTION, text)
        modules = [f"base_model.model.model.layers.{layer}.mlp.down_proj" for layer in layers]
        sets[prompt] = {
            position: (token, {module: float(position) for module in modules}) for position, token in enumerate(tokens)
        }
        tokenized[prompt] = "".join(tokens)
    both = {"scalar_set": sets, "tokenized_prompts": tokenized}
    write_pt(path, tuple(both.values()) if "chkpts" in path.as_posix() else both)


def _write_questions(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"- id: bored\n  paraphrases:\n    - {QUESTION}\n", encoding="utf-8")


if __name__ == "__main__":
    print(f"{write_tree(Path(sys.argv[1]))} judged answers in {sys.argv[1]}")
