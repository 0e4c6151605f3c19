#!/usr/bin/env python3
"""Makes forward.json, what transformers computes in a few numbers per tensor.

  make_forward.py --data DATA --make-checkpoint BINARY < forward.json > new.json

"trained": seven models of data/models on the tokens that the old file has (the start of WikiText-2's test part): logits, and
Q and K of the first 64 tokens. "random": small random checkpoints that make_checkpoint writes (the test writes the same
bytes): the config's corners that the trained models do not have. Both are run by transformers in float32. Every tensor is
given as its Frobenius norm and values at evenly spaced flat indices. (transformers 5.24.0, torch 2.15.0, CPU)

The numbers of "trained" in the tree are an independent implementation's; over whole tensors transformers' differ from it
by at most 1e-6 of the norm.
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy as np
import torch
import transformers

COMMON = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, vocab_size=160,
              max_position_embeddings=512, hidden_act="silu", rms_norm_eps=1e-6, tie_word_embeddings=False)
DEEPSEEK = dict(COMMON, model_type="deepseek_v2", num_key_value_heads=4, kv_lora_rank=32, qk_nope_head_dim=24,
                qk_rope_head_dim=16, v_head_dim=20, head_dim=16, moe_intermediate_size=40, n_routed_experts=8,
                num_experts_per_tok=3, norm_topk_prob=False, first_k_dense_replace=1)
RANDOM = {
    "llama, biases, linear": dict(COMMON, model_type="llama", num_key_value_heads=2, attention_bias=True, mlp_bias=True,
                                  rope_theta=10000.0, rope_scaling=dict(type="linear", factor=4.0)),
    "llama, dynamic beyond its length": dict(COMMON, model_type="llama", num_key_value_heads=4, rope_theta=10000.0,
                                             max_position_embeddings=32,
                                             rope_scaling=dict(type="dynamic", factor=2.0)),
    "mistral, window": dict(COMMON, model_type="mistral", num_key_value_heads=1, head_dim=24, sliding_window=48,
                            rope_theta=1e6),
    "qwen2, yarn": dict(COMMON, model_type="qwen2", num_key_value_heads=2, rope_theta=1e6, tie_word_embeddings=True,
                        rope_scaling=dict(type="yarn", factor=4.0, original_max_position_embeddings=128)),
    "qwen3, wide heads": dict(COMMON, model_type="qwen3", num_key_value_heads=2, head_dim=32, attention_bias=True,
                              rope_theta=1e6),
    "qwen3_moe, some layers dense": dict(COMMON, model_type="qwen3_moe", num_key_value_heads=2, head_dim=16,
                                         num_hidden_layers=4, moe_intermediate_size=40, num_experts=8,
                                         num_experts_per_tok=3, norm_topk_prob=False, decoder_sparse_step=2,
                                         mlp_only_layers=[3], rope_theta=1e6),
    "glm, untied, no bias": dict(COMMON, model_type="glm", num_key_value_heads=2, head_dim=24, attention_bias=False,
                                 partial_rotary_factor=0.5, rope_theta=10000.0, pad_token_id=0),
    "deepseek_v2, low-rank queries, groups, yarn": dict(
        DEEPSEEK, q_lora_rank=48, attention_bias=True, n_shared_experts=2, routed_scaling_factor=1.5,
        topk_method="group_limited_greedy", n_group=4, topk_group=2, rope_theta=10000.0,
        rope_scaling=dict(type="yarn", factor=8.0, mscale=1.0, mscale_all_dim=0.7, beta_fast=32, beta_slow=1,
                          original_max_position_embeddings=64)),
    "deepseek_v2, plain": dict(DEEPSEEK, q_lora_rank=None, n_shared_experts=1, routed_scaling_factor=1.0,
                               topk_method="greedy", n_group=1, topk_group=1, rope_theta=10000.0),
}
SEED, SCALE, SHARD_BYTES = 7, 0.12, 60000
N_RANDOM, N_SHOWN = 48, 64  # tokens; those whose Q and K are kept


def digest(x, n_samples=16):
    x = np.asarray(x, dtype=np.float64).reshape(-1)
    at = [int(i) for i in np.linspace(0, x.size - 1, n_samples)]
    return {"size": x.size, "norm": float(f"{np.linalg.norm(x):.9g}"), "at": at,
            "value": [float(f"{x[i]:.8g}") for i in at]}


def first(x, n_tokens):
    return x.reshape(n_tokens, -1)[:N_SHOWN]


def run(folder, config, tokens):
    """Of every layer Q and K of the first tokens as attention has them before RoPE, and all logits."""
    model, loaded = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    assert not loaded["missing_keys"] and not loaded["mismatched_keys"], (folder, loaded)
    model.set_experts_implementation("eager") if hasattr(model, "set_experts_implementation") else None
    seen = {}
    for module_name, module in model.named_modules():
        module.register_forward_hook(lambda m, a, out, key=module_name: seen.__setitem__(key, out))
    with torch.no_grad():
        logits = model(torch.tensor([tokens]), use_cache=False).logits[0].numpy()
    layers = []
    for i in range(config["num_hidden_layers"]):
        at = f"model.layers.{i}.self_attn."
        if config["model_type"] == "deepseek_v2":
            nope, rope, heads = config["qk_nope_head_dim"], config["qk_rope_head_dim"], config["num_attention_heads"]
            q = seen[at + ("q_b_proj" if config["q_lora_rank"] else "q_proj")]
            q = q.reshape(len(tokens), heads, nope + rope)[..., nope:]
            k = seen[at + "kv_a_proj_with_mqa"][0, :, config["kv_lora_rank"]:]
        else:
            q = seen.get(at + "q_norm", seen[at + "q_proj"])
            k = seen.get(at + "k_norm", seen[at + "k_proj"])
        layers.append({"q": digest(first(q, len(tokens))), "k": digest(first(k, len(tokens)))})
    return {"layers": layers, "logits": digest(logits, 64)}


def trained(data, name, tokens):
    folder = data / "models" / name
    return {"model": name, "tokens": tokens, **run(folder, json.loads((folder / "config.json").read_text()), tokens)}


def random(make_checkpoint, name, config):
    tokens = [(i * i * 31 + i * 17 + 3) % config["vocab_size"] for i in range(N_RANDOM)]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        (path / "in.json").write_text(json.dumps(config))
        subprocess.run([make_checkpoint, "--config", path / "in.json", "--out", path / "m", "--seed", str(SEED), "--scale",
                        str(SCALE), "--shard-bytes", str(SHARD_BYTES)], check=True, stdout=subprocess.DEVNULL)
        return {"name": name, "config": config, "seed": SEED, "scale": SCALE, "shard_bytes": SHARD_BYTES, "tokens": tokens,
                **run(path / "m", config, tokens)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--make-checkpoint", type=pathlib.Path, required=True)
    args = parser.parse_args()
    out = {"made_by": "make_forward.py",
           "trained": [trained(args.data, one["model"], one["tokens"]) for one in json.load(sys.stdin)["trained"]],
           "random": [random(args.make_checkpoint.resolve(), name, config) for name, config in RANDOM.items()]}
    text = json.dumps(out, indent=1)
    # Lists of numbers on one line each.
    print(re.sub(r"\[[-\d\s.,e+]+\]", lambda m: re.sub(r"\s+", " ", m.group()), text))


if __name__ == "__main__":
    main()
