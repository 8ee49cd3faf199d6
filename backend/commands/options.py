"""Options that several commands share."""

from __future__ import annotations

import argparse
import os

from backend.commands import values
from backend.records import USUAL

FOLDER_VARIABLE = "EM_FOLDER"


def add_folder(parser: argparse.ArgumentParser, what: str = "the study folder") -> None:
    """The study folder that the command is about: there is no usual one, so it must be named."""
    usual = os.environ.get(FOLDER_VARIABLE) or None
    help = f"{what} (may be named in {FOLDER_VARIABLE} instead)"
    parser.add_argument("--folder", type=values.path, required=usual is None, default=usual, help=help)


def add_sampling(parser: argparse.ArgumentParser, tokens: int) -> None:
    """How answers are drawn; `tokens` are the most of an answer where nobody says."""
    parser.add_argument("--max-new-tokens", type=values.whole(1, 100_000), default=tokens, help="tokens of an answer")
    parser.add_argument("--temperature", type=values.number(0, 10), default=USUAL.temperature, help="0 is greedy")
    parser.add_argument("--top-p", type=values.number(most=1, above=0), default=USUAL.top_p, help="1 is all tokens")
    parser.add_argument("--seed", type=values.seed, default=0, help="of the first answer to a question")
