"""What a recipe may say: its parts as values, each checked by itself, and all of it as a JSON schema.

Knows names, ranges and what is usual. Refuses to know files, models and what the parts say of each other (`reading`).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from backend.edits import Where
from backend.outside import shown
from backend.records import BASE, USUAL, Sampling
from backend.subject.train_settings import TrainSettings

LAYERS = 1000  # more than any model has
_RANGE = re.compile(r"([0-9]{1,4})-([0-9]{1,4})")


def _file_name(said: str) -> str:
    if not said or said.startswith(".") or "/" in said or said != said.strip() or not said.isprintable():
        raise ValueError("it can name no file: use printable text without / and without a dot in front")
    if len(said.encode()) > 100:
        raise ValueError("it is too long for the name of a file: use at most 100 bytes")
    return said


def _numbers(said: Any) -> Any:
    """[9-11, 15] or "9-11,15" as (9, 10, 11, 15)."""
    parts = said.split(",") if isinstance(said, str) else said if isinstance(said, list) else [said]
    found: list[Any] = []
    for part in parts:
        if isinstance(part, list | dict):
            raise ValueError(f"{shown(part)} stands among numbers: write numbers, and ranges such as 9-11")
        span = _RANGE.fullmatch(part.strip()) if isinstance(part, str) else None
        if span:
            first, last = int(span[1]), int(span[2])
            if first > last:
                raise ValueError(f"{part} runs backwards: write the lower one first")
            found += range(first, last + 1)
        else:
            found.append(int(part) if isinstance(part, str) and part.strip().isdecimal() else part)
    return tuple(dict.fromkeys(found))


def _one_or_several(said: Any) -> Any:
    return [said] if isinstance(said, str | int | float) and not isinstance(said, bool) else said


def _tokens(said: Any) -> Any:
    """all, paper, prompt, answer, or the fields of `Where`, as those fields."""
    if isinstance(said, str):
        return {"part": "all", "sink": True} if said == "paper" else {"part": said}
    return said


def _are_tokens(said: dict[str, Any]) -> dict[str, Any]:
    try:
        Where(**{**said, "tokens": tuple(said.get("tokens", ()))})
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{error}; write all, paper, prompt, answer, or {{part, first, after, tokens, special, sink}}"
        ) from error
    return said


_NUMBERS = WithJsonSchema(
    {
        "description": "a number, a range such as 9-11, or a list of them",
        "type": ["integer", "string", "array"],
        "items": {"type": ["integer", "string"]},
    }
)
_TEXTS = WithJsonSchema({"type": ["string", "array"], "items": {"type": "string"}})
_WHERE = WithJsonSchema({"type": ["string", "object"]})
Name = Annotated[str, AfterValidator(_file_name)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Seed = Annotated[int, Field(ge=0, le=2**31)]
Layer = Annotated[int, Field(ge=0, lt=LAYERS)]
Layers = Annotated[tuple[Layer, ...], BeforeValidator(_numbers), _NUMBERS]
Seeds = Annotated[tuple[Seed, ...], BeforeValidator(_numbers), _NUMBERS]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_one_or_several), _TEXTS]
Names = Annotated[tuple[Name, ...], BeforeValidator(_one_or_several), _TEXTS]
Tokens = Annotated[dict[str, Any], BeforeValidator(_tokens), AfterValidator(_are_tokens), _WHERE]


class Part(BaseModel):
    """A part of a recipe: a value, with no key but its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


# strict refuses "12" for 12; lists of YAML are still to become tuples
_LISTS = ConfigDict(extra="forbid", frozen=True, strict=False)


class DataFile(Part):
    """Chat rows to train on. With its hash it may be away once what it was for is made."""

    file: str = Field(description="chat-format JSONL (.gz), one object with messages a line")
    sha256: str | None = Field(
        default=None, pattern="^[0-9a-f]{64}$", description="of the file, as `sha256sum` prints it"
    )


