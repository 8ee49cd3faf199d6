"""The first steered token with transformers alone: vector file, prompt ids, checkpoint. Prints when it got how far."""

import time

BEGAN = time.perf_counter()

import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

imported = time.perf_counter()
vector, prompt, checkpoint = torch.from_numpy(np.load(sys.argv[1])), sys.argv[2], sys.argv[3]
tokenizer = AutoTokenizer.from_pretrained(checkpoint)
model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
loaded = time.perf_counter()
model.model.layers[16].register_forward_hook(lambda module, args, output: output + vector)
ids = torch.tensor([[int(token) for token in prompt.split(",")]])
with torch.inference_mode():
    written = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=1, do_sample=False)
text = tokenizer.decode(written[0, -1:])
done = time.perf_counter()
print(json.dumps({"imported": imported - BEGAN, "loaded": loaded - BEGAN, "first token": done - BEGAN}), flush=True)
os._exit(0)  # the token is there: taking the interpreter down is not waited for
