"""A probe on disk: its weights and everything that decided them, as JSON. Nothing in it can run.

It refuses to know what a recipe's choices mean; whoever trained the probe says them, and whoever loads it reads them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from backend.analysis.estimates import Estimate
from backend.analysis.probes.probe import Probe, ProbeReport, ProbeSettings
from backend.outside import shown
from backend.records import InputError

KIND, FORMAT = "linear probe", 1
MOST_BYTES = 64 * 2**20
_ARRAYS = ("mean", "scale", "weights")


@dataclass(frozen=True, eq=False)
class SavedProbe:
    """A probe with its whole recipe: `made_of` says features, classes and study; `metrics` what it could do there."""

    probe: Probe
    settings: ProbeSettings
    made_of: Mapping[str, Any]
    metrics: Mapping[str, Estimate]


def save_probe(report: ProbeReport, settings: ProbeSettings, made_of: Mapping[str, Any]) -> str:
    """The text of a file. `made_of` is anything that JSON can hold."""
    probe = report.probe
    value = {
        "kind": KIND,
        "format": FORMAT,
        "made_of": dict(made_of),
        "settings": asdict(settings),
        "C": report.C,
        "rows": {"n": report.n_rows, "per_class": report.n_per_class, "groups": report.n_groups, "folds": report.folds},
        "metrics": {name: asdict(found) for name, found in report.metrics.items()},
        "shuffled": {name: asdict(found) for name, found in report.shuffled.items()},
        "p_value": report.p_value,
        "coefficients": report.coefficients.to_dicts(),
        "notes": list(report.notes),
        "probe": {
            "names": list(probe.names),
            "bias": probe.bias,
            **{name: getattr(probe, name).tolist() for name in _ARRAYS},
        },
    }
    return json.dumps(_finite(value), indent=1, allow_nan=False)


def load_probe(text: str | bytes) -> SavedProbe:
    """The inverse of `save_probe`. Raises InputError on what is no such file."""
    if len(text) > MOST_BYTES:
        raise InputError(f"the file has {len(text) >> 20} MB, a probe at most {MOST_BYTES >> 20}: it is another file")
    try:
        value = json.loads(text)
        if value["kind"] != KIND or value["format"] != FORMAT:
            said = f"{shown(value['kind'])} of format {shown(value['format'])}"
            raise InputError(f"the file says it is {said}, not a {KIND}")
        probe = _probe(value["probe"])
        metrics = {name: _estimate(found) for name, found in value["metrics"].items()}
        return SavedProbe(probe, ProbeSettings(**value["settings"]), dict(value["made_of"]), metrics)
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise InputError(
            f"the file is no saved probe ({type(error).__name__}: {str(error)[:80]}): save one on the Probes page"
        ) from error


def _probe(value: Mapping[str, Any]) -> Probe:
    names = tuple(str(name) for name in value["names"])
    arrays = {name: np.asarray(value[name], dtype=np.float64) for name in _ARRAYS}
    if any(array.shape != (len(names),) or not np.isfinite(array).all() for array in arrays.values()):
        raise InputError("the saved probe has weights that are missing or no numbers: save it again")
    if not (arrays["scale"] > 0).all():
        raise InputError("the saved probe has a feature without a scale: save it again")
    return Probe(names, bias=float(value["bias"]), **arrays)


def _estimate(value: Mapping[str, Any]) -> Estimate:
    return Estimate(*(np.nan if value[name] is None else float(value[name]) for name in ("value", "low", "high")))


def _finite(value: Any) -> Any:
    """The value with null for every number that JSON lacks."""
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
