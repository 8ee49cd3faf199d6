"""The outcomes of a study as JSON: what its study.json and its published info say under "outcomes".

An entry is the name of a preset or an object:

    {"name": "upper", "title": "upper case", "hit": [{"metric": "upper", "above": 90}]}

with, where they are needed, `among` (metrics without which a response does not count), `positive` and `negative` (the
classes of directions and probes; without them the hits and their opposite), `positive_name`, `negative_name`, `source`.
A condition is a metric with above, at_least, below or at_most, or, in a class, {"column": "topic", "is": "medical"}.

It trusts nothing it reads: people write it by hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from backend.outcomes import (
    CONTRASTS,
    EM,
    PRESETS,
    SELF_CORRECTED,
    UNGATED,
    Band,
    Contrast,
    Is,
    IsNot,
    Outcome,
    Side,
    above,
    below,
)
from backend.records import InputError

MOST_OUTCOMES, MOST_CONDITIONS = 32, 16
CATEGORIES = ("organism", "condition", "question_id", "topic")  # what a class may ask besides scores
_TAKEN = {*CATEGORIES, "response", "question", "text", "seed", "finished", "label"}  # columns that are no metric
_NAME = re.compile(
    r"\w(?:[\w -]{0,62}\w)?"
)  # it is a column, a link and a field of a chart: no dots, brackets or colons
_ENDS = ("above", "at_least", "below", "at_most")
_KEYS = ("name", "title", "hit", "among", "positive", "negative", "positive_name", "negative_name", "source")


def outcomes_of(info: Mapping[str, Any]) -> tuple[Outcome, ...]:
    """The outcomes of a study, by its settings or its published info: those under "outcomes", or EM where none are.

    An entry is the name of one of PRESETS or an object, {"name": "upper", "title": "upper case", "hit": [{"metric":
    "upper", "above": 90}]}. Raises InputError on anything else.
    """
    entries = info.get("outcomes")
    if entries is None:
        return (EM,)
    if not isinstance(entries, list) or not 0 < len(entries) <= MOST_OUTCOMES:
        raise InputError(f"outcomes must be a list of 1 to {MOST_OUTCOMES} names or objects, not {_short(entries)}")
    found = tuple(map(_outcome, entries))
    for name in (outcome.name for outcome in found):
        if [outcome.name for outcome in found].count(name) > 1:
            raise InputError(f"there are two outcomes {name!r}: give each its own name")
    return found


def contrasts_of(info: Mapping[str, Any]) -> tuple[Contrast, ...]:
    """The classes of a study's outcomes, then the paper's contrasts; of two of one name the first."""
    found: dict[str, Contrast] = {}
    for contrast in (*(outcome.contrast for outcome in outcomes_of(info)), *CONTRASTS):
        found.setdefault(contrast.name, contrast)
    return tuple(found.values())


def named_outcome(outcomes: Iterable[Outcome], name: str | None) -> Outcome:
    """The outcome of a name, the first without one. Raises InputError where there is none."""
    known = {outcome.name: outcome for outcome in outcomes}
    if name is not None and name not in known:
        raise InputError(f"there is no outcome {name!r}: this study has {', '.join(known)}. Choose one of them")
    return known[name] if name is not None else next(iter(known.values()))


def outcomes_to_json(outcomes: Iterable[Outcome]) -> list[Any]:
    """The inverse of `outcomes_of`."""
    return [each.name if PRESETS.get(each.name) == each else _to_json(each) for each in outcomes]


def _to_json(outcome: Outcome) -> dict[str, Any]:
    classes = outcome.contrast
    return {
        "name": outcome.name,
        "title": outcome.title,
        "hit": _side_to_json(outcome.hit),
        "among": list(outcome.needs),
        "positive": _side_to_json(classes.positive),
        "negative": _side_to_json(classes.negative),
        "positive_name": classes.positive_name,
        "negative_name": classes.negative_name,
        "source": outcome.source,
    }


def _side_to_json(side: Side) -> list[dict[str, Any]]:
    return [_condition_to_json(condition) for condition in side]


def _condition_to_json(condition: Band | Is | IsNot) -> dict[str, Any]:
    if not isinstance(condition, Band):
        return {"column": condition.column, "is" if isinstance(condition, Is) else "is_not": condition.value}
    said: dict[str, Any] = {"metric": condition.metric}
    for end, closed, opened in ((condition.low, "at_least", "above"), (condition.high, "at_most", "below")):
        if np.isfinite(end):
            edge = round(end, 6) + 0.0
            said[closed if edge == end else opened] = edge
    return said


def _outcome(entry: Any) -> Outcome:
    if isinstance(entry, str) and entry in PRESETS:
        return PRESETS[entry]
    if not isinstance(entry, dict):
        raise InputError(f"there is no outcome {_short(entry)}: name one of {', '.join(PRESETS)}, or give an object")
    name = _name("the name of an outcome", entry.get("name"))
    where = f"the outcome {name!r}"
    if name in {*PRESETS, SELF_CORRECTED.name}:
        raise InputError(f"{where} is the paper's: give yours another name")
    if unknown := set(entry) - set(_KEYS):
        raise InputError(f"{where} has the unknown key {_short(min(unknown, key=str))}: use {', '.join(_KEYS)}")
    title, source = _words(where, entry, "title", name), _words(where, entry, "source", "")
    hit = tuple(each for each in _side(where, "hit", entry.get("hit")) if isinstance(each, Band))
    if len(hit) < len(entry["hit"]):
        raise InputError(f"{where} takes scores alone for a hit: give its classes the {', '.join(CATEGORIES)}")
    among = entry.get("among", [])
    if not isinstance(among, list) or len(among) > MOST_CONDITIONS:
        raise InputError(f"{where} must have a list of metrics as among, not {_short(among)}")
    needs = tuple(_metric(f"a metric of {where}", each) for each in among)
    return _with_classes(Outcome(name, hit, needs, title, source=source), where, entry)


def _with_classes(outcome: Outcome, where: str, entry: Mapping[str, Any]) -> Outcome:
    """The outcome with the classes of its entry; what is not said is the hit and its opposite."""
    yes = _words(where, entry, "positive_name", outcome.title)
    no = _words(where, entry, "negative_name", f"not {yes}")
    if len({yes, no, UNGATED}) < 3:
        raise InputError(f"{where} calls its classes {yes!r} and {no!r}: give two names, neither {UNGATED!r}")
    said = {side: _side(where, side, entry[side]) for side in ("positive", "negative") if side in entry}
    negative = said.get("negative") or outcome.contrast.negative
    return replace(outcome, classes=Contrast(outcome.name, said.get("positive", outcome.hit), negative, yes, no))


def _side(where: str, key: str, entries: Any) -> Side:
    if not isinstance(entries, list) or not 0 < len(entries) <= MOST_CONDITIONS:
        raise InputError(
            f"{where} must have a list of 1 to {MOST_CONDITIONS} conditions as {key}, not {_short(entries)}: "
            'for example [{"metric": "upper", "above": 90}]'
        )
    return tuple(_condition(f"a condition of {key} of {where}", each) for each in entries)


def _condition(where: str, entry: Any) -> Band | Is | IsNot:
    keys = set(entry) if isinstance(entry, dict) else set()
    if keys in ({"column", "is"}, {"column", "is_not"}):
        if entry["column"] not in CATEGORIES:
            raise InputError(f"{where} asks for {_short(entry['column'])}: a column is one of {', '.join(CATEGORIES)}")
        kind, value = ("is", Is) if "is" in keys else ("is_not", IsNot)
        return value(entry["column"], _words(where, entry, kind, ""))
    ends = keys - {"metric"}
    if (
        "metric" not in keys
        or not ends
        or ends - set(_ENDS)
        or {"above", "at_least"} <= ends
        or {"below", "at_most"} <= ends
    ):
        raise InputError(
            f"{where} is {_short(entry)}: give a metric with above or at_least, below or at_most or both, or a column "
            "with is or is_not"
        )
    metric, cut = _metric(f"the metric of {where}", entry["metric"]), {end: _cut(where, entry[end]) for end in ends}
    low = above(metric, cut["above"]).low if "above" in cut else cut.get("at_least", -np.inf)
    high = below(metric, cut["below"]).high if "below" in cut else cut.get("at_most", np.inf)
    return Band(metric, low, high)


def _cut(where: str, value: Any) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 <= value <= 100
        or round(value, 6) != value
    ):
        raise InputError(f"{where} cuts at {_short(value)}: give a score from 0 to 100 with at most six decimals")
    return float(value)


def _metric(where: str, value: Any) -> str:
    name = _name(where, value)
    if name in _TAKEN:
        raise InputError(f"{where} is {name!r}, which is no score: name a metric that a judge scores")
    return name


def _name(where: str, value: Any) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise InputError(f"{where} is {_short(value)}: use letters, digits, spaces, - and _, 64 at most")
    return value


def _words(where: str, entry: Mapping[str, Any], key: str, default: str) -> str:
    value = entry.get(key, default)
    if not isinstance(value, str) or len(value) > 200 or not value.isprintable() or (default and not value.strip()):
        raise InputError(f"{where} has {_short(value)} as {key}: give a line of at most 200 letters")
    return value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
