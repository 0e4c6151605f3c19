#!/usr/bin/env python3
"""Time per layer of PyTorch's fp16 attention for one new token: what `blockgtq bench attention` is held against.

The same conditions: caches of many layers in turn, more memory than the L2 holds, inside a CUDA graph, median of replays.
Needs PyTorch with CUDA.   bench_sdpa.py --layers 36 --heads 16 --kv-heads 2 --context 4096,131072 [--batch 1] [--json FILE]
"""
import argparse
import json
import statistics

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


def time_layers(backend, q, caches, repeat):
    def run():
        for k, v in caches:
            torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)

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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("layers", 36), ("heads", 16), ("kv-heads", 2), ("head-dim", 128), ("batch", 1), ("repeat", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--context", default="4096,16384,32768,131072,262144,524288")
    parser.add_argument("--json")
    a = parser.parse_args()
    rows = []
    for context in map(int, a.context.split(",")):
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
