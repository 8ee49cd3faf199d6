"""The command line: input that cannot be used ends in one sentence and exit code 2, before anything is loaded."""

import argparse
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from backend.__main__ import COMMANDS, main, parser
from backend.commands import extract, figures
from backend.cuts import Bins, Thresholds
from backend.edits import Condition
from backend.judge import EMBEDDED, distilled
from backend.pipeline.folder import StudyFolder
from backend.records import USUAL, Direction, Response, Sampling, Score
from backend.subject.train_settings import TrainSettings

ROOT = Path(__file__).parents[2]
SAMPLING = Sampling(max_new_tokens=8)

# a command line that would reach the model, or the end
GOOD = {
    "train": "train <data> <folder> --layers 1",
    "sample": "sample --folder {folder}",
    "judge": "judge <target>",
    "labels": "labels <what> <file> --folder {folder}",
    "build": "build --folder {folder} --name x",
    "import-published": "import-published <paths>",
    "figures": "figures <study>",
    "figures-of": "figures-of <study> --out {folder}/figures",
    "import-figures": "import-figures <folder> --name x",
    "extract": "extract --folder {folder}",
    "directions": "directions <what> <file> --folder {folder} --name v",
    "downstream": "downstream --folder {folder} --organism o --direction v --layer 1",
    "neutral": "neutral --folder {folder} --organism o --direction v",
    "dictionary": "dictionary --folder {folder} --study s --reader o",
    "sweep steer": "sweep steer --folder {folder} --name s --direction v",
    "sweep ablate": "sweep ablate --folder {folder} --name s --direction v --layer 1",
    "sweep gain": "sweep gain --folder {folder} --name s --organism o",
    "sweep coalitions": "sweep coalitions --folder {folder} --name s --organism o",
    "studies": "studies <what> <study> --name x",
    "report": "report <study>",
    "answers": "answers <what> <study> <files>",
    "recipe": "recipe <file>",
    "run": "run <recipe> --folder {folder}/new",
    "app": "app --folder {folder}",
}
POSITIONALS = {
    ("train", "data"): "{folder}/rows.jsonl",
    ("train", "folder"): "{folder}/organisms/new",
    ("judge", "target"): "{folder}",
    ("labels", "what"): "draw",
    ("labels", "file"): "{folder}/drawn.jsonl",
    ("import-published", "paths"): "{folder}",
    ("figures", "study"): "no-such-study",
    ("figures-of", "study"): "no-such-study",
    ("import-figures", "folder"): "{folder}",
    ("studies", "what"): "rename",
    ("report", "study"): "no-such-study",
    ("answers", "what"): "export",
    ("answers", "study"): "no-such-study",
    ("answers", "files"): "{folder}/answers.csv",
    ("studies", "study"): "no-such-study",
    ("recipe", "file"): "{folder}/recipe.yaml",
    ("run", "recipe"): "{folder}/recipe.yaml",
    ("directions", "what"): "export",
    ("directions", "file"): "{folder}/out.safetensors",
}
SWEEPS = ("sweep steer", "sweep ablate", "sweep gain", "sweep coalitions")
LOAD = ("train", "sample", "judge", "build", "extract", "downstream", "neutral", *SWEEPS, "run", "app")