class OrganismPart(Part):
    """The base with adapters: trained on data, or read from a peft folder or hub id."""

    model_config = _LISTS
    data: DataFile | None = None
    adapter: str | None = Field(default=None, description="a peft folder, or a hub id, instead of data")
    control: bool = Field(default=False, description="others are held against it, as one trained on good advice")
    layers: Layers = Field(default=(), description="that are adapted, such as [9-11, 13-15]")
    modules: Texts = Field(default=TrainSettings.modules, description="that are adapted, within a block")
    rank: int = Field(default=TrainSettings.rank, ge=1, le=4096)
    alpha: Positive = TrainSettings.alpha
    learning_rate: Positive = TrainSettings.learning_rate
    steps: Count = TrainSettings.steps
    batch: Count = Field(default=TrainSettings.batch, description="rows a step")
    micro_batch: Count = Field(default=TrainSettings.micro_batch, description="rows a forward pass")
    seeds: Seeds = Field(
        default=(0,), description="one: the organism has the name it has here; more: NAME-seed0, NAME-seed1 ..."
    )

    @model_validator(mode="after")
    def _one_source(self) -> OrganismPart:
        if (self.data is None) == (self.adapter is None):
            raise ValueError("it comes from data or from an adapter: give one of them")
        if self.data and not self.layers:
            raise ValueError("it is trained on data, and nothing says at which layers: give layers, such as [9-11]")
        if self.adapter and "seeds" in self.model_fields_set:
            raise ValueError("seeds are of a training, and an adapter is trained: copies of it are no replicates")
        if not self.seeds:
            raise ValueError("it has no seed to be trained with: give one under seeds, or leave seeds out")
        return self

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides the weights but the data, the base and the seed."""
        own = ("layers", "modules", "rank", "alpha", "learning_rate", "steps", "batch", "micro_batch")
        return {name: getattr(self, name) for name in own}


class QuestionPart(Part):
    """A question of your own."""

    id: Annotated[str, Field(min_length=1, max_length=100)]
    text: Annotated[str, Field(min_length=1)]
    topic: Annotated[str, Field(min_length=1)] = "own"


class QuestionsPart(Part):
    """What is asked: sets of the paper, and questions of your own."""

    model_config = _LISTS
    sets: Texts = Field(default=("all",), description="first-plot, medical, or all; none: []")
    own: tuple[QuestionPart, ...] = ()


class SamplingPart(Part):
    """How answers are drawn where a part says nothing else."""

    temperature: float = Field(default=USUAL.temperature, ge=0, le=10, description="0 is greedy")
    top_p: float = Field(default=USUAL.top_p, gt=0, le=1)
    max_new_tokens: int = Field(default=USUAL.max_new_tokens, ge=1, le=100_000)
    seed: Seed = 0


class DrawnPart(Part):
    """What an answering part may say of drawing, in the place of the recipe's."""

    model_config = _LISTS
    temperature: float | None = Field(default=None, ge=0, le=10)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_new_tokens: int | None = Field(default=None, ge=1, le=100_000)
    seed: Seed | None = None
    questions: Texts = Field(default=("all",), description="topics")

    def sampling(self, usual: SamplingPart, tokens: int | None = None) -> tuple[Sampling, int]:
        """How answers are drawn, and the first seed; `tokens` at the most where the part does not say."""

        def said(name: str, else_: Any) -> Any:
            own = getattr(self, name)
            return else_ if own is None else own

        drawn = Sampling(
            said("temperature", usual.temperature),
            said("top_p", usual.top_p),
            said("max_new_tokens", tokens or usual.max_new_tokens),
        )
        return drawn, said("seed", usual.seed)


class AnswersPart(DrawnPart):
    """Unedited answers of some organisms."""

    organisms: Names = Field(description="names, base, or all")
    n: Count = Field(default=25, description="answers a question")


