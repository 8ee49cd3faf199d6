"""A plan of what is left of a recipe, and its run: stage after stage, each written into the ledger when it is done.

Knows stages by what they depend on. Refuses to know what they do.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from backend.files import lock, remove
from backend.recipe.bench import Bench, machine
from backend.recipe.ledger import Depends, Entry, Ledger, content
from backend.recipe.stages import Stage, stages_of
from backend.records import InputError

DONE, STALE, TO_DO = "done", "stale", "to do"


@dataclass(frozen=True, eq=False)
class Planned:
    """One stage, and whether it is to be run."""

    stage: Stage
    key: str
    depends: Depends
    state: str  # DONE, STALE or TO_DO
    why: str = ""  # it is stale


def plan(bench: Bench, ledger: Ledger) -> list[Planned]:
    """Every stage of the recipe with its state. A stage that reads what is made anew is stale, too."""
    keys: dict[str, str] = {}
    planned = []
    for stage in stages_of(bench.read, ledger):
        depends = stage.depends(keys)
        key = keys[stage.name] = depends.key(stage.name)
        entry = ledger.entries.get(stage.name)
        if entry is None:
            planned.append(Planned(stage, key, depends, TO_DO))
            continue
        why = entry.why_stale(key, depends, ledger.folder) or stage.gone(bench, entry)
        planned.append(Planned(stage, key, depends, STALE if why else DONE, why or ""))
    return planned


def chosen(planned: Sequence[Planned], until: str | None, only: Sequence[str]) -> list[Planned]:
    """Those to run: all that are not done, up to `until`, or `only` these; a name stands for all that begin so.

    Raises InputError where a name is of no stage, or what is asked for reads what is not made yet.
    """
    left = [each for each in planned if each.state != DONE]
    if until is not None:
        last = max(planned.index(each) for each in _named(planned, until))
        left = [each for each in left if planned.index(each) <= last]
    if only:
        wanted = [each for name in only for each in _named(planned, name)]
        left = [each for each in left if each in wanted]
        undone = {each.stage.name for each in planned if each.state != DONE} - {each.stage.name for each in left}
        for each in left:
            first = [name for name in (*each.stage.needs, *each.stage.waits) if name in undone]
            if first:
                raise InputError(
                    f"{each.stage.name!r} needs {first[0]!r}, which is not done: run without --only, or name it, too"
                )
    return left


def _named(planned: Sequence[Planned], name: str) -> list[Planned]:
    found = [each for each in planned if each.stage.name == name or each.stage.name.startswith(f"{name} ")]
    if not found:
        raise InputError(f"there is no stage {name!r}: there is {', '.join(each.stage.name for each in planned)}")
    return found


@contextmanager
def held(folder: Path) -> Iterator[Ledger]:
    """The ledger of a folder that nobody else runs a recipe in meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder / "recipe", f"running a recipe in {folder}"):
        yield Ledger.of(folder)


def adopt(bench: Bench, ledger: Ledger) -> list[str]:
    """Take what is in the folder as made by the recipe, where it says of itself that it was; the stages taken.

    These are organisms, settings, unedited answers and their scores, each only behind stages that are done or taken:
    other files do not say all that they depend on. By which version of this project they were made is taken on trust.
    """
    taken: list[str] = []
    there: set[str] = set()
    for each in plan(bench, ledger):
        stage = each.stage
        if each.state != DONE:
            if not there.issuperset(stage.needs) or (files := stage.found(bench)) is None:
                continue
            ledger.keep(stage.name, Entry(each.key, each.depends, _contents(files, ledger.folder)))
            taken.append(stage.name)
        there.add(stage.name)
    return taken


def run(bench: Bench, ledger: Ledger, until: str | None = None, only: Sequence[str] = ()) -> list[str]:
    """Run what is left, and keep every stage in the ledger; the names of those that were run.

    Stops with InputError where a stage cannot be made, or the recipe is no longer the one that the run began with.
    """
    planned = plan(bench, ledger)
    ledger.forget(set(ledger.entries) - {each.stage.name for each in planned})
    todo = chosen(planned, until, only)
    for each in todo:
        _set_aside(ledger.entries.get(each.stage.name), each.key, ledger.folder)
    for i, each in enumerate(todo, 1):
        bench.check_unchanged()
        why = f" (stale: {each.why})" if each.why else ""
        bench.say(f"[{i} of {len(todo)}] {each.stage.name}{why}")
        before = ledger.entries.get(each.stage.name)
        bench.units, bench.left, bench.former = 0.0, (), before.left if before else ()
        start = time.monotonic()
        files = each.stage.work(bench)
        made = _contents(files, ledger.folder)
        entry = Entry(each.key, each.depends, made, time.monotonic() - start, bench.units, machine(), bench.left)
        bench.check_unchanged()
        ledger.keep(each.stage.name, entry)
        _remove_former(before, made, ledger.folder)
    if len(todo) == sum(each.state != DONE for each in planned):
        _forget_cells(bench, ledger, planned)
    return [each.stage.name for each in todo]


def _forget_cells(bench: Bench, ledger: Ledger, planned: Sequence[Planned]) -> None:
    """Behind a whole run: cells of answers that no stage gave. They stay where a stage does not say which it used."""
    used = [ledger.entries[each.stage.name].left for each in planned if each.stage.amount.tokens]
    if all(used):
        bench.cells.forget({name for names in used for name in names})


def _contents(files: Sequence[Path], folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): content(file) for file in files}


def _set_aside(entry: Entry | None, key: str, folder: Path) -> None:
    """Where files of a stage were lost or changed since it was made: out of the way of who reads all of the folder.

    What was changed stays beside its place, under .NAME.changed; what is still as the stage made it is made again.
    """
    if entry is None or entry.key != key or all(_is(folder / name, digest) for name, digest in entry.made.items()):
        return
    for name, digest in entry.made.items():
        path = folder / name
        if not _within(path, folder):
            continue
        if _is(path, digest) and path.is_file():
            path.unlink()
        elif path.exists() and not _is(path, digest):
            aside = path.with_name(f".{path.name}.changed")
            remove(aside) if aside.is_dir() else aside.unlink(missing_ok=True)
            path.rename(aside)


def _is(path: Path, digest: str) -> bool:
    return path.exists() and content(path) == digest


def _remove_former(before: Entry | None, made: dict[str, str], folder: Path) -> None:
    """What an earlier run of the stage made and this one does not, such as controls that are asked for no more.

    What is no longer as it was made is somebody's, and stays.
    """
    for name, digest in (before.made if before else {}).items():
        path = folder / name
        if name not in made and path.is_file() and _is(path, digest) and _within(path, folder):
            path.unlink()


def _within(path: Path, folder: Path) -> bool:
    """No link leads out of the folder on the way to a file of it."""
    return path.parent.resolve().is_relative_to(folder.resolve())
