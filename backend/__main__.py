"""The command line: python -m backend COMMAND. Every command says what it does with --help."""

from __future__ import annotations

import argparse
import sys

from backend.commands.studies import add_commands
from backend.records import InputError


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns 0, or 2 when the input cannot be used (the reason is printed, without a traceback)."""
    parser = argparse.ArgumentParser(prog="python -m backend", description="The workbench for emergent misalignment.")
    add_commands(parser.add_subparsers(dest="command", required=True, metavar="COMMAND"))
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options) or 0)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; what was finished is kept", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
