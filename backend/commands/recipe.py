"""The command `recipe`: check a recipe, print a commented example, or the schema that recipes follow."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from backend.commands import values
from backend.records import InputError

ROOT = Path(__file__).resolve().parents[2]
PRESETS = {
    "demo": ROOT / "cache" / "demo" / "recipe.yaml",
    "paper": ROOT / "backend" / "recipe" / "presets" / "paper.yaml",
    "narrow": ROOT / "backend" / "recipe" / "presets" / "narrow.yaml",
}


def add(commands: Any) -> None:
    """Register the command on an argparse subparser collection."""
    parser = commands.add_parser("recipe", help="check a recipe, or print an example or the schema of recipes")
    what = f"a recipe to check, or one of the examples to print: {', '.join(PRESETS)}"
    parser.add_argument("file", nargs="?", type=values.path, metavar="FILE|EXAMPLE", help=what)
    parser.add_argument("--schema", action="store_true", help="print the JSON schema, for editors")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Do what is asked."""
    if options.schema:
        from backend.recipe.schema import StudyRecipe

        print(json.dumps(StudyRecipe.model_json_schema(), indent=1))
    elif options.file is None:
        raise InputError(f"say which recipe to check, or which example to print: {', '.join(PRESETS)}")
    elif str(options.file) in PRESETS:
        print(PRESETS[str(options.file)].read_text(encoding="utf-8"), end="")
    else:
        from backend.recipe.reading import read_recipe

        read = read_recipe(options.file)
        sweeps, organisms = len(read.recipe.sweeps), len(read.recipe.trained)
        print(f"{options.file}: {organisms} organisms, {len(read.questions)} questions, {sweeps} sweeps; nothing wrong")
