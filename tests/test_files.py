"""Files are whole or not there, parts survive whoever made them, and one process at a time is at work."""

import errno
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from backend import files
from backend.files import Parts, append, lock, remove, whole, whole_folder
from backend.records import InputError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# --- whole files and folders ------------------------------------------------------------------------------------------


def test_a_file_has_its_name_only_when_it_is_whole(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    with whole(path) as out:
        out.write(b"new")
        assert not path.exists()
        assert len(names(path.parent)) == 1
    assert path.read_bytes() == b"new"
    assert names(path.parent) == ["a.txt"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask()


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("step", ["body", "fsync", "rename"])
def test_after_an_error_the_old_file_is_there_and_nothing_else(tmp_path, monkeypatch, step):
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")
    if step == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    if step == "rename":
        monkeypatch.setattr(Path, "rename", full)
    said = rf"{re.escape(str(path))} cannot be written \(No space left on device\): free some space and run again\."
    with pytest.raises(InputError, match=said), whole(path) as out:
        out.write(b"new") if step != "body" else full()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.txt"]


def test_what_is_no_refusal_of_the_disk_is_not_explained_away(tmp_path):
    with pytest.raises(ZeroDivisionError), whole(tmp_path / "a"):
        _ = 1 / 0
    with pytest.raises(InputError, match="mine"), whole(tmp_path / "a"):
        raise InputError("mine")
    with pytest.raises(InputError, match="cannot be written"), whole(tmp_path / "a"):
        raise RuntimeError("IO Error: Could not write file: No space left on device")  # as DuckDB says it
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_library_that_does_not_say_that_the_disk_is_full_is_not_believed(tmp_path, kind):
    """Under a real limit of size, as a disk that takes no more; without one the error is its own."""
    code = """
import resource, signal, sys
from pathlib import Path
from backend.files import whole, whole_folder
from backend.records import InputError
path, kind, most = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
try:
    with (whole if kind == "file" else whole_folder)(path):
        raise ArithmeticError("parquet: File out of specification: Invalid thrift: transport error")
except (InputError, ArithmeticError) as error:
    print(type(error).__name__, error)
"""
    said = {}
    for most in (4096, 1 << 30):
        command = [sys.executable, "-c", code, str(tmp_path / "x"), kind, str(most)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
        said[most] = done.stdout
        assert list(tmp_path.iterdir()) == []
    assert said[4096].startswith("InputError ")
    assert "x cannot be written (File too large): raise the limit" in said[4096]
    assert said[1 << 30].startswith("ArithmeticError parquet")


def test_a_folder_appears_filled_or_not_at_all(tmp_path):
    path = tmp_path / "organisms" / "mine"
    with whole_folder(path) as building:
        (building / "sub").mkdir()
        (building / "sub" / "file").write_text("x")
        assert not path.exists()
    assert (path / "sub" / "file").read_text() == "x"
    with pytest.raises(ZeroDivisionError), whole_folder(tmp_path / "organisms" / "other") as building:
        (building / "file").write_text(str(1 / 0))
    with pytest.raises(InputError, match="mine cannot be written"), whole_folder(path) as building:
        (building / "file").write_text("y")
    assert names(path.parent) == ["mine"]
    assert (path / "sub" / "file").read_text() == "x"


def child(code: str, *arguments: object) -> subprocess.Popen:
    """A process that runs the code and then waits to be killed."""
    program = "import sys, time; from pathlib import Path; from backend.files import *; path = Path(sys.argv[1])\n"
    process = subprocess.Popen(
        [sys.executable, "-c", program + code, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


def kill(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_what_a_killed_process_was_writing_is_swept_away_and_what_a_living_one_writes_is_not(tmp_path):
    wait = "    print('ready', flush=True); time.sleep(600)"
    one = child(f"with whole(path / 'a') as out:\n{wait}", tmp_path)
    two = child(f"with whole_folder(path / 'b') as out:\n{wait}", tmp_path)
    (tmp_path / ".mine.tmp").write_text("not ours")
    with whole(tmp_path / "c"):
        assert len(names(tmp_path)) == 4, "both are alive, and this one writes"
    kill(one)
    kill(two)
    with whole(tmp_path / "c"):
        pass
    assert names(tmp_path) == [".mine.tmp", "c"]


def test_many_writers_of_one_file_leave_one_of_their_files(tmp_path):
    def write(number):
        for _ in range(20):
            with whole(tmp_path / "a") as out:
                out.write(bytes([number]) * 5000)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(set((tmp_path / "a").read_bytes())) == 1
    assert names(tmp_path) == ["a"]


def test_a_folder_is_gone_from_its_name_before_anything_in_it_goes(tmp_path, monkeypatch):
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "part").write_text("x")
    monkeypatch.setattr(files.shutil, "rmtree", full)
    with pytest.raises(OSError):
        remove(folder)
    assert not folder.exists()
    monkeypatch.undo()
    with whole(tmp_path / "other"):
        pass
    assert names(tmp_path) == ["other"], "and the rest goes when something is written beside it"
    remove(folder)


# --- lines ------------------------------------------------------------------------------------------------------------


def test_lines_are_all_on_file_or_none_is(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    append(path, b"one\n")
    write, taken = os.write, []

    def short(handle, content):
        """Takes five bytes at a time, and nothing more when it has taken ten."""
        if sum(taken) >= 10:
            full()
        taken.append(write(handle, bytes(content[:5])))
        return taken[-1]

    monkeypatch.setattr(os, "write", short)
    append(path, b"two two\n")
    assert path.read_bytes() == b"one\ntwo two\n"
    with pytest.raises(InputError, match="No space left"):
        append(path, b"three three three\n")
    assert path.read_bytes() == b"one\ntwo two\n"


def test_a_torn_line_is_closed_off_first(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"one\nto")
    append(path, b"three\n")
    assert path.read_bytes() == b"one\nto\nthree\n"


# --- locks ------------------------------------------------------------------------------------------------------------


def test_a_second_process_is_refused_by_the_name_of_the_first(tmp_path):
    code = "with lock(path, 'building'):\n    print('ready', flush=True); time.sleep(600)"
    holder = child(code, tmp_path / "k")
    said = f"process {holder.pid} is building k already: wait until it ends, or stop it"
    with pytest.raises(InputError, match=said), lock(tmp_path / "k", "building k"):
        pytest.fail("two at once")
    with lock(tmp_path / "other", "building"):
        pass
    kill(holder)
    with lock(tmp_path / "k", "building"):
        assert len(names(tmp_path)) == 1
    assert names(tmp_path) == []


def test_locks_hold_between_threads_and_never_two_have_one(tmp_path):
    inside, most, entered = 0, 0, 0
    guard = threading.Lock()

    def work():
        nonlocal inside, most, entered
        for _ in range(200):
            try:
                with lock(tmp_path / "k", "working"):
                    with guard:
                        inside, entered = inside + 1, entered + 1
                        most = max(most, inside)
                    with guard:
                        inside -= 1
            except InputError:
                pass

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert most == 1
    assert entered > 0


# --- parts ------------------------------------------------------------------------------------------------------------


def write_words(out, words):
    out.write("\n".join(words).encode())


def read_words(path):
    words = path.read_text().split("\n")
    if "?" in words:
        raise InputError(f"{path} is damaged")
    return words


def parts(folder, size=3):
    return Parts(folder, write_words, read_words, str, suffix=".txt", doing="spelling", size=size)


def spell(kept, word, then=None):
    for letter in word:
        kept.add(letter)
    if then:
        raise then


def test_parts_are_there_again_and_the_next_one_never_takes_an_old_ones_name(tmp_path):
    folder = tmp_path / "w"
    with parts(folder) as kept:
        spell(kept, "abcdefg")
    assert names(folder) == ["000000.txt", "000001.txt", "000002.txt"]
    (folder / "000000.txt").unlink()  # as a kill left it that came while parts were being removed
    with parts(folder) as kept:
        assert kept.keys == set("defg")
        kept.add("a")
    with parts(folder) as kept:
        assert list(kept) == [*"defg", "a"]
        kept.forget()
    assert names(tmp_path) == []


def test_a_run_that_ends_early_keeps_every_item(tmp_path):
    with pytest.raises(KeyboardInterrupt), parts(tmp_path / "w") as kept:
        spell(kept, "abcd", KeyboardInterrupt)
    with parts(tmp_path / "w") as kept:
        assert list(kept) == list("abcd")


def test_a_damaged_part_is_said_and_made_again(tmp_path, caplog):
    with parts(tmp_path / "w") as kept:
        spell(kept, "abcdef")
    (tmp_path / "w" / "000000.txt").write_text("?")
    with parts(tmp_path / "w") as kept:
        assert kept.keys == set("def")
        spell(kept, "abc")
        assert sorted(kept) == list("abcdef")
    assert "000000.txt is damaged; it is set aside" in caplog.text


def test_a_part_that_goes_while_the_run_goes_on_is_missed(tmp_path):
    with parts(tmp_path / "w") as kept:
        spell(kept, "abcdef")
        (tmp_path / "w" / "000000.txt").unlink()
        with pytest.raises(InputError, match="3 of 6 things"):
            list(kept)


def test_an_item_of_two_parts_is_there_once(tmp_path):
    (tmp_path / "w").mkdir()
    for number in range(2):
        (tmp_path / "w" / f"00000{number}.txt").write_text("a\nb")
    with parts(tmp_path / "w") as kept:
        assert list(kept) == ["a", "b"]


def test_two_runs_never_share_parts(tmp_path):
    with (
        parts(tmp_path / "w") as kept,
        pytest.raises(InputError, match=f"process {os.getpid()} is spelling already"),
        parts(tmp_path / "w"),
    ):
        pytest.fail("two at once")
    with parts(tmp_path / "w") as kept:
        kept.forget()


def test_a_full_disk_keeps_the_parts_that_were_whole(tmp_path, monkeypatch):
    fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda handle: fsync(handle) if not (tmp_path / "w/000000.txt").exists() else full()
    )
    with pytest.raises(InputError, match=r"000001\.txt cannot be written"), parts(tmp_path / "w") as kept:
        spell(kept, "abcd")
    monkeypatch.undo()
    with parts(tmp_path / "w") as kept:
        assert kept.keys == set("abc")
