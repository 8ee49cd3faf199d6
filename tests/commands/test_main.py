"""How a command ends: one line of why, the exit code, and what it may claim to have kept."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from backend.__main__ import COMMANDS, main, parser
from backend.commands import directions, failure


@pytest.fixture
def failing(tmp_path, monkeypatch):
    """Lets the command `directions list` end with an exception; gives the folder of logs."""
    monkeypatch.setattr(failure, "LOGS", tmp_path / "logs")

    def end_with(error):
        def fail(options):
            raise error

        monkeypatch.setattr(directions, "run", fail)
        return main(["directions", "list", "--folder", "anywhere"])

    return end_with


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ZeroDivisionError("by zero"), "this should not have happened (ZeroDivisionError: by zero)"),
        (KeyError("two\nlines"), "KeyError"),
        (MemoryError(), "not enough memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "not enough memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (RuntimeError("IO Error: could not write: No space left on device"), "the disk is full"),
    ],
)
def test_what_nobody_foresaw_is_one_line_and_a_log_with_the_rest(failing, tmp_path, capsys, error, words):
    assert failing(error) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert words in said
    assert said.count("\n") == 1
    [log] = (tmp_path / "logs").iterdir()
    assert str(log) in said
    assert "Traceback (most recent call last)" in log.read_text()


def test_where_no_log_can_be_written_it_goes_elsewhere_or_nowhere(failing, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(failure, "LOGS", tmp_path / "file" / "logs")
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert failing(ZeroDivisionError()) == 1
    [log] = tmp_path.glob("*.log")
    assert str(log) in capsys.readouterr().err
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    assert failing(ZeroDivisionError()) == 1
    assert "no log of it could be written" in capsys.readouterr().err


def test_who_stops_a_command_is_told_that_something_is_kept_only_where_it_is(failing, capsys, monkeypatch):
    assert failing(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "\nstopped\n"

    def stop(options):
        raise KeyboardInterrupt

    monkeypatch.setattr("backend.commands.build.run", stop)
    assert main(["build", "--folder", "x", "--name", "x"]) == 130
    assert capsys.readouterr().err == "\nstopped; what was traced is kept: the same command goes on from there\n"


def test_help_says_every_option_and_its_default(capsys):
    with pytest.raises(SystemExit):
        main(["sweep", "steer", "--help"])
    printed = capsys.readouterr().out
    assert "(default: 4%,8%,12%,18%)" in " ".join(printed.split())
    for command in COMMANDS:
        name = command.__name__.rpartition(".")[2].replace("_", "-")
        with pytest.raises(SystemExit):
            parser().parse_args([name, "--help"])
        assert "None)" not in capsys.readouterr().out


def test_output_that_nobody_reads_to_its_end_is_no_fault(tmp_path):
    code = (
        "import sys; from backend.__main__ import main; from backend.commands import directions\n"
        "directions.run = lambda options: [print('x' * 1000) for _ in range(1000)] and None\n"
        "sys.exit(main(['directions', 'list', '--folder', 'x']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    process.stdout.read(10)
    process.stdout.close()
    assert process.wait(30) == 1
    assert process.stderr.read() == b""
    process.stderr.close()
