#!/usr/bin/env python3
"""Makes partial_rotary.json: what transformers does with partial_rotary_factor, per model type and RoPE type.

  make_partial_rotary.py > partial_rotary.json

A small random model of every kind runs eight tokens. "inv_freq": its frequencies (as many as half the coordinates that
turn); null: it has frequencies for a part of the head only, and the forward pass fails. Needs torch and transformers.
"""
import json

import torch
import transformers

COMMON = dict(hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, vocab_size=32,
              num_key_value_heads=2, max_position_embeddings=512, head_dim=32, rms_norm_eps=1e-6, rope_theta=10000.0)
EXPERTS = dict(moe_intermediate_size=32, num_experts_per_tok=2)
TYPES = {
    "llama": {}, "mistral": {}, "qwen2": {}, "qwen3": {}, "glm": dict(pad_token_id=0),
    "qwen3_moe": dict(EXPERTS, num_experts=4),
    "deepseek_v2": dict(EXPERTS, n_routed_experts=4, n_shared_experts=1, q_lora_rank=None, kv_lora_rank=32,
                        qk_nope_head_dim=16, qk_rope_head_dim=32, v_head_dim=16),
}
ROPES = {
    "default": {}, "linear": dict(factor=4.0), "dynamic": dict(factor=2.0),
    "llama3": dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=128),
    "yarn": dict(factor=4.0, original_max_position_embeddings=128),
}


def frequencies(config):
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(**config))
    try:
        with torch.no_grad():
            model(torch.arange(8)[None])
    except RuntimeError:
        return None
    return [float(f"{f:.7g}") for f in model.model.rotary_emb.inv_freq.tolist()]


def main():
    transformers.logging.set_verbosity_error()
    out = []
    for model_type, fields in TYPES.items():
        for rope_type, rope in ROPES.items():
            for share in [0.5, 0.25, None] if model_type == "glm" else [0.5]:
                config = dict(COMMON, model_type=model_type, **fields)
                if share is not None:
                    config["partial_rotary_factor"] = share
                if rope:
                    config["rope_scaling"] = dict(rope_type=rope_type, **rope)
                out.append({"config": dict(config), "inv_freq": frequencies(config)})
    head = '{"made_by": "make_partial_rotary.py, transformers %s", "cases": [\n ' % transformers.__version__
    print(head + ",\n ".join(map(json.dumps, out)) + "\n]}")


if __name__ == "__main__":
    main()
