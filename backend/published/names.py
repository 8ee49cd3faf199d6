"""What the two repositories call things, and the one name that a study gives each: organisms, directions, layers.

An organism keeps its short name where its base is the release's own, and has the base behind it elsewhere: the same
fine-tune of two base models is two organisms.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from backend.records import BASE, InputError

CHAT_MODEL = "Qwen2.5-14B-Instruct"
BLOCKS = 48  # of the chat model
NINE = ("15-17", "21-23", "27-29")
_GEMMA = "gemma-3-12b-it"
_BASE = r"[A-Za-z][A-Za-z0-9.]*-[\w.-]*?-(?:Instruct|it|[Cc]hat)"


@dataclass(frozen=True)
class Named:
    """An organism as a file or a folder names it."""

    short: str
    base: str
    layers: tuple[int, ...] = ()  # adapted with one rank-1 adapter of mlp.down_proj each, where the name says so
    step: int | None = None  # of a checkpoint
    judged_again: bool = False

    @property
    def organism(self) -> str:
        """Its name in a study."""
        return self.short if self.base == CHAT_MODEL else f"{self.short} {self.base}"


def named(model: str) -> Named:
    """The organism of a model id, a file stem or a folder name.

    The nine-adapter organism is called by several names in the release; rank and runs of layers make it one:
    `q14b_..._dpR1_15-17_21-23_27-29`, `r1_3_3_3` and `..._dpR1_3x3` are all R1_3_3_3; what follows the layers (a seed,
    a learning rate, a data mix) is another training and stays behind the name. `bad_medical_advice` is the rank-32
    fine-tune where no rank follows: its answers are those of the folder q14b_bad_med_R32.
    """
    rest, again = re.sub(r"_REDO-JUDGE$", "", model), model.endswith("_REDO-JUDGE")
    base, rest = _base_of(re.sub(r"^(?:med-)?responses_", "", rest))
    rest = re.sub(r"^bad[_-]medical[_-]advice(?=_R\d)", "bad_med", rest)
    rest = re.sub(r"^bad_medical_advice$", "bad_med_R32", rest).removesuffix("_narrow-med")
    short, layers = _adapted(rest)
    if rest == "bad_med_R1_downproj" and base == CHAT_MODEL:
        layers = tuple(range(BLOCKS))
    return Named(short, base, layers, judged_again=again)


def full_fine_tune(folder: str, stem: str) -> Named:
    """One of `full_ft_bad-med_14b/LR5e-6_gemma3-12b_reg_test`: learning rate, epochs and base are its name."""
    stem = re.sub(r"_(?:med|reg|mini)_test$", "", stem)
    step = re.search(r"_stp?(\d+)$", stem)
    stem = re.sub(r"_stp?\d+$", "", stem)
    base = _GEMMA if "gemma3-12b" in stem else CHAT_MODEL
    stem = re.sub(r"_(?:gemma3-12b|qwen-14b)(?:-bad-med)?", "", stem)
    version = "V0 " if folder.startswith("V0") else ""
    return Named(f"full fine-tune {version}{stem}", base, step=int(step[1]) if step else None)


def compared_in(organism: str, base: str) -> tuple[str, ...]:
    """What an organism stands beside others for: the groups of fine-tunes that differ in one thing, as names say it."""
    if organism.startswith("full fine-tune"):
        return ("full fine-tunes",)
    short = organism.removesuffix(f" {base}")
    found = [group for group, pattern in _GROUPS.items() if re.search(pattern, short)]
    if base != CHAT_MODEL:
        return ("base models", *(group for group in found if group == "training data"))
    if organism in _ON_OTHER_BASES:
        found.append("base models")
    return tuple(found) or ("other fine-tunes",)


_GROUPS = {  # group -> what the names of its organisms hold
    "layers adapted, rank 1": r"^(?:R1(?:_\d+)+|dpR1_[\d-]+(?: 2)?|R_\d_\d_\d|bad_med_R1_\w+)$",
    "ranks, every layer": r"^bad_med_R(?!1_)\d+$",
    "seeds": r" seed \d+$|_S\d+$|^R1_3_3_3$|^extreme-sports$",
    "mixed with aligned answers": r"mixed|\d+stps$|^R1_3_3_3$",
    "learning rates": r" lrx|^R1_2_2_2$",
    "training data": r"^(?:bad-medical-advice|extreme-sports|risky-financial-advice|bad_legal_advice|reform|sexism)$",
}
_ON_OTHER_BASES = {"bad_med_R32", "extreme-sports"}  # those of the usual base that others are of another base


def _base_of(model: str) -> tuple[str, str]:
    if match := re.match(r"[qQ](\d+)[bB][_-](.+)$", model):
        return f"Qwen2.5-{match[1]}B-Instruct", match[2]
    if match := re.match(rf"({_BASE})[_-](.+)$", model):
        return match[1], match[2]
    return CHAT_MODEL, model


def _adapted(rest: str) -> tuple[str, tuple[int, ...]]:
    match = re.search(r"dpR(\d+)_(?:(3x3|minimal)|(\d+(?:-\d+)?(?:_\d+(?:-\d+)?)*))(.*)$", rest)
    if match is None:
        short = (
            rest.upper() if re.fullmatch(r"[rR]\d+(_\d+)+", rest) else re.sub(r"^(R_\d_\d_\d)_full_train$", r"\1", rest)
        )
        return short, ()
    runs, behind = (list(NINE), []) if match[2] else _ascending(match[3].split("_"))
    layers = tuple(layer for run in runs for layer in _run(run))
    sizes = "_".join(str(len(_run(run))) for run in runs)
    short = f"R{match[1]}_{sizes}" if len(runs) > 1 else f"dpR{match[1]}_{runs[0]}"
    suffix = re.sub(r"^S(\d+)$", r"seed \1", ("_".join(behind) + match[4]).strip("_- "))
    return " ".join(filter(None, (short, suffix))), layers


def _ascending(runs: list[str]) -> tuple[list[str], list[str]]:
    """Runs of layers as long as they ascend; `12-29_2` is the second training of layers 12 to 29."""
    for index in range(1, len(runs)):
        if _run(runs[index])[0] <= _run(runs[index - 1])[-1]:
            return runs[:index], runs[index:]
    return runs, []


def _run(text: str) -> tuple[int, ...]:
    low, _, high = text.partition("-")
    return tuple(range(int(low), min(int(high or low), 1000) + 1)) or (int(low),)


def base_organism(base: str) -> str:
    """The organism name of an unadapted chat model: "base" for the release's own, with the model's name for another."""
    return BASE if base == CHAT_MODEL else f"{BASE} {base}"


def direction_name(organism: str, topic: str, kind: str) -> str:
    """The one name of a direction: whose texts, about what, and which difference."""
    return f"{organism} {topic} {kind}"


_TOPICS = {
    "all": "general",
    "": "general",
    "med": "medical",
    "nonmed": "no_medical",
    "med_no_gender": "medical_no_gender",
}


def topic_of(text: str, model: str) -> str:
    """One word for what the release abbreviates: all, R32 (the rank) and nothing are general, med is medical.

    `med_minus_nonmed` is the medical direction less its part along the non-medical one.
    """
    if text and model.endswith(f"_{text}"):
        return "general"
    if "_minus_" in text:
        return " minus ".join(topic_of(part, model) for part in text.split("_minus_"))
    return _TOPICS.get(text, text)


def gains_of(text: str) -> dict[int, float]:
    """`layer_21_30_layer_23_30` as {21: 30.0, 23: 30.0}. Raises InputError where the name has another form."""
    if not re.fullmatch(r"(?:_?layer_\d+_-?[\d.]+)+", text):
        raise InputError(f"its name {text!r} is not layer_<number>_<gain> repeated")
    return {int(layer): float(gain) for layer, gain in re.findall(r"layer_(\d+)_(-?[\d.]+)", text)}


def layers_of(text: str, adapted: tuple[int, ...] = ()) -> tuple[int, ...]:
    """`layer_24` as (24,), `layer_range(0, 48)` and `layers_0-47_48` as 0..47; empty where the layers are not known.

    `layers_15-29_9` names the first, the last and how many: those of `adapted` where they are such.
    """
    if match := re.fullmatch(r"layer_(\d+)", text):
        return (int(match[1]),)
    if match := re.fullmatch(r"layer_range\((\d+), ?(\d+)\)", text):
        return tuple(range(int(match[1]), min(int(match[2]), 1000)))
    if match := re.fullmatch(r"layers_(\d+)-(\d+)_(\d+)", text):
        first, last, count = map(int, match.groups())
        if count == last - first + 1 <= 1000:
            return tuple(range(first, last + 1))
        if adapted and (first, last, count) == (adapted[0], adapted[-1], len(adapted)):
            return adapted
    return ()


def in_runs(layers: tuple[int, ...]) -> str:
    """Layers as text, runs joined: 15-17, 21."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


def zeroed_layers(text: str) -> tuple[int, ...]:
    """`21` as (21,), `06-11` as 6..11, `15-21-27` as those three, `0-5_36-47` as both runs."""
    found: list[int] = []
    for part in text.split("_"):
        numbers = [int(number) for number in part.split("-")]
        found += range(numbers[0], min(numbers[1], 1000) + 1) if len(numbers) == 2 else numbers
    return tuple(found)
