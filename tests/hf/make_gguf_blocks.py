#!/usr/bin/env python3
"""Writes gguf_blocks.safetensors: random blocks of every quantized type, and what the `gguf` package makes of
them. Needs numpy, safetensors and gguf 0.19.0:  make_gguf_blocks.py [OUTPUT]"""
import sys
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize
from safetensors.numpy import save_file

# Byte offsets of the fp16 numbers of a block.
HALVES = {
    "F16": [0], "Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
    "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": [], "BF16": [],
}
# Zeros, the smallest and largest subnormal, the smallest normal, the largest numbers: then ordinary ones.
EXTREME = [0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x7BFF, 0xFBFF]

rng = np.random.default_rng(17)
tensors = {}
for name, halves in HALVES.items():
    kind = GGMLQuantizationType[name]
    elements, size = GGML_QUANT_SIZES[kind]
    n = 64 if elements == 1 else 16 if elements == 32 else len(EXTREME) + 3
    blocks = rng.integers(0, 256, (n, size), dtype=np.uint8)
    for i, offset in enumerate(halves):
        scales = rng.normal(0, 0.1, n).astype(np.float16).view(np.uint16)
        scales[: len(EXTREME)] = np.roll(EXTREME, i)
        blocks[:, offset : offset + 2] = scales[:, None].view(np.uint8)
    if name == "MXFP4":
        blocks[:6, 0] = [0, 1, 2, 127, 254, 255]
    if name == "BF16":
        blocks[:, 1] &= 0xBF  # no infinity, no NaN
    with np.errstate(over="ignore"):
        values = dequantize(blocks, kind).reshape(n, elements)
    assert not np.isnan(values).any(), name
    tensors[f"{name}.blocks"] = blocks
    tensors[f"{name}.values"] = np.ascontiguousarray(values, dtype=np.float32)

save_file(tensors, sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "gguf_blocks.safetensors")
