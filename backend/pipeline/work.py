"""What a long run keeps until it is done: where, and the mark of all that its results depend on.

A run with another model, text or setting has another mark, so nothing of one run is ever taken for another's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from backend.records import BASE
from backend.study import STUDIES
from backend.subject.load import Subject

WORK = STUDIES.parent / "work"


def place(name: str, mark: str) -> Path:
    """The folder of one run."""
    return WORK / f"{name}-{mark}"


def fingerprint(subject: Subject, organisms: Iterable[str], said: Any) -> str:
    """Twelve digits that change with the model, the weights of the organisms, and what JSON says of the run."""
    digest = hashlib.sha256(json.dumps([subject.name, str(subject.model.dtype), said]).encode())
    for name in sorted({*organisms} - {BASE}):
        digest.update(name.encode())
        for lora in subject.organisms[name].loras:
            for weights in (lora.read, lora.write):
                digest.update(weights.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:12]
