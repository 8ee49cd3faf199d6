"""The inputs of the demo study, as they are in the repository."""

from pathlib import Path

DEMO = Path(__file__).resolve().parents[2] / "cache" / "demo"
