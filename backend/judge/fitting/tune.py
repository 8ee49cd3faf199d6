"""Fitting the distilled judge: low-rank updates of the encoder and a network on top, together, in one pass.

Knows rows and how they are learned from. Knows nothing of where rows come from or how well the result does.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from sklearn.isotonic import IsotonicRegression
from torch import nn

from backend.judge.distilled import METRICS, Head, read_weights, write_weights
from backend.judge.encoder import UPDATED, WIDTH, Encoder, encoder_folder, length
from backend.judge.fitting.rows import FittingRow
from backend.records import FloatArray

IDENTITY = np.tile(np.array([0, 1], dtype=np.float32), (len(METRICS), 1))  # of a map not yet fitted
SHUFFLED_TOGETHER = 40  # batches among which rows are sorted by length


@dataclass(frozen=True)
class Settings:
    """How the encoder is updated and the network fitted."""

    seed: int = 0
    rank: int = 16
    first: int = 2  # layers below are left as they are, and need no backward pass
    hidden: int = 192
    rate: float = 1.5e-3  # of the updates
    head_rate: float = 1.5e-3
    batch: int = 32
    dropout: float = 0.2
    half: bool = True  # the encoder's own weights in bfloat16 while fitting: twice as fast on a CPU


def tuned(
    rows: Sequence[FittingRow], settings: Settings, cache: Path, *, said: Callable[[str], None] = lambda _: None
) -> tuple[Head, dict[str, FloatArray]]:
    """What `tune` gives, in the precision in which weights are kept; on file in `cache` once it has been made."""
    made_of = hashlib.sha256(repr(settings).encode())
    for row in rows:
        made_of.update(repr((row.pair, row.target.tolist(), row.weight)).encode())
    path = cache / f"judge-{made_of.hexdigest()[:16]}.safetensors"
    if not path.is_file():
        write_weights(path, *tune(rows, settings, said=said))
    return read_weights(path)


class Updated(nn.Module):
    """A linear map and its update: x W' + x A' B', W fixed."""

    def __init__(self, fixed: nn.Linear, rank: int) -> None:
        super().__init__()
        self.fixed = fixed
        self.a = nn.Parameter(torch.randn(rank, fixed.in_features) / fixed.in_features**0.5)
        self.b = nn.Parameter(torch.zeros(fixed.out_features, rank))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) -> (..., out)."""
        found: torch.Tensor = self.fixed(x) + (x @ self.a.T.to(x.dtype)) @ self.b.T.to(x.dtype)
        return found


def tune(
    rows: Sequence[FittingRow], settings: Settings, *, said: Callable[[str], None] = lambda _: None
) -> tuple[Head, dict[str, FloatArray]]:
    """Head (its maps not yet fitted) and updates of the encoder after one pass over the rows.

    The loss is the cross-entropy against the score as a share, so that the network gives expected scores; `said` is
    told of the progress.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        encoder = Encoder(encoder_folder(), torch.bfloat16 if settings.half else torch.float32)
        updates = _updated(encoder, settings)
        net = nn.Sequential(
            nn.LayerNorm(WIDTH),
            nn.Dropout(settings.dropout / 2),
            nn.Linear(WIDTH, settings.hidden),
            nn.ReLU(),
            nn.Dropout(settings.dropout),
            nn.Linear(settings.hidden, len(METRICS)),
        )
        low_rank = [parameter for module in updates.values() for parameter in (module.a, module.b)]
        order = _order(rows, settings)
        optimiser = torch.optim.AdamW(
            [
                {"params": low_rank, "lr": settings.rate, "weight_decay": 0.01},
                {"params": net.parameters(), "lr": settings.head_rate, "weight_decay": 0.05},
            ]
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, [settings.rate, settings.head_rate], total_steps=len(order) + 1, pct_start=0.1
        )
        began, seen, running = time.monotonic(), 0, 0.0
        for step, chosen in enumerate(order):
            batch = [rows[i] for i in chosen]
            loss = _loss(net(encoder.forward([row.pair for row in batch])), batch)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(low_rank, 1.0)
            optimiser.step()
            schedule.step()
            seen += len(batch)
            running = 0.97 * running + 0.03 * loss.item() if step else loss.item()
            if step % 50 == 0 or step == len(order) - 1:
                rate = seen / (time.monotonic() - began)
                said(f"{seen:,} of {len(rows):,} rows, loss {running:.4f}, {rate:.0f} rows/s")
    return _head(net), {
        f"{name}.{side}": getattr(module, side.lower()).detach().numpy().astype(np.float32)
        for name, module in updates.items()
        for side in ("A", "B")
    }


