"""The import law: arrows point one way, one owner for each heavy library, and no torch in the app's process."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(
    [
        *ROOT.glob("backend/**/*.py"),
        *ROOT.glob("pages/**/*.py"),
        *ROOT.glob("panels/**/*.py"),
        ROOT / "streamlit_app.py",
    ]
)

EVERYBODYS = {"records", "edits", "cuts", "outcomes", "files", "hosts", "outside"}
# a room -> the rooms it may import, beside what is everybody's
ARROWS = {
    "records": set(),
    "files": set(),
    "edits": set(),
    "cuts": set(),
    "outcomes": set(),
    "hosts": set(),
    "outside": set(),
    "subject": set(),
    "judge": {"subject"},
    "study": set(),
    "published": set(),
    "analysis": set(),
    "charts": {"analysis"},
    "worker": {"subject", "judge"},
    "tables": {"study", "analysis"},
    "interchange": {"study", "published", "analysis"},
    "report": {"study", "analysis", "tables", "charts"},
    "pipeline": {"subject", "judge", "published", "interchange", "study", "analysis", "tables"},
    "recipe": {"subject", "judge", "study", "analysis", "tables", "pipeline"},
    "commands": {
        "subject",
        "judge",
        "published",
        "study",
        "analysis",
        "tables",
        "pipeline",
        "report",
        "recipe",
        "interchange",
    },
    "__main__": {"commands"},
    "__init__": {"study", "analysis", "tables", "report"},
    "panels": {"charts", "report", "tables", "analysis", "study", "worker.client"},
    "pages": {"panels", "charts", "report", "tables", "analysis", "study", "worker.client"},
    "streamlit_app": {"panels"},
}
OWNERS = {
    "torch": {"subject", "judge", "worker"},
    "transformers": {"subject", "judge", "commands"},
    "peft": {"subject"},
    "ray": {"recipe"},
    "duckdb": {"study"},
    "sklearn": {"analysis", "judge"},
    "altair": {"charts"},
    "vl_convert": {"charts"},
    "streamlit": {"pages", "panels", "streamlit_app", "commands"},
}
VAGUE = {"utils", "util", "common", "helpers", "helper", "manager", "core", "misc"}


def room(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0] if parts[0] != "backend" else (parts[1] if len(parts) > 1 else "")


def imports(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows_point_one_way(path):
    here = room(path)
    for name in imports(path):
        first, _, rest = name.partition(".")
        there = first if first in {"pages", "panels"} else rest if first == "backend" else None
        if not there or (there.split(".")[0] in {here, *EVERYBODYS} and there != "pages"):
            continue
        allowed = ARROWS[here] if here else set()
        assert any(there == room or there.startswith(room + ".") for room in allowed), f"{here} imports {name}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_heavy_library_has_its_owners(path):
    for name in imports(path):
        owners = OWNERS.get(name.partition(".")[0])
        assert owners is None or room(path) in owners, f"{path} imports {name}, which belongs to {owners}"


@pytest.mark.parametrize(
    ("file", "known"), [("records", {"numpy"}), ("edits", {"numpy", "backend.records"}), ("cuts", {"backend.records"})]
)
def test_what_is_everybodys_knows_numpy_and_little_else(file, known):
    files = sorted((ROOT / "backend" / file).glob("*.py")) or [ROOT / f"backend/{file}.py"]
    named = {".".join(name.split(".")[:2]) for path in files for name in imports(path)} - {f"backend.{file}"}
    assert {name if name.startswith("backend") else name.partition(".")[0] for name in named} <= known | set(
        sys.stdlib_module_names
    )


def test_outcomes_know_cuts_and_arrays_and_tables_alone():
    named = {name.partition(".")[0] for name in imports(ROOT / "backend/outcomes.py")} - set(sys.stdlib_module_names)
    assert named == {"numpy", "polars", "backend"}
    ours = {name for name in imports(ROOT / "backend/outcomes.py") if name.startswith("backend")}
    assert ours == {"backend.records", "backend.records.InputError", "backend.cuts", "backend.cuts.Thresholds"}


@pytest.mark.parametrize("name", ["files", "outside"])
def test_files_know_the_standard_library_and_what_an_error_is(name):
    heavy = {
        each for each in imports(ROOT / f"backend/{name}.py") if each.partition(".")[0] not in sys.stdlib_module_names
    }
    assert heavy == {"backend.records", "backend.records.InputError"}


def test_no_vague_names():
    assert not [p for p in SOURCES if VAGUE & {p.stem, *p.relative_to(ROOT).parts}]


def test_pages_are_the_navigation_and_nothing_else():
    tree = ast.parse((ROOT / "streamlit_app.py").read_text())
    sections = next(n.value for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "SECTIONS")
    named = [(name, title) for section in ast.literal_eval(sections).values() for name, title, _ in section]
    assert sorted(f"{name}.py" for name, _ in named) == sorted(
        p.name for p in (ROOT / "pages").iterdir() if p.name != "__pycache__"
    )
    assert all(title.lower().replace(" ", "_") == name for name, title in named)


def test_the_app_process_never_loads_torch():
    imported = {
        name
        for path in SOURCES
        if room(path) in {"pages", "panels"}
        for name in imports(path)
        if name.startswith("backend.") and name.count(".") >= 2
    }
    modules = sorted({n if (ROOT / f"{n.replace('.', '/')}.py").exists() else n.rpartition(".")[0] for n in imported})
    code = f"import sys, streamlit, {', '.join(modules)}; print({{'torch', 'transformers', 'peft'}} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert out.stdout.strip() == "set()", out.stdout + out.stderr
