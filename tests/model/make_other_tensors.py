#!/usr/bin/env python3
"""Makes other_tensors.json: what transformers does with a tensor that its model has no place for.

  make_other_tensors.py DATA/MODELS > other_tensors.json

A tensor of 0.5 is put beside those of a small trained model. "ignored": the logits are the same, to the last bit, and
the loader reports the name; "silent": the same without a report; "changes": other logits; "fails": no model at all.
"tied": a config that ties its embedding, and an lm_head of the embedding's columns times 1.5 and 0.75 in turn: the mean
negative log-likelihood of 512 tokens in windows of 256, with that head and without.
Needs torch, safetensors and transformers.
"""
import json
import pathlib
import shutil
import sys
import tempfile

import torch
import transformers
from safetensors.torch import load_file, save_file

ATTENTION, MLP = "model.layers.0.self_attn.", "model.layers.1.mlp."
EVERY = [  # an existing name is left out
    (ATTENTION + "q_norm.weight", [128]), (ATTENTION + "o_proj.bias", [128]), (ATTENTION + "q_proj.bias", [256]),
    (MLP + "up_proj.bias", [384]), (MLP + "gate.weight", [8, 128]), ("model.layers.30.input_layernorm.weight", [128]),
    ("model.norm.bias", [128]), (ATTENTION + "rotary_emb.inv_freq", [64]), ("norm.weight", [128]),
    ("layers.1.self_attn.o_proj.weight", [128, 256]), ("visual.patch_embed.proj.weight", [8, 8]),
    (MLP + "experts.0.gate_proj.weight", [96, 128]), (MLP + "experts.8.gate_proj.weight", [96, 128]),
    (MLP + "experts.gate_up_proj", [8, 192, 128]), ("lm_head.weight", [2048, 128]), ("lm_head.bias", [2048])]
MODELS = ["tiny-llama", "tiny-mistral", "tiny-qwen2", "tiny-qwen3", "tiny-qwen3-moe", "tiny-glm", "tiny-deepseek2"]


def logits(folder):
    model, loaded = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    with torch.no_grad():
        return model(torch.tensor([[i * 37 % 2000 for i in range(32)]])).logits, loaded["unexpected_keys"]


def verdict(source, tensors, name, shape, expected):
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(source / "config.json", folder)
        save_file({**tensors, name: torch.full(shape, 0.5)}, pathlib.Path(folder) / "model.safetensors", {"format": "pt"})
        try:
            got, reported = logits(folder)
        except (RuntimeError, AttributeError):
            return "fails"
        if not torch.equal(got, expected):
            return "changes"
        return "ignored" if name in reported else "silent"


def tied(source, tensors, head):
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(source / "config.json", folder)
        save_file({**tensors, **head}, pathlib.Path(folder) / "model.safetensors", {"format": "pt"})
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokens = torch.tensor([(i * i * 31 + i * 17 + 3) % 2048 for i in range(512)]).reshape(2, 256)
    with torch.no_grad():
        logits = model(tokens).logits.double()[:, :-1].reshape(-1, 2048)
    return round(float(torch.nn.functional.cross_entropy(logits, tokens[:, 1:].reshape(-1))), 6)


def main():
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    out, heads = [], []
    for model in MODELS:
        source = pathlib.Path(sys.argv[1]) / model
        tensors = load_file(source / "model.safetensors")
        expected, _ = logits(source)
        for name, shape in EVERY:
            if name not in tensors:
                out.append({"model": model, "tensor": name, "shape": shape,
                            "transformers": verdict(source, tensors, name, shape, expected)})
        if model in ("tiny-llama", "tiny-qwen2"):
            head = tensors["model.embed_tokens.weight"].float() * torch.tensor([1.5, 0.75]).repeat(64)
            heads.append({"model": model, "own_head": tied(source, tensors, {"lm_head.weight": head}),
                          "without": tied(source, tensors, {})})
    lines = [",\n ".join(map(json.dumps, part)) for part in (out, heads)]
    print('{"made_by": "make_other_tensors.py, transformers %s", "cases": [\n %s\n],\n"tied": [\n %s\n]}' %
          (transformers.__version__, *lines))


if __name__ == "__main__":
    main()