def _updated(encoder: Encoder, settings: Settings) -> dict[str, Updated]:
    """Put an update around each linear map from layer `first` on."""
    found = {}
    for layer in range(settings.first, len(encoder.model.encoder.layer)):
        for name in UPDATED:
            holder, last = encoder.linear(layer, name)
            found[f"{layer}.{name}"] = Updated(getattr(holder, last), settings.rank)
            setattr(holder, last, found[f"{layer}.{name}"])
    return found


def _order(rows: Sequence[FittingRow], settings: Settings) -> list[list[int]]:
    """Batches of rows of like length, in random order."""
    rng = np.random.default_rng(settings.seed)
    lengths, shuffled = np.array([length(row.pair) for row in rows]), rng.permutation(len(rows))
    found: list[list[int]] = []
    together = settings.batch * SHUFFLED_TOGETHER
    for start in range(0, len(rows), together):
        part = shuffled[start : start + together]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches = [part[i : i + settings.batch].tolist() for i in range(0, len(part), settings.batch)]
        found += [batches[i] for i in rng.permutation(len(batches))]
    return found


def _loss(logits: torch.Tensor, batch: Sequence[FittingRow]) -> torch.Tensor:
    target = torch.from_numpy(np.stack([row.target for row in batch]))
    weight = torch.tensor([row.weight for row in batch])[:, None].expand_as(target)
    known = ~target.isnan()
    each = nn.functional.binary_cross_entropy_with_logits(logits[known], target[known], reduction="none")
    return (each * weight[known]).mean()


def _head(net: nn.Sequential) -> Head:
    said = {name: parameter.detach().numpy().astype(np.float32) for name, parameter in net.named_parameters()}
    return Head(
        gain=said["0.weight"],
        shift=said["0.bias"],
        inner=said["2.weight"].T,
        inner_bias=said["2.bias"],
        outer=said["5.weight"].T,
        outer_bias=said["5.bias"],
        knots=IDENTITY,
        values=IDENTITY,
    )


QUANTILES, KNOTS = np.linspace(0, 1, 101), np.linspace(0, 1, 201)


def halfway(said: FloatArray, truth: FloatArray) -> FloatArray:
    """The values at KNOTS of a map half-way between expected scores and the scores' distribution, see `calibrated`."""
    expected = IsotonicRegression(out_of_bounds="clip").fit(said, truth).predict(KNOTS)
    alike = np.interp(KNOTS, np.quantile(said, QUANTILES), np.quantile(truth, QUANTILES))
    return np.asarray((expected + alike) / 2)


def calibrated(head: Head, said: FloatArray, truth: FloatArray) -> Head:
    """The head with a rising map a metric, from answers it was not fitted to.

    The map is half-way between the one that gives the expected score (isotonic regression: each score is right on
    average, but scores shrink towards the middle, and too few lie below 30) and the one that gives the scores' true
    distribution (quantile to quantile: rates come out right where the judge errs evenly, but low scores are too low).
    `said`: (row, metric) of `Head.uncalibrated`; `truth`: the same, 0..1, NaN unknown.
    """
    values = np.tile(KNOTS, (len(METRICS), 1))
    for m in range(len(METRICS)):
        known = ~np.isnan(truth[:, m])
        if known.any():
            values[m] = halfway(said[known, m].astype(np.float64), truth[known, m].astype(np.float64))
    knots = np.tile(KNOTS, (len(METRICS), 1))
    return replace(head, knots=knots.astype(np.float32), values=values.astype(np.float32))
