#!/usr/bin/env python3
"""Times a transformers model over its caches, and blockgtq's operators, on one GPU. Prints tables as it goes.

    bench_transformers.py --library build/libblockgtq.so.1 --binary build/blockgtq --shape 16,2048,32,8,64,8192,32000
    bench_transformers.py --library ... --model FOLDER --map map.h5

--shape: layers, hidden size, query heads, KV heads, head dimension, intermediate size, vocabulary of a Llama model with
random weights; the binary calibrates a map of it. --steps FILE: logits that tests/tools/step_logits.cpp wrote for this
model and map, to compare ours with. --only PART,...: decode, steps, graph, captured. The `graph` part needs no model.
"""

import argparse
import ctypes
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--library", required=True)
    p.add_argument("--binary")
    p.add_argument("--model")
    p.add_argument("--map")
    p.add_argument("--shape", help="L,hidden,Hq,H,D,intermediate,vocab")
    p.add_argument("--pair", default="K3V3")
    p.add_argument("--options", default="{}", help='JSON for PageFormat: {"code": "trellis"}')
    p.add_argument("--dtype", default="bfloat16")
    p.add_argument("--context", type=int, default=8192)
    p.add_argument("--tokens", type=int, default=64, help="timed steps")
    p.add_argument("--batch", type=int, default=1)
    p.add_argument("--steps", help="of step_logits")
    p.add_argument("--only", default="decode,steps,graph,captured")
    p.add_argument("--device", default="cuda")
    return p.parse_args()


a = arguments()
os.environ["BLOCKGTQ_LIBRARY"] = os.path.abspath(a.library)
os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(ROOT / "lib/python"))

import torch
import transformers

import blockgtq
from blockgtq import BlockGtqCache, DecodeGraph, ops

DTYPE = getattr(torch, a.dtype)
OPTIONS = {"pair": a.pair, **json.loads(a.options)}
ON_GPU = a.device.startswith("cuda")


def say(*words):
    print(*words, flush=True)


def sync():
    if ON_GPU:
        torch.cuda.synchronize()


def random_model(folder):
    """A Llama model with random weights as a folder, and a map of it."""
    layers, hidden, heads, kv_heads, dim, intermediate, vocab = map(int, a.shape.split(","))
    config = transformers.LlamaConfig(
        hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv_heads,
        head_dim=dim, intermediate_size=intermediate, vocab_size=vocab, max_position_embeddings=131072,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0}, tie_word_embeddings=True)
    torch.manual_seed(1)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(a.device):
        model = transformers.AutoModelForCausalLM.from_config(config)
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    del model
    ids = torch.randint(0, vocab, (1024,), generator=torch.Generator().manual_seed(2)).tolist()
    Path(folder, "ids.txt").write_text(" ".join(map(str, ids)))
    bits = ",".join(sorted({x for x in a.pair[1:].split("V")}))
    command = [a.binary, "calibrate", "-m", folder, "--ids", folder + "/ids.txt", "--tokens", "1024", "--bits", bits,
               "-o", folder + "/map.h5", "--progress", "none"]
    started = time.time()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    say(f"random weights {a.shape}, calibrated in {time.time() - started:.1f} s")
    return folder, folder + "/map.h5"


def load(folder, attention):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=DTYPE, attn_implementation=attention)
    return model.to(a.device).eval()


def tensors_in(x, seen):
    """Bytes of the tensors that an object holds."""
    if id(x) in seen:
        return 0
    seen.add(id(x))
    if isinstance(x, torch.Tensor):
        inner = [getattr(x, n) for n in ("_data", "_scale", "_shift") if isinstance(getattr(x, n, None), torch.Tensor)]
        return sum(tensors_in(t, seen) for t in inner) if inner else x.numel() * x.element_size()
    if isinstance(x, dict):
        return sum(tensors_in(v, seen) for v in x.values())
    if isinstance(x, (list, tuple)):
        return sum(tensors_in(v, seen) for v in x)
    return tensors_in(vars(x), seen) if hasattr(x, "__dict__") and not isinstance(x, type) else 0


def stepper(model, cache, graph):
    """A function of ids (B) that returns the logits of one step."""
    if graph:
        return DecodeGraph(model, cache)
    return lambda ids: model(ids[:, None], past_key_values=cache, use_cache=True).logits[:, -1]


@torch.no_grad()
def decode_rate(model, cache, graph=False):
    """(milliseconds per step, prompt seconds) behind `context` random tokens."""
    vocab = model.config.vocab_size
    ids = torch.randint(0, vocab, (a.batch, a.context), generator=torch.Generator().manual_seed(4)).to(a.device)
    sync()
    started = time.perf_counter()
    logits = model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1]
    sync()
    prompt = time.perf_counter() - started
    step = stepper(model, cache, graph)
    for i in range(a.tokens + 8):
        if i == 8:  # warm
            sync()
            started = time.perf_counter()
        logits = step(logits.argmax(-1))
    sync()
    seconds = time.perf_counter() - started
    return 1e3 * seconds / a.tokens, prompt