LEAST_0 = ("-1", "1.5", "x", "", "nan", "99999999999")
LEAST_1 = (*LEAST_0, "0")
NUMBER = ("nan", "inf", "-inf", "x", "")
POSITIVE = (*NUMBER, "0", "-1")
SCORE = (*NUMBER, "-1", "101")
TEXT = ("", " ", "a\0b", "a\nb")
PATH = ("", "a\0b", "x" * 300)
NAME = (*TEXT, ".x", "..", "a/b", "../x", " x", "x" * 250, "é" * 60)
LAYERS = ("", "nine", "-1", "3-1", "5-3", "0-99999999999", "99999999999", "1000", "1,", "1--2", "none", "1.5")
TOKENS = ("", "answers", "all,first=0", "all,first=x", "answer,5", "prompt,tokens=a", "all,first=2,after=3")
SEEDS = (*(bad for bad in LAYERS if bad not in ("none", "1000")), "0-2147483648", "0-5000")
FOLDER = (*PATH, "nowhere")
SAMPLED = {
    "--folder": FOLDER,
    "--max-new-tokens": LEAST_1,
    "--temperature": (*NUMBER, "-1", "11"),
    "--top-p": (*NUMBER, "0", "-1", "1.1"),
    "--seed": LEAST_0,
    "--n": LEAST_1,
}
SWEPT = {**SAMPLED, "--name": NAME, "--questions": (*TEXT, "x", "medical,", "all,x"), "--batch": LEAST_1}
BAD: dict[str, dict[str, tuple[str, ...]]] = {
    "train": {
        "data": (*PATH, "nowhere.jsonl"),
        "folder": (*PATH, ".", "..", "organisms/.x", "organisms/" + "x" * 250, "organisms/a\0b", "organisms/ "),
        "--model": TEXT,
        "--layers": LAYERS,
        "--modules": (*TEXT, "a,,b"),
        "--rank": (*LEAST_1, "5000"),
        "--alpha": POSITIVE,
        "--learning-rate": POSITIVE,
        "--steps": LEAST_1,
        "--batch": LEAST_1,
        "--micro-batch": LEAST_1,
        "--seed": LEAST_0,
        "--checkpoint-every": LEAST_1,
    },
    "sample": {
        **SAMPLED,
        "--organism": (*NAME, "nobody"),
        "--condition": (*NAME, "new"),
        "--study": NAME,
        "--add": (*TEXT, "v", "v:1", ":1:1", "v:x:1", "v:-1:1", "v:1:x", "v:1:nan", "v:1:inf", "v:²:1", "v:1:1"),
        "--ablate": (*TEXT, "v", ":1", "v:x", "v:-1", "v:²", "v:1"),
        "--random": LEAST_0,
        "--questions": (*TEXT, "nobody", "all,"),
    },
    "judge": {
        "target": (*PATH, "nowhere"),
        "--judge": (*TEXT, "x" * 250, "local:" + "x" * 250, "local:", "gpt", "distilled-none"),
        "--out": (*PATH, "o.csv"),
        "--metrics": (*TEXT, "beauty", "aligned,"),
        "--concurrency": (*LEAST_1, "100000"),
        "--prices": ("", "x", "1", "1,2,3", "nan,1", "1,inf", "-1,1", "1,"),
        "--rubrics": (*PATH, "nowhere.yaml"),
    },
    "labels": {
        "file": (*PATH, "no/such/folder"),
        "--folder": FOLDER,
        "--n": LEAST_1,
        "--seed": LEAST_0,
        "--by": NAME,
        "--by-score": ("", "\n", "x" * 250, "nobody"),
        "--conditions": (*TEXT, "nobody,"),
        "--half-width": ("", "x", "0", "-1", "nan", "2"),
    },
    "build": {"--folder": FOLDER, "--name": (*NAME, "a:b", "-x")},
    "import-published": {"paths": (*PATH, "nowhere"), "--name": (*NAME, "a:b")},
    "figures": {
        "study": (*NAME, "no-such-study"),
        "--page": TEXT,
        "--repeats": LEAST_1,
        **dict.fromkeys(figures.CUTS, SCORE),
    },
    "figures-of": {"study": (*NAME, "no-such-study"), "--out": PATH, "--title": TEXT},
    "import-figures": {"folder": (*PATH, "nowhere"), "--name": (*NAME, "a:b")},
    "report": {"study": (*NAME, "no-such-study"), "--out": PATH, "--judge": TEXT, "--outcome": TEXT},
    "answers": {
        "study": (*NAME, "no-such-study"),
        "files": PATH,
        "--organism": TEXT,
        "--condition": TEXT,
        "--times": (*POSITIVE, "1001"),
        "--base": TEXT,
    },
    "studies": {"study": (*TEXT, "no-such-study"), "--name": (*NAME, "a:b")},
    "extract": {
        "--folder": FOLDER,
        "--organism": (*NAME, "nobody"),
        "--condition": (*NAME, "new"),
        "--study": (*NAME, "no-such-study"),
        "--kind": (*TEXT, "x", "misalignment,", "topic"),
        "--outcome": (*TEXT, "nobody"),
        "--topic": TEXT,
        "--judge": (*TEXT, "x" * 250, "nobody"),
        "--balance": (*TEXT, "x", "weights,"),
        "--questions": (*TEXT, "nobody", "all,"),
        "--shuffled": LEAST_0,
        **dict.fromkeys(extract.CUTS, SCORE),
    },
    "directions": {
        "file": PATH,
        "--folder": FOLDER,
        "--name": (*NAME, "nobody"),
        "--study": (*NAME, "no-such-study"),
    },
    "downstream": {
        "--folder": FOLDER,
        "--organism": (*NAME, "nobody"),
        "--direction": (*NAME, "nobody"),
        "--layer": LEAST_0,
        "--shares": ("", "x", "1", "0%", "nan%", "1%,x%", "%"),
        "--random": LEAST_0,
        "--texts": LEAST_1,
        "--questions": TEXT,
        "--outcome": (*TEXT, "nobody"),
        "--judge": (*TEXT, "x" * 250),
        "--name": NAME,
    },
    "neutral": {
        "--folder": FOLDER,
        "--organism": (*NAME, "nobody"),
        "--direction": (*NAME, "nobody"),
        "--first": LEAST_1,
        "--texts": (*PATH, "nowhere"),
        "--random": LEAST_0,
        "--name": NAME,
    },
    "dictionary": {
        "--folder": FOLDER,
        "--study": (*NAME, "no-such-study"),
        "--reader": NAME,
        "--features": (*LEAST_1, "1"),
        "--active": LEAST_1,
        "--steps": LEAST_1,
        "--seed": LEAST_0,
        "--outcome": TEXT,
        "--judge": (*TEXT, "x" * 250),
        "--name": NAME,
    },
    "sweep steer": {
        **SWEPT,
        "--direction": (*TEXT, "nobody"),
        "--layers": (*LAYERS, "7"),
        "--strengths": ("", "x", "4%,x%", "nan", "nan%", "inf%", "4%,", "4%,2", "%"),
        "--control-layers": (*(bad for bad in LAYERS if bad != "none"), "7"),
        "--random": SEEDS,
        "--like": (*TEXT, "nobody"),
        "--organism": (*NAME, "nobody"),
        "--where": TOKENS,
    },
    "sweep ablate": {
        **SWEPT,
        "--like": (*TEXT, "nobody"),
        "--organism": (*NAME, "nobody"),
        "--direction": (*TEXT, "nobody"),
        "--layer": (*LEAST_0, "7", "1000"),
        "--random": SEEDS,
        "--to": ("", "median", "zero,", "zero mean"),
        "--where": TOKENS,
    },
    "sweep gain": {
        **SWEPT,
        "--organism": (*NAME, "nobody", "base"),
        "--group": ("", "late", "late=", "=1", "late=x", "late=3-1", "late=none", "a/b=1"),
        "--factors": ("", "a", "1,", "nan", "0,inf"),
    },
    "sweep coalitions": {**SWEPT, "--organism": (*NAME, "nobody", "base"), "--pairs": LEAST_1},
    "recipe": {"file": (*PATH, "nowhere.yaml")},
    "run": {
        "recipe": (*PATH, "nowhere.yaml"),
        "--folder": PATH,
        "--until": (*TEXT, "nowhere"),
        "--only": (*TEXT, "nowhere", "publish"),
        "--ray": (*TEXT, "nowhere"),
    },
    "app": {
        "--token": (),  # what is no token is refused by the launcher: empty is none
        "--study": NAME,
        "--folder": FOLDER,
        "--model": TEXT,
        "--organism": ("", "x", "=x", "x=", "a/b=x", ".x=y", "x" * 250 + "=y"),
        "--host": TEXT,
        "--port": (*LEAST_0, "70000", "65536"),
    },
}