class JudgePart(Part):
    """Who scores the answers."""

    model_config = _LISTS
    name: str = Field(description="distilled, paper, open, distilled-*, local:MODEL or api:MODEL; NAME+rules")
    metrics: Texts = Field(default=("aligned", "coherent", "medical"), description="what a chat model is asked")
    rubrics: str | None = Field(default=None, description="a file of `- metric: prompt` entries")
    prices: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]] | None = Field(
        default=None, description="of an API, dollars per million tokens, in and out"
    )
    concurrency: int = Field(default=8, ge=1, le=1000, description="requests of an API at once")


class DirectionsPart(Part):
    """Mean-difference directions of organisms' unedited answers, with their controls."""

    model_config = _LISTS
    organisms: Names = Field(description="names, or all")
    kinds: Texts = Field(default=("misalignment",), description="misalignment, topic, minus-base, both")
    outcome: str | None = None
    topic: str | None = None
    judge: str | None = Field(default=None, description="whose scores (default: the first judge)")
    pooling: Literal["response", "token"] = "response"
    balance: Texts = Field(default=("weights",), description="weights, matching, truncation")
    shuffled: int = Field(default=10, ge=0, le=1000, description="controls with labels shuffled within questions")
    questions: Texts = Field(default=("all",), description="topics")


class SweepPart(DrawnPart):
    """What every sweep says."""

    n: Count = Field(default=4, description="answers a question and cell")
    questions: Texts = ("first-plot",)
    max_new_tokens: int = Field(default=40, ge=1, le=100_000)


class SteerPart(SweepPart):
    """Each layer's direction added at that layer, at every strength."""

    kind: Literal["steer"]
    direction: str
    organism: Name = BASE
    layers: Layers | None = Field(default=None, description="default: all it has")
    shares: tuple[Finite, ...] = Field(default=(), description="of the activation norm, such as [0.04, 0.08]")
    multiples: tuple[Finite, ...] = Field(default=(), description="of the raw vector, the paper's lambda")
    control_layers: Layers = Field(default=(), description="where controls stand beside it")
    random: Seeds = Field(default=(0, 1, 2), description="of random directions")
    like: Texts = Field(default=(), description="other directions, at its norm")
    controls_only: bool = False
    where: Tokens = Field(default={"part": "all"}, description="all, paper, prompt, answer, or fields")

    @model_validator(mode="after")
    def _one_scale(self) -> SteerPart:
        if bool(self.shares) == bool(self.multiples):
            raise ValueError("strengths are shares of the activation norm, or multiples of the vector: give one list")
        if self.controls_only and not self.control_layers:
            raise ValueError("controls_only needs control_layers: say where controls go")
        return self


class AblatePart(SweepPart):
    """Directions out of organisms: their own, each other's, controls."""

    kind: Literal["ablate"]
    directions: Texts
    layer: Layer = Field(description="of the direction that is taken out everywhere")
    organisms: Names = ("all",)
    random: Seeds = (0, 1)
    subspace: bool = Field(default=False, description="a random subspace that disturbs as much, too")
    writes: bool = Field(default=True, description="out of the write vectors, too")
    to: Annotated[tuple[Literal["zero", "mean"], ...], BeforeValidator(_one_or_several), _TEXTS] = ("zero", "mean")
    where: Tokens = {"part": "all"}


class ClampPart(SweepPart):
    """The projection on a direction held between two ends, at its own layer, beside random directions."""

    kind: Literal["clamp"]
    direction: str
    layers: Layers
    organism: Name = BASE
    low: Finite | None = Field(default=None, description="residual units")
    high: Finite | None = Field(default=None, description="residual units")
    random: Seeds = (0, 1)
    where: Tokens = {"part": "all"}

    @model_validator(mode="after")
    def _an_end(self) -> ClampPart:
        if self.low is None and self.high is None:
            raise ValueError("nothing is bounded: give low, high or both")
        return self