def caches(model, map):
    """(name, attention, a function that makes the cache, whether steps are a graph). torch's attention is timed as
    torch chooses its kernel, and without cuDNN's, which is slow where every step has another length."""
    config = model.config
    quantized = lambda backend, bits, **axes: lambda: transformers.QuantizedCache(
        backend=backend, config=config, nbits=bits, **axes)
    format = blockgtq.PageFormat(map, device=a.device, **OPTIONS)
    longest = a.context + a.tokens + 16
    make = lambda: BlockGtqCache(format, max_length=longest)
    yield f"BlockGtqCache {format.pair}", "blockgtq", make, False
    if ON_GPU:
        yield f"BlockGtqCache {format.pair}, DecodeGraph", "blockgtq", make, True
    for attention in ("sdpa, no cuDNN", "sdpa"):
        yield "DynamicCache", attention, lambda: transformers.DynamicCache(config=config), False
        yield "QuantizedCache hqq 4", attention, quantized("hqq", 4, axis_key=1, axis_value=1), False
        yield "QuantizedCache quanto 4", attention, quantized("quanto", 4), False


def part_decode(folder, map):
    say(f"\n{'cache':34} {'attention':15} {'ms/step':>8} {'tokens/s':>9} {'prompt s':>9} {'bytes/token':>12}"
        f"   (context {a.context}, batch {a.batch}, {a.dtype})")
    model = load(folder, "sdpa")
    for name, attention, make, graph in caches(model, map):
        try:
            model.set_attn_implementation(attention.split(",")[0])
            torch.backends.cuda.enable_cudnn_sdp(attention == "sdpa")
            cache = make()
            ms, prompt = decode_rate(model, cache, graph)
            held = cache.bytes() if isinstance(cache, BlockGtqCache) else tensors_in(cache.layers, set())
            per_token = held / (a.batch * (a.context + a.tokens + 8))
            say(f"{name:34} {attention:15} {ms:8.2f} {1e3 * a.batch / ms:9.1f} {prompt:9.3f} {per_token:12.0f}")
        except (ImportError, RuntimeError, ValueError) as error:
            say(f"{name:34} {attention:15} not run: {type(error).__name__}: {str(error).splitlines()[0][:110]}")
        cache = None
        gc.collect()


@torch.no_grad()
def part_steps(folder, map):
    """step_logits' file: a line of JSON (prompt, ids, vocab, its options), then (steps, vocab) float32."""
    with open(a.steps, "rb") as file:
        head = json.loads(file.readline())
        expected = torch.frombuffer(bytearray(file.read()), dtype=torch.float32).view(-1, head["vocab"])
    model = load(folder, "blockgtq")
    c = model.config
    shape = (c.num_hidden_layers, c.num_attention_heads, c.num_key_value_heads, c.head_dim)
    cache = BlockGtqCache(map, config=c, **OPTIONS) if map else BlockGtqCache(None, model=shape)
    last = lambda ids: model(torch.tensor([ids], device=a.device), past_key_values=cache, use_cache=True).logits[0, -1]
    found = [last(head["prompt"])] + [last([id]) for id in head["ids"]]
    found = torch.stack(found).float().cpu()
    worst = (found - expected).abs().max(1).values
    agree = (found.argmax(1) == expected.argmax(1)).float().mean()
    say(f"\nlogits of {len(expected)} steps against {head['device']}: largest difference {worst.max():.2e}, median of "
        f"steps {worst.median():.2e}; logits to {expected.abs().max():.1f}; same likeliest token {100 * agree:.1f} %")


@torch.no_grad()
def part_captured(folder, map):
    """Logits of the steps of one text: eager, eager again, and as a CUDA graph, which splits the context as if it had
    max_length tokens."""
    model = load(folder, "blockgtq")
    format = blockgtq.PageFormat(map, device=a.device, **OPTIONS)
    ids = torch.randint(0, model.config.vocab_size, (a.batch, a.context + 32),
                        generator=torch.Generator().manual_seed(5)).to(a.device)

    def steps(graph):
        cache = BlockGtqCache(format, max_length=a.context + 64)
        model(ids[:, : a.context], past_key_values=cache, use_cache=True, logits_to_keep=1)
        step = stepper(model, cache, graph)
        return torch.stack([step(ids[:, a.context + i]).float() for i in range(32)])

    eager, again, captured = steps(False), steps(False), steps(True)
    apart = lambda x: (x - eager).abs().max() / eager.std()
    say(f"\nlogits of 32 steps, in standard deviations: eager twice differ by at most {apart(again):.1e}, eager and "
        f"captured by {apart(captured):.1e}; same likeliest token "
        f"{100 * (captured.argmax(-1) == eager.argmax(-1)).float().mean():.1f} %")