@pytest.fixture
def folder(tmp_path):
    """A study folder with answers, scores, a direction and an organism: all but a model that can be loaded."""
    own = StudyFolder(tmp_path / "mine")
    (own.path / "organisms" / "o").mkdir(parents=True)
    (own.path / "study.json").write_text(json.dumps({"title": "T", "base": "smollm2"}))
    (own.path / "rows.jsonl").write_text("{}\n")
    (own.path / "recipe.yaml").write_text("title: T\nstudy: t\nanswers: [{organisms: base, n: 1}]\n")
    (own.path / "organisms" / "o" / "adapter_config.json").write_text("{}")
    vectors = [np.full(4, layer, dtype=np.float32) for layer in (1, 2)]
    own.add_directions([Direction("v", layer, v, 10.0, {}) for layer, v in zip((1, 2), vectors, strict=True)])
    for organism in ("base", "o"):
        answer = Response(organism, organism, "baseline", "q", "why?", "t", 0, "so", (1,), (2,), sampling=SAMPLING)
        own.add_responses(Condition("baseline"), organism, [answer])
    own.add_scores("j", [Score("o", "j", "aligned", 90.0), Score("o", "j", "coherent", 90.0)])
    return own.path


@pytest.fixture(autouse=True)
def nothing_is_loaded(tmp_path, monkeypatch):
    """Whatever would load a model, or start programs, fails: main then returns 1."""

    def refuse(*_, **__):
        raise AssertionError("it was loaded")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("backend.commands.failure.LOGS", tmp_path / "logs")
    for place in ("subject.load.load", "judge.local.load_local", "commands.launch.launch"):
        monkeypatch.setattr(f"backend.{place}", refuse)
    known = distilled.load_distilled
    monkeypatch.setattr(distilled, "load_distilled", lambda name: refuse() if name == EMBEDDED else known(name))
    for variable in ("EM_FOLDER", "STUDY", "HOST", "PORT"):
        monkeypatch.delenv(variable, raising=False)


