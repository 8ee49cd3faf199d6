"""The command line: python -m backend COMMAND. Every command says what it does with --help."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from backend.commands import (
    answers,
    app,
    build,
    dictionary,
    directions,
    downstream,
    extract,
    figures,
    figures_of,
    import_figures,
    import_published,
    judge,
    labels,
    neutral,
    recipe,
    report,
    run,
    sample,
    studies,
    sweep,
    train,
)
from backend.commands.failure import told_in_a_line
from backend.records import InputError

COMMANDS = (
    train,
    sample,
    judge,
    labels,
    build,
    import_published,
    answers,
    figures,
    report,
    figures_of,
    import_figures,
    extract,
    directions,
    downstream,
    neutral,
    dictionary,
    sweep,
    studies,
    recipe,
    run,
    app,
)


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and with --help what is usual."""

    def __init__(self, **settings: object) -> None:
        super().__init__(**{"formatter_class": Usual, **settings})  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Raises InputError."""
        raise InputError(f"{message} ({self.prog} --help says what there is)")


class Usual(argparse.HelpFormatter):
    """Help that ends with the default, where there is one to speak of."""

    def _get_help_string(self, action: argparse.Action) -> str:
        usual = action.default
        if usual is None or usual is False or usual in (argparse.SUPPRESS, [], ()):
            return action.help or ""
        said = ",".join(usual) if isinstance(usual, tuple) else f"{usual:g}" if isinstance(usual, float) else usual
        return f"{action.help or ''} (default: {said})".replace("%", "%%")


def parser() -> Parser:
    """The whole command line."""
    whole = Parser(prog="python -m backend", description="The workbench for emergent misalignment.")
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns what it does, 0 if nothing; 2 where the input cannot be used, 1 where it failed.

    The reason is printed in one line, without a traceback.
    """
    options = argparse.Namespace()
    try:
        options = parser().parse_args(arguments)
        return int(options.run(options) or 0)
    except InputError as error:
        return _say(str(error), 2)
    except KeyboardInterrupt:
        kept = getattr(options, "keeps", None)
        print("\nstopped" + (f"; {kept}" if kept else ""), file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        return _say(told_in_a_line(error), 1)


def _say(why: str, code: int) -> int:
    print(f"error: {' '.join(why.splitlines())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