def timed_graph(calls, repeat=50):
    """Microseconds of a CUDA graph of calls()."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        calls()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        calls()
    times = []
    for _ in range(repeat):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(1e3 * begin.elapsed_time(end))
    return statistics.median(times)


@torch.no_grad()
def part_graph(folder, map):
    """A step's attention through the operators inside a CUDA graph, beside the bare calls of the C interface."""
    f = blockgtq.PageFormat(map, device=a.device, **OPTIONS)
    n, columns = a.context, -(-a.context // 64)
    table = torch.arange(columns * a.batch, dtype=torch.int32, device=a.device).view(a.batch, columns)
    pages = [torch.zeros(columns * a.batch, layer.page_pitch, dtype=torch.uint8, device=a.device) for layer in f.layers]
    starts, lengths = (torch.full((a.batch,), x, dtype=torch.int32, device=a.device) for x in (n - 1, n))
    for layer in range(f.n_layers):
        k, v = (torch.randn(a.batch, n, f.n_kv_heads, f.head_dim, device=a.device).half() for _ in range(2))
        ops.encode(f, layer, k, v, pages[layer], table, torch.zeros_like(starts), n)
    out = {}
    for dtype in (torch.float16, torch.bfloat16):
        q, k, v = (torch.randn(a.batch, 1, h, f.head_dim, device=a.device, dtype=dtype)
                   for h in (f.n_heads, f.n_kv_heads, f.n_kv_heads))

        def operators():
            for i in range(f.n_layers):
                torch.ops.blockgtq.step(f.id, i, q, k, v, pages[i], table, starts, lengths, n)

        out[str(dtype)] = timed_graph(operators) / f.n_layers
        if dtype == torch.float16:
            out["bare"] = timed_graph(bare_calls(f, q, k, v, pages, table, starts, lengths, n)) / f.n_layers
    say(f"\nus per layer inside a CUDA graph (encode one token, attend; context {n}): bare C calls, fp16: "
        f"{out['bare']:.2f}; torch.ops, fp16: {out['torch.float16']:.2f}; bf16: {out['torch.bfloat16']:.2f}")
    started = time.perf_counter()
    for _ in range(20):
        operators()
    host = (time.perf_counter() - started) / 20 / f.n_layers
    started = time.perf_counter()
    for _ in range(20):
        for i in range(f.n_layers):
            ops.step(f, i, q, k, v, pages[i], table, starts, lengths, n)
    direct = (time.perf_counter() - started) / 20 / f.n_layers
    torch.cuda.synchronize()
    say(f"us of the processor per layer, without a graph: torch.ops {1e6 * host:.1f}, ops.step {1e6 * direct:.1f}")


def bare_calls(f, q, k, v, pages, table, starts, lengths, n):
    """The same steps by structures that are filled once."""
    from blockgtq.binding import F16, JUST_ENCODED, DecodeArgs, EncodeArgs

    out = torch.empty_like(q)
    pairs = []
    for i in range(f.n_layers):
        encode = EncodeArgs(layer=i, batch=a.batch, tokens=1)
        decode = DecodeArgs(layer=i, batch=a.batch, flags=JUST_ENCODED)
        for args in (encode, decode):
            args.pages.data, args.pages.n_pages = pages[i].data_ptr(), pages[i].shape[0]
            args.pages.block_table, args.pages.stride, args.pages.longest = table.data_ptr(), table.shape[1], n
        encode.pages.starts, decode.pages.lengths = starts.data_ptr(), lengths.data_ptr()
        decode.rule.positions = starts.data_ptr()
        for field, x in ((encode.k, k), (encode.v, v), (decode.q, q), (decode.out, out)):
            field.data, field.dtype = x.data_ptr(), F16
        for args, size in ((encode, f.library.encode_scratch), (decode, f.library.decode_scratch)):
            n_bytes = ctypes.c_int64()
            size(f.pointer, args, ctypes.byref(n_bytes))
            args.keep = torch.empty(n_bytes.value + 1, dtype=torch.uint8, device=a.device)
            args.scratch, args.scratch_bytes = args.keep.data_ptr(), n_bytes.value
        pairs.append((encode, decode))

    def calls():
        for encode, decode in pairs:
            encode.stream = decode.stream = torch.cuda.current_stream().cuda_stream
            f.library.encode(f.pointer, encode)
            f.library.decode(f.pointer, decode)
        calls.keep = out

    return calls


def main():
    device = torch.cuda.get_device_name() if ON_GPU else "CPU"
    say(f"{device}, torch {torch.__version__}, transformers {transformers.__version__}, "
        f"{blockgtq.library().version().decode()}")
    parts = a.only.split(",")
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as temporary:
        folder, map = random_model(temporary) if a.shape else (a.model, a.map)
        if "steps" in parts and a.steps:
            part_steps(folder, map)
        if "graph" in parts and ON_GPU:
            part_graph(folder, map)
        if "captured" in parts and ON_GPU:
            part_captured(folder, map)
        if "decode" in parts:
            part_decode(folder, map)


if __name__ == "__main__":
    main()
