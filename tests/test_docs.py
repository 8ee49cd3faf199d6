"""What the documents name is there: files of the tree, and the pages that they link to."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "cache/demo/README.md"])
NAMED = re.compile(r"(?<![\w/.-])((?:backend|panels|pages|tests|docs|cache/demo)/[\w./-]*\w)")
LINKED = re.compile(r"\]\((?!https?:|#)([^)#]+)")
MADE_UP = re.compile(r"[A-Z]{4,}")  # pages/NAME.py, scores/JUDGE.parquet


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_a_document_names_is_there(document):
    text = document.read_text()
    named = {name for name in NAMED.findall(text) if not MADE_UP.search(name)}
    missing = {name for name in named if not (ROOT / name).exists() and not list(ROOT.glob(f"{name}.py"))}
    assert not missing
    assert not {link for link in LINKED.findall(text) if not (document.parent / link).exists()}
