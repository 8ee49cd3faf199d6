"""What to do when a batch does not fit in memory: halve it and go on, once, and say so."""

from __future__ import annotations

import logging

import torch

_log = logging.getLogger(__name__)


def ran_out(error: RuntimeError) -> bool:
    """Whether this is a device (or the machine) without the memory that was asked for."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def say_halved(what: str, old: int, new: int) -> None:
    """Give back what the failed batch held, and tell the log."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    _log.warning("out of memory at %d %s: going on with %d", old, what, new)
