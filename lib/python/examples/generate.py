#!/usr/bin/env python3
"""Continues a text with a transformers model, whose keys and values lie in packed pages.

    generate.py MODEL map.h5 "The capital of France is" [--pair K3V3] [--tokens 50] [--device cuda]
"""

import argparse

import torch
from blockgtq import BlockGtqCache
from transformers import AutoModelForCausalLM, AutoTokenizer

p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument("model")
p.add_argument("map")
p.add_argument("prompt")
p.add_argument("--pair", help="bits of keys and values; the map's first budget where it is not given")
p.add_argument("--tokens", type=int, default=50)
p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
a = p.parse_args()

dtype = torch.float32 if a.device == "cpu" else torch.bfloat16
model = AutoModelForCausalLM.from_pretrained(a.model, dtype=dtype, attn_implementation="blockgtq").to(a.device).eval()
tokenizer = AutoTokenizer.from_pretrained(a.model)
inputs = tokenizer(a.prompt, return_tensors="pt", add_special_tokens=False).to(a.device)
cache = BlockGtqCache(a.map, pair=a.pair, config=model.config)
out = model.generate(**inputs, past_key_values=cache, do_sample=False, max_new_tokens=a.tokens)
print(tokenizer.decode(out[0, inputs.input_ids.shape[1]:], skip_special_tokens=True))
n = cache.get_seq_length()
print(f"{n} tokens in {cache.bytes():,} bytes of pages, {cache.format.bytes_per_token:.0f} per token when they are full")
