"""Edits of a forward pass: what each does, and everything that is said about it.

One class an edit. It carries its JSON (its kind and its fields), its row in tables, its words, the organisms and the
directions it names, so that others ask an edit instead of telling edits apart. How a model is edited is subject/edits'
to know, which widgets make an edit panels/edits'. Layer L is the output of block L, as everywhere.

The same edit has a kind in JSON (add, ablate, ablate_write, gain), which stored conditions and requests hold, and a
word in tables (steer, ablate, ablate_write, scale), which a study's record about conditions holds. Both stay.
"""

from backend.edits.along import Ablate, AblateWrite, Add, Clamp, strength_of
from backend.edits.edit import EVERYWHERE, WRITES, Condition, Edit, EditRow, amount, edits_from_json, edits_to_json
from backend.edits.receipt import Receipt, together
from backend.edits.scalars import ClampScalars, Course, Gain, NoiseScalars, PatchScalars
from backend.edits.where import ALL, ANSWER, EVERY, PLAIN, PROMPT, Level, Span, When, Where

__all__ = [
    "ALL",
    "ANSWER",
    "EVERY",
    "EVERYWHERE",
    "PLAIN",
    "PROMPT",
    "WRITES",
    "Ablate",
    "AblateWrite",
    "Add",
    "Clamp",
    "ClampScalars",
    "Condition",
    "Course",
    "Edit",
    "EditRow",
    "Gain",
    "Level",
    "NoiseScalars",
    "PatchScalars",
    "Receipt",
    "Span",
    "When",
    "Where",
    "amount",
    "edits_from_json",
    "edits_to_json",
    "strength_of",
    "together",
]
