"""The first steered token with this project's core: vector file, prompt ids. Prints when it got how far."""

import time

BEGAN = time.perf_counter()

import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402

import numpy as np  # noqa: E402

from backend.edits import Add  # noqa: E402
from backend.records import Direction, Sampling  # noqa: E402
from backend.subject.decode import Request, stream  # noqa: E402
from backend.subject.load import EMBEDDED, load  # noqa: E402

imported = time.perf_counter()
subject = load(EMBEDDED, device="cpu")
loaded = time.perf_counter()
edits = (Add(Direction("direction", 16, np.load(sys.argv[1])), 1.0),)
prompt = tuple(int(token) for token in sys.argv[2].split(","))
emission = next(iter(stream(subject, [Request("row", prompt, edits, Sampling(0.0, 1.0, 1))])))[0]
done = time.perf_counter()
print(json.dumps({"imported": imported - BEGAN, "loaded": loaded - BEGAN, "first token": done - BEGAN}), flush=True)
os._exit(0)  # the token is there: taking the interpreter down is not waited for
