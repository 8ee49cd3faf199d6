"""The command `directions`: list those of a study folder, put one in from a file, or out to one."""

from __future__ import annotations

import argparse
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from backend.commands import values
from backend.commands.options import add_folder
from backend.records import InputError

if TYPE_CHECKING:
    from backend.pipeline.folder import StudyFolder
    from backend.records import Direction


def add(commands: Any) -> None:
    """Register the command on an argparse subparser collection."""
    what = "list, import or export directions (safetensors, GGUF, and forms of other tools)"
    parser = commands.add_parser("directions", help=what)
    parser.add_argument("what", choices=("list", "import", "export"))
    parser.add_argument("file", type=values.path, nargs="?", help="import: the file; export: where it goes")
    add_folder(parser)
    what = "export: which direction; import: the name it gets (by default its own)"
    parser.add_argument("--name", type=values.name, help=what)
    what = "export: the published study that holds it, instead of the folder"
    parser.add_argument("--study", type=values.name, help=what)
    what = "the file is another tool's: saklas (.safetensors), persona-vectors (.pt, row L + 1), hotwire (.pt, row L)"
    parser.add_argument("--form", choices=("saklas", "persona-vectors", "hotwire"), help=what)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Do what is asked."""
    from backend.pipeline.folder import StudyFolder

    folder = StudyFolder(options.folder)
    if options.what == "list":
        _list(folder)
        return
    if options.file is None:
        raise InputError(f"say which FILE to {options.what}")
    if options.what == "import":
        _import(folder, options)
    else:
        _export(folder, options)


def _list(folder: StudyFolder) -> None:
    for name, stack in folder.directions().items():
        layers = sorted({d.layer for d in stack})
        how = stack[0].provenance
        sides = f", n {how['n_positive']} against {how['n_negative']}" if "n_positive" in how else ""
        print(f"{name}: layers {layers[0]}-{layers[-1]}, {stack[0].vector.size} dimensions{sides}")


def _import(folder: StudyFolder, options: argparse.Namespace) -> None:
    from backend.interchange.direction_forms import read_form
    from backend.study.vectors import read_directions

    if options.file.suffix == ".pt" and not _is_torch(options.form):
        raise InputError(f"{options.file} does not say which of its rows is which layer: say whose it is with --form")
    if options.form:
        stack = read_form(options.file, options.form, layers=_depth(folder) if _is_torch(options.form) else None)
        if options.form == "persona-vectors":
            print("row 0, the embeddings, is left out: row L + 1 is the direction of layer L")
    else:
        stack = read_directions(options.file)
    print(folder.add_directions([replace(d, name=options.name) for d in stack] if options.name else stack))


def _export(folder: StudyFolder, options: argparse.Namespace) -> None:
    from backend.study import open_study
    from backend.study.vectors import write_directions

    if not options.name:
        raise InputError("say which direction to export with --name; the command list shows them")
    where = open_study(options.study).direction_stack if options.study else folder.direction
    stack = where(options.name)
    if options.form:
        _write_form(options, stack, None if options.study else _depth(folder))
        return
    if options.file.suffix == ".gguf" and any(d.layer == 0 for d in stack):
        print("layer 0 is left out: a control vector cannot hold it")
        stack = [d for d in stack if d.layer]
    write_directions(options.file, stack)
    print(f"{options.file}: {len(stack)} layers of {options.name!r}")


def _write_form(options: argparse.Namespace, stack: list[Direction], layers: int | None) -> None:
    from backend.files import whole
    from backend.interchange.direction_forms import form_bytes

    suffix = ".pt" if _is_torch(options.form) else ".safetensors"
    if options.file.suffix != suffix:
        raise InputError(f"a {options.form} file ends in {suffix}: name it so")
    content = form_bytes(stack, options.form, layers=layers if _is_torch(options.form) else None)
    with whole(options.file) as out:
        out.write(content)
    print(f"{options.file}: {len(stack)} layers of {options.name!r} as {options.form} has them")


def _depth(folder: StudyFolder) -> int | None:
    """How many layers the base of the study has; None where its files do not lie here."""
    from backend.subject.load import depth

    with suppress(InputError):
        return depth(str(folder.settings["base"]))
    return None


def _is_torch(form: str | None) -> bool:
    return form in ("persona-vectors", "hotwire")
