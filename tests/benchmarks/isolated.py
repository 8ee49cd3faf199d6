"""Extra peak memory of one way of reading, in this process alone: `isolated memory KIND TEXTS LENGTH`, JSON out."""

from __future__ import annotations

import gc
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import torch

from backend.subject.trace import Text, trace
from tests.benchmarks import peers
from tests.benchmarks.measure import Clock
from tests.benchmarks.setting import ORGANISM, Setting

_RESET = Path("/proc/self/clear_refs")


def reading(kind: str, setting: Setting) -> Callable[[list[Text]], None]:
    """How this kind reads texts; models are loaded here."""
    setting.subject  # noqa: B018  everybody needs its adapters and texts: it counts as loaded
    if kind == "ours":

        def ours(texts: list[Text]) -> None:
            for _ in trace(setting.subject, texts, ORGANISM):
                pass

        return ours
    if kind == "bare":
        model = setting.plain

        def bare(texts: list[Text]) -> None:
            for batch in peers.batches(texts, len(texts)):
                model(**batch.inputs)

        return bare
    read = peers.transformer_lens(setting, full=True) if kind == "full cache" else peers.READERS[kind](setting)

    def peer(texts: list[Text]) -> None:
        for batch in peers.batches(texts, len(texts)):
            read(batch)

    return peer


def extra_peak(run: Callable[[], None]) -> int:
    """Peak resident bytes during `run` less those before it."""
    process = psutil.Process()
    gc.collect()
    before = process.memory_info().rss
    if _RESET.exists():
        _RESET.write_text("5")  # the kernel's own high-water mark begins anew
        run()
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 - before
    peak, done = [before], threading.Event()

    def watch() -> None:
        while not done.is_set():
            peak[0] = max(peak[0], process.memory_info().rss)
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    run()
    done.set()
    watcher.join()
    return peak[0] - before


def main(kind: str, n: int, length: int) -> None:
    """Print what reading `n` texts took."""
    setting = Setting(Clock(1, 1, 0, 0), quick=False)
    torch.set_num_threads(setting.threads)
    with torch.inference_mode():
        read = reading(kind, setting)
        texts = setting.equal(n, length)
        read(setting.equal(2, 16))
        print(json.dumps({"extra": extra_peak(lambda: read(texts))}))


if __name__ == "__main__":
    main(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
