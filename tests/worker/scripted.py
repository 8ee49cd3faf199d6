"""An engine without a model: it says a few words to every request, so that what is around an engine can be tested."""

import threading
import time
from types import SimpleNamespace

from backend.edits import Receipt
from backend.worker.protocol import Done, End, Failed, Health, Start, Token

WORDS = ("Hel", "lo", " wor", "ld")


class ScriptedEngine:
    """What the service asks of an engine. `pause` is in seconds, before every word."""

    def __init__(self, pause=0.0, words=WORDS):
        self.subject = SimpleNamespace(name="tiny", organisms={"o": None, "p": None}, d_model=4)
        self.pause, self.words = pause, words
        self.users, self.cancelled = [], set()
        self._threads = []

    @property
    def busy(self):
        return any(thread.is_alive() for thread in self._threads)

    def health(self):
        return Health("ready", "tiny", 6, 4, 64, active=int(self.busy), rows=4)

    def submit(self, asked, deliver, id, user=""):
        self.users.append(user)
        deliver([Start(id, ("a", "b"), tuple(arm.name for arm in asked.arms))])
        thread = threading.Thread(target=self._write, args=(asked, deliver, id), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _write(self, asked, deliver, id):
        written = 0
        for i, word in enumerate(self.words):
            time.sleep(self.pause)
            if id in self.cancelled:
                break
            written += len(asked.arms)
            deliver([Token(arm, i, word) for arm in range(len(asked.arms))])
        reason = "cancelled" if id in self.cancelled else "stop"
        for i, arm in enumerate(asked.arms):
            receipts = [Receipt(edit.row.kind, edit.row.about, (1,), 2, 3, 5, 1.0, 10.0) for edit in arm.edits]
            deliver([End(i, reason, tuple(receipts) if asked.receipts else ())])
        deliver([Done(0.1, written)])

    def cancel(self, id):
        known = self.busy
        self.cancelled.add(id)
        return known

    def ahead(self, id):
        return 0

    def progress(self, id):
        return 128, 512

    def close(self, timeout=0.5):
        self.words = ()


class FailingEngine(ScriptedEngine):
    """It fails after its words."""

    def _write(self, asked, deliver, id):
        for i, word in enumerate(self.words):
            deliver([Token(0, i, word)])
        deliver([Failed("out of memory")])
