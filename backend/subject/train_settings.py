"""What decides an organism's weights, beside its data and its base. Light to import: the command line shows it."""

from __future__ import annotations

from dataclasses import dataclass

CHECKPOINT_EVERY = 25  # steps


@dataclass(frozen=True)
class TrainSettings:
    """Everything that decides the weights, beside the data and the base."""

    layers: tuple[int, ...]
    modules: tuple[str, ...] = ("mlp.down_proj",)
    rank: int = 1
    alpha: float = 64
    rslora: bool = True
    learning_rate: float = 1e-3
    steps: int = 150
    batch: int = 8  # rows a step
    micro_batch: int = 8  # rows a forward pass; gradients accumulate over the batch
    warmup: int = 5  # steps
    weight_decay: float = 0.01
    max_tokens: int = 512  # longer rows are left out, and counted
    seed: int = 0

    def rate(self, step: int) -> float:
        """Learning rate at step 0, 1, ...: linear warm-up, then linear decay to zero."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        return self.learning_rate * (self.steps - step) / max(1, self.steps - self.warmup)
