#!/usr/bin/env python3
"""Time per layer of PyTorch's fp16 attention: what `blockgtq bench attention` (one new token) and, with --chunk,
`blockgtq bench prefill` (a chunk behind an fp16 prefix) are held against.

The same conditions: caches of many layers in turn, more memory than the L2 holds, inside a CUDA graph, median of replays.
Needs PyTorch with CUDA.   bench_sdpa.py --layers 36 --heads 16 --kv-heads 2 --context 4096,131072 [--batch 1] [--json FILE]
                           bench_sdpa.py --chunk 512,2048 --context 32768

A chunk is causal within itself: the mask's lower right corner lies at the last key. Flash takes it so; cuDNN through PyTorch
knows the upper left corner only and is timed without a mask, over all keys. Rates count what each computes.
"""
import argparse
import json
import statistics

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.bias import causal_lower_right


def time_layers(backend, q, caches, repeat, mask=None):
    def run():
        for k, v in caches:
            torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=q.shape[1] != k.shape[1])

    with sdpa_kernel(backend):
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            run()
            stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=stream):
                run()
        times = []
        for i in range(repeat + 3):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            graph.replay()
            end.record()
            end.synchronize()
            if i >= 3:
                times.append(1e3 * start.elapsed_time(end) / len(caches))
    return statistics.median(times)


def time_chunk(a, prefix, chunk):
    keys = prefix + chunk
    bytes_each = 4 * a.batch * a.kv_heads * keys * a.head_dim
    layers = max(2, min(a.layers, int(20e9 // bytes_each)))
    shape = (a.batch, a.kv_heads, keys, a.head_dim)
    caches = [tuple(torch.randn(shape, dtype=torch.float16, device="cuda") for _ in "kv") for _ in range(layers)]
    q = torch.randn((a.batch, a.heads, chunk, a.head_dim), dtype=torch.float16, device="cuda")
    row = {"context": prefix, "chunk": chunk, "batch": a.batch, "layers": layers}
    each = 4 * a.batch * a.heads * a.head_dim * chunk
    peers = (("flash", SDPBackend.FLASH_ATTENTION, causal_lower_right(chunk, keys), prefix + chunk / 2),
             ("cudnn", SDPBackend.CUDNN_ATTENTION, None, keys))
    for name, backend, mask, seen in peers:
        try:
            try:
                us = time_layers(backend, q, caches, a.repeat, mask)
            except (RuntimeError, ValueError):  # no grouped heads with this mask: as many KV heads as query heads
                wide = [tuple(x.repeat_interleave(a.heads // a.kv_heads, 1) for x in cache) for cache in caches[:2]]
                us = time_layers(backend, q, wide, a.repeat, mask)
                row[name + "_heads"] = "expanded"
            row[name] = round(us, 1)
            row[name + "_TFLOPs"] = round(each * seen / us * 1e-6, 1)
        except (RuntimeError, ValueError) as error:
            row[name] = None
            row[name + "_error"] = str(error).splitlines()[0]
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("layers", 36), ("heads", 16), ("kv-heads", 2), ("head-dim", 128), ("batch", 1), ("repeat", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--context", default="4096,16384,32768,131072,262144,524288")
    parser.add_argument("--chunk", help="new tokens per sequence, 512,2048; without it one")
    parser.add_argument("--json")
    a = parser.parse_args()
    rows = []
    for context, chunk in ((c, t) for c in map(int, a.context.split(",")) for t in map(int, (a.chunk or "0").split(","))):
        if chunk:
            rows.append(time_chunk(a, context, chunk))
            print(rows[-1], flush=True)
            torch.cuda.empty_cache()
            continue
        bytes_each = 4 * a.batch * a.kv_heads * context * a.head_dim
        layers = max(2, min(a.layers, int(40e9 // bytes_each)))
        layers = max(layers, -(-(256 << 20) // bytes_each))
        shape = (a.batch, a.kv_heads, context, a.head_dim)
        caches = [tuple(torch.randn(shape, dtype=torch.float16, device="cuda") for _ in "kv") for _ in range(layers)]
        q = torch.randn((a.batch, a.heads, 1, a.head_dim), dtype=torch.float16, device="cuda")
        row = {"context": context, "batch": a.batch, "layers": layers}
        for name, backend in (("flash", SDPBackend.FLASH_ATTENTION), ("cudnn", SDPBackend.CUDNN_ATTENTION)):
            try:
                row[name] = round(time_layers(backend, q, caches, a.repeat), 2)
            except RuntimeError as error:
                row[name] = None
                row[name + "_error"] = str(error).splitlines()[0]
        best = min(x for x in (row["flash"], row["cudnn"]) if x)
        row["read_GBps"] = round(bytes_each / best * 1e-3)
        print(row, flush=True)
        rows.append(row)
        del caches
        torch.cuda.empty_cache()
    if a.json:
        with open(a.json, "w") as file:
            json.dump({"device": torch.cuda.get_device_name(), "torch": torch.__version__, "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