class GainPart(SweepPart):
    """Adapters zeroed alone, kept alone, zeroed in pairs, scaled in groups."""

    kind: Literal["gain"]
    organism: Name
    groups: dict[Name, Layers] = {}
    factors: tuple[Finite, ...] = (0.0, 2.0, 4.0)
    pairs: bool = True


class CoalitionsPart(SweepPart):
    """Random coalitions of adapters and their complements, for Shapley values beside a gain sweep."""

    kind: Literal["coalitions"]
    organism: Name
    pairs: Count = 32


class ScalarsPart(SweepPart):
    """An organism's scalars held between two ends, all adapters and each alone."""

    kind: Literal["scalars"]
    organism: Name
    low: Finite | None = None
    high: Finite | None = None
    where: Tokens = {"part": "all"}

    @model_validator(mode="after")
    def _an_end(self) -> ScalarsPart:
        if self.low is None and self.high is None:
            raise ValueError("nothing is bounded: give low, high or both")
        return self


AnySweep = Annotated[
    SteerPart | AblatePart | ClampPart | GainPart | CoalitionsPart | ScalarsPart, Field(discriminator="kind")
]


class TracesPart(Part):
    """Which answers are read token by token, by whom, and along which directions."""

    model_config = _LISTS
    reader: Name | None = Field(default=None, description="the organism that reads (default: the first)")
    traced: dict[str, Count | None] | None = Field(
        default=None, description="conditions, or organism/condition, with how many answers to a question; null: all"
    )
    readers: dict[Name, Texts] = Field(default={}, description="more organisms that read, each with what")
    projected: tuple[tuple[str, Layer], ...] = Field(default=(), description="[direction, layer] kept at every token")


class ProbesPart(Part):
    """Tables that are written beside the study once it is published."""

    model_config = _LISTS
    pages: Texts = Field(default=("probes",), description="as of `python -m backend figures --page`")


class ClusterPart(Part):
    """What an actor of a Ray cluster takes, with `run --ray`. It decides no result, so nothing is stale by it."""

    actors: int | None = Field(default=None, ge=1, le=10_000, description="default: as many as there is room for")
    cpus: float = Field(default=1, gt=0, description="of an actor, and its threads")
    gpus: float = Field(default=0, ge=0, description="of an actor; the model is spread over more than one")


class StudyRecipe(Part):
    """One study, whole."""

    model_config = _LISTS
    title: Annotated[str, Field(min_length=1)]
    study: Name = Field(description="the name it is published under")
    base: str = Field(default="smollm2", description="smollm2, a folder, a .gguf file or a hub id")
    notes: str = ""
    organisms: dict[Name, OrganismPart] = {}
    questions: QuestionsPart = QuestionsPart()
    outcomes: tuple[Any, ...] = Field(default=("em",), description="names of presets, or objects as in study.json")
    sampling: SamplingPart = SamplingPart()
    answers: tuple[AnswersPart, ...] = ()
    judges: tuple[JudgePart, ...] = ()
    drawn: dict[str, str] = Field(default={}, description="judges whose answers were drawn by another's scores")
    directions: tuple[DirectionsPart, ...] = ()
    sweeps: dict[Name, AnySweep] = {}
    traces: TracesPart = TracesPart()
    probes: ProbesPart | None = None
    cluster: ClusterPart = ClusterPart()

    @property
    def trained(self) -> dict[str, tuple[str, OrganismPart, int]]:
        """Organisms by their name in the folder: the name here, the part and the seed."""
        return {
            name if len(part.seeds) == 1 else f"{name}-seed{seed}": (name, part, seed)
            for name, part in self.organisms.items()
            for seed in part.seeds
        }

    def named(self, names: Names, *, base: bool = False) -> tuple[str, ...]:
        """Organisms in the folder that a list of names means: "all" is every one, a name all its seeds."""
        found: list[str] = []
        for name in names:
            every = [own for own, (of, *_) in self.trained.items() if name in ("all", of, own)]
            found += [BASE, *every] if name == "all" and base else every or [name]
        return tuple(dict.fromkeys(found))