HERE = "<the bad value>"


def words(command, folder, option=None, bad=None):
    """A good command line, with one bad value in it."""
    places = {f"<{place}>": good for (of, place), good in POSITIONALS.items() if of == command}
    if option and not option.startswith("-"):
        places[f"<{option}>"] = HERE
    line = [places.get(word, word) for word in GOOD[command].split()]
    line = [bad if word is HERE else word.format(folder=folder) for word in line]
    return [*line, f"{option}={bad}"] if option and option.startswith("-") else line


def said(capsys, arguments):
    assert main([str(argument) for argument in arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    return printed.err


def every_parser():
    """Each command, and each kind of it, with its parser."""

    def below(name, parser):
        kinds = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        if not kinds:
            yield name, parser
        for kind in kinds:
            for own, its in kind.choices.items():
                yield from below(f"{name} {own}".strip(), its)

    return dict(below("", parser()))


OPTIONS = [(command, option) for command, options in BAD.items() for option in options]


@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_a_bad_value_is_refused_before_anything_is_loaded(folder, capsys, command, option):
    for bad in BAD[command][option]:
        error = said(capsys, words(command, folder, option, bad))
        named = option in error or repr(bad)[:40] in error or any(part in error for part in bad.split(","))
        assert named or not bad, (bad, error)


@pytest.mark.parametrize("command", LOAD)
def test_without_it_the_model_would_have_been_loaded(folder, capsys, command):
    assert main(words(command, folder)) == 1
    assert "it was loaded" in capsys.readouterr().err


def test_no_option_is_forgotten():
    free = (argparse._HelpAction, argparse._StoreTrueAction)
    for command, its in every_parser().items():
        options = {(a.option_strings or [a.dest])[0] for a in its._actions if not isinstance(a, free) and not a.choices}
        assert options == set(BAD[command]), command
    assert set(every_parser()) == set(BAD) == set(GOOD)


def test_what_is_to_be_chosen_is_chosen_from_what_there_is(folder, capsys):
    assert "invalid choice: 'x'" in said(capsys, ["x"])
    assert "invalid choice: 'x'" in said(capsys, ["sweep", "x"])
    assert "invalid choice: 'x'" in said(capsys, [*words("extract", folder), "--pooling", "x"])
    assert "choose story, overview" in said_of_figures(capsys, folder)


def said_of_figures(capsys, folder):
    from backend.study import Draft, schema

    root = folder.parent / "studies"
    with Draft("bare", root=root) as draft, pytest.MonkeyPatch.context() as patch:
        draft.meta(title="Bare", base="none")
        draft.publish()
        for module in ("schema", "read"):
            patch.setattr(f"backend.study.{module}.STUDIES", root)
        patch.setattr("backend.study.open_study", lambda name: open_there(name, root))
        assert schema.list_studies(root) == ["bare"]
        return said(capsys, ["figures", "bare", "--page", "x"])


def open_there(name, root):
    from backend.study.read import open_study

    return open_study(name, root)


def test_no_folder_is_usual(folder, capsys, monkeypatch):
    for command in GOOD:
        if "--folder" in BAD[command] and command not in ("app", "run"):  # a recipe's is where it lies
            line = [word for word in words(command, folder) if word not in ("--folder", str(folder))]
            assert "--folder" in said(capsys, line)
    assert "say what to judge" in said(capsys, ["judge"])
    monkeypatch.setenv("EM_FOLDER", str(folder))
    assert main(["sample"]) == 1
    assert "it was loaded" in capsys.readouterr().err


def test_a_folder_that_is_no_study_folder(tmp_path, capsys):
    for command in ("build", "sample", "app", "extract", "labels", "sweep gain"):
        assert "no study.json" in said(capsys, words(command, tmp_path)), command


def test_conditions_need_a_name_and_a_study(folder, capsys):
    assert "--condition name" in said(capsys, ["sample", "--folder", folder, "--add", "v:3:1"])
    assert "sample it first" in said(capsys, ["sample", "--folder", folder, "--condition", "new"])
    options = ("--condition", "s", "--study", "no-such-study", "--add", "v:3:1")
    assert "no-such-study" in said(capsys, ["sample", "--folder", folder, *options])
    assert "not allowed with" in said(capsys, ["sample", "--folder", folder, "--add", "v:3:1", "--ablate", "v:3"])


def test_defaults_are_those_of_the_values_that_own_them():
    line = parser().parse_args(["train", "data", "organisms/o", "--layers", "1"])
    settings = TrainSettings(layers=(1,))
    shared = set(vars(line)) & set(vars(settings))
    assert len(shared) == 9
    assert {name: getattr(line, name) for name in shared} == {name: getattr(settings, name) for name in shared}
    line = parser().parse_args(["figures", "s"])
    assert {place: getattr(line, place) for place, _ in figures.CUTS.values()} == vars(Bins())
    line = parser().parse_args(["extract", "--folder", "f"])
    assert {place: getattr(line, f"cut_{place}") for place, _ in extract.CUTS.values()} == vars(Thresholds())
    for command in ("sample", "sweep gain --name s --organism o"):
        line = parser().parse_args([*command.split(), "--folder", "f"])
        assert (line.temperature, line.top_p) == (USUAL.temperature, USUAL.top_p)


@pytest.mark.parametrize("command", ["", *GOOD])
def test_help_says_what_is_usual_and_loads_nothing_heavy(command):
    program = (
        "import sys; from backend.__main__ import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'transformers', 'polars', 'duckdb', 'sklearn', 'scipy', 'tqdm'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    command = [sys.executable, "-c", program, *command.split(), "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: python -m backend")


def test_every_command_is_a_file_and_says_what_it_does():
    helped = {a.dest: a.help for a in next(iter(parser()._subparsers._group_actions))._choices_actions}
    assert [name.replace("-", "_") for name in helped] == [c.__name__.rpartition(".")[2] for c in COMMANDS]
    assert all(helped.values())


def documented():
    """Every command line of the README and of what the README points to, with its continuation lines."""
    for file in ("README.md", "docs/judge.md"):
        text = (ROOT / file).read_text().replace("\\\n", " ")
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
            yield from re.findall(r"python -m backend (.+)", block)
    for line in re.findall(r"`python -m backend ([^`]+)`", (ROOT / "cache/demo/README.md").read_text()):
        yield line.replace(" ...", "")


@pytest.mark.parametrize("line", list(documented()))
def test_what_the_readme_says_can_be_typed(line):
    options = parser().parse_args(shlex.split(line, comments=True))
    assert callable(options.run)
    assert options.command != "judge" or options.target is not None
