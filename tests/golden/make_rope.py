#!/usr/bin/env python3
"""Makes rope.json: the inverse frequencies that transformers computes in float32, in the setup of its own tests
(tests/utils/test_modeling_rope_utils.py): head dimension 128, base 10000, 2048 positions.

  make_rope.py > rope.json      (transformers 5.24.0, torch 2.15.0, CPU)
"""
import json

from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

N_POSITIONS, LENGTH = 2048, 16384  # of training; of the text, which only "dynamic" looks at
CASES = {
    "default": dict(),
    "linear": dict(factor=10.0),
    "dynamic": dict(factor=10.0),
    "llama3": dict(factor=10.0, original_max_position_embeddings=N_POSITIONS, low_freq_factor=1, high_freq_factor=4),
    "yarn": dict(factor=10.0, original_max_position_embeddings=N_POSITIONS, beta_fast=32, beta_slow=1),
}


def frequencies(rope_type, options):
    config = LlamaConfig(hidden_size=128, num_attention_heads=1, head_dim=128, max_position_embeddings=N_POSITIONS,
                         rope_parameters=dict(rope_type=rope_type, rope_theta=10000.0, **options))
    function = {"default": LlamaRotaryEmbedding.compute_default_rope_parameters, **ROPE_INIT_FUNCTIONS}[rope_type]
    inv_freq, factor = function(config, seq_len=LENGTH)
    return {"attention_factor": factor, "inv_freq": [float(f"{x:.9g}") for x in inv_freq.tolist()]}


def main():
    parts = (f' "{name}": {json.dumps(frequencies(name, options))}' for name, options in CASES.items())
    print("{\n" + ",\n".join(parts) + "\n}")


if __name__ == "__main__":
    main()
