#!/usr/bin/env python3
"""Writes quantized_weights.safetensors: FP8 and MXFP4 tensors as folders hold them, and their numbers ("X" in
"values.X") as transformers 5.24 dequantizes them, to float32. Needs torch, safetensors and transformers:
make_quantized_weights.py [OUTPUT]"""
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers.integrations.finegrained_fp8 import Fp8Dequantize
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

BLOCK = 16
torch.manual_seed(17)


def fp8(*shape):
    codes = torch.randint(0, 256, shape, dtype=torch.uint8)
    codes[(codes & 0x7F) == 0x7F] = 0x7E  # no NaN
    return codes.view(torch.float8_e4m3fn)


def dequantized(weight, scales):
    return Fp8Dequantize(None)._dequantize_one(weight, scales.float(), torch.float32)


tensors = {}


def add(name, weight, scales, values):
    tensors[name], tensors[name + "_scale_inv"], tensors["values." + name] = weight, scales, values


# Every code once.
codes = torch.arange(256, dtype=torch.uint8)
codes[(codes & 0x7F) == 0x7F] = 0
weight, scales = codes.reshape(16, 16).view(torch.float8_e4m3fn), torch.ones(1, 1)
add("codes.weight", weight, scales, dequantized(weight, scales))

weight, scales = fp8(32, 48), torch.randn(2, 3)
add("block.weight", weight, scales, dequantized(weight, scales))

weight, scales = fp8(3, 32, 16), torch.randn(3, 2, 1).bfloat16()  # of three matrices
add("experts.gate_up_proj", weight, scales, dequantized(weight, scales))

# The last blocks of 35 rows and of 25 columns are cut off. transformers 5.24 takes blocks of rows / scales there, which
# is another number or an error; its GPU kernels, and DeepSeek's, take whole blocks, as here.
weight, scales = fp8(35, 25), torch.randn(3, 2)
spread = scales.repeat_interleave(BLOCK, 0)[:35].repeat_interleave(BLOCK, 1)[:, :25]
add("ragged.weight", weight, scales, weight.float() * spread)

# gpt-oss: matrices transposed. Exponents from the least (a subnormal number) to where 4 and 6 overflow.
blocks = torch.randint(0, 256, (2, 6, 3, 16), dtype=torch.uint8)
scales = torch.randint(110, 140, (2, 6, 3), dtype=torch.uint8)
scales[0, 0] = torch.tensor([0, 1, 254])
tensors["gate_up_proj_blocks"], tensors["gate_up_proj_scales"] = blocks, scales
tensors["values.gate_up_proj"] = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)

save_file(tensors, sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "quantized_weights.safetensors")
