#!/usr/bin/env python3
"""Makes families/: one tiny random checkpoint per model family, as transformers writes it, and what transformers computes.

  make_families.py OUT [NAME ...]

OUT/<name>/config.json, model.safetensors (float16) and golden.safetensors (float32): "logits" of N_LONG tokens,
"logits_short" of N_SHORT (within every sliding window), and of the long run "q.L", "k.L", "v.L" of every layer L as
attention has them before RoPE, of every third token: (tokens, heads, dimension). Needs torch and transformers 5.
"""
import copy
import pathlib
import shutil
import sys
import tempfile
import zlib

import safetensors.torch
import torch
import transformers

N_LONG, N_SHORT, EVERY = 24, 6, 3
COMMON = dict(hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
              vocab_size=64, max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=2,
              tie_word_embeddings=False)
ROPE = dict(rope_parameters=dict(rope_type="default", rope_theta=10000.0))
EXPERTS = dict(num_experts=6, num_experts_per_tok=2, moe_intermediate_size=12)
SIGMOID = dict(n_routed_experts=8, num_experts_per_tok=3, moe_intermediate_size=12, n_shared_experts=1, n_group=4,
               topk_group=2, routed_scaling_factor=2.5, norm_topk_prob=True, first_k_dense_replace=1)
YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=16)
FAMILIES = {
    "mixtral": dict(model_type="mixtral", num_local_experts=4, num_experts_per_tok=2, intermediate_size=24, **ROPE),
    "mixtral-window": dict(model_type="mixtral", num_local_experts=4, num_experts_per_tok=2, intermediate_size=24,
                           sliding_window=8, **ROPE),
    "qwen2_moe": dict(model_type="qwen2_moe", shared_expert_intermediate_size=20, decoder_sparse_step=1,
                      mlp_only_layers=[0], **EXPERTS, **ROPE),
    "phi3": dict(model_type="phi3", **ROPE),
    "phi3-longrope": dict(model_type="phi3", original_max_position_embeddings=12, sliding_window=10,
                          rope_parameters=dict(rope_type="longrope", rope_theta=10000.0,
                                               short_factor=[1.0, 1.1, 1.2, 1.5], long_factor=[1.1, 2.0, 4.0, 5.5])),
    "smollm3": dict(model_type="smollm3", no_rope_layer_interval=2, tie_word_embeddings=True, **ROPE),
    "granite": dict(model_type="granite", embedding_multiplier=3.0, logits_scaling=2.0, residual_multiplier=0.6,
                    attention_multiplier=0.4, tie_word_embeddings=True, **ROPE),
    "granitemoe": dict(model_type="granitemoe", embedding_multiplier=3.0, logits_scaling=2.0, residual_multiplier=0.6,
                       attention_multiplier=0.4, num_local_experts=4, num_experts_per_tok=2, intermediate_size=16, **ROPE),
    "olmo2": dict(model_type="olmo2", **ROPE),
    "seed_oss": dict(model_type="seed_oss", head_dim=12, attention_bias=True, attention_out_bias=False, **ROPE),
    "ernie4_5": dict(model_type="ernie4_5", head_dim=12, use_bias=True, **ROPE),
    "ernie4_5_moe": dict(model_type="ernie4_5_moe", moe_num_experts=6, moe_k=2, moe_intermediate_size=12,
                         moe_num_shared_experts=2, moe_layer_start_index=1, **ROPE),
    "glm4": dict(model_type="glm4", head_dim=8, attention_bias=True, **ROPE),
    "glm4_moe": dict(model_type="glm4_moe", head_dim=8, use_qk_norm=True, attention_bias=True, **SIGMOID, **ROPE),
    "starcoder2": dict(model_type="starcoder2", sliding_window=8, use_bias=True, **ROPE),
    "mistral-window": dict(model_type="mistral", head_dim=8, sliding_window=8, **ROPE),
    "qwen2-window": dict(model_type="qwen2", use_sliding_window=True, sliding_window=8, max_window_layers=1, **ROPE),
    "qwen3-window": dict(model_type="qwen3", head_dim=8, use_sliding_window=True, sliding_window=8,
                         layer_types=["sliding_attention", "full_attention"], **ROPE),
    "qwen3_moe-window": dict(model_type="qwen3_moe", head_dim=8, use_sliding_window=True, sliding_window=8, **EXPERTS,
                             **ROPE),
    "olmo3": dict(model_type="olmo3", sliding_window=8, layer_types=["sliding_attention", "full_attention"],
                  rope_parameters=dict(sliding_attention=dict(rope_type="default", rope_theta=10000.0),
                                       full_attention=YARN)),
    "exaone4": dict(model_type="exaone4", sliding_window=8, sliding_window_pattern=2, **ROPE),
    "exaone4-full": dict(model_type="exaone4", sliding_window=None, layer_types=["full_attention"] * 2, **ROPE),
    "cohere2": dict(model_type="cohere2", sliding_window=8, logit_scale=0.25, tie_word_embeddings=True,
                    layer_types=["sliding_attention", "full_attention"], **ROPE),
    "gemma2": dict(model_type="gemma2", head_dim=12, sliding_window=8, query_pre_attn_scalar=20,
                   tie_word_embeddings=True, attn_logit_softcapping=4.0, final_logit_softcapping=3.0, **ROPE),
    "gemma3_text": dict(model_type="gemma3_text", head_dim=12, sliding_window=8, query_pre_attn_scalar=20,
                        tie_word_embeddings=True, layer_types=["sliding_attention", "full_attention"],
                        rope_parameters=dict(sliding_attention=dict(rope_type="default", rope_theta=100.0),
                                             full_attention=dict(rope_type="linear", rope_theta=10000.0, factor=2.0))),
    "gpt_oss": dict(model_type="gpt_oss", head_dim=8, sliding_window=8, num_local_experts=4, num_experts_per_tok=2,
                    intermediate_size=16, swiglu_limit=1.0, rope_parameters=dict(YARN, truncate=False)),
    "minimax_m2": dict(model_type="minimax_m2", head_dim=8, num_local_experts=6, num_experts_per_tok=2,
                       intermediate_size=12,
                       rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5)),
    "deepseek_v3": dict(model_type="deepseek_v3", num_key_value_heads=4, q_lora_rank=16, kv_lora_rank=16,
                        qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=6, rope_interleave=True, rms_norm_eps=1e-5,
                        rope_parameters=dict(YARN, mscale=1.0, mscale_all_dim=0.7), **SIGMOID),
    "qwen3_next": dict(model_type="qwen3_next", head_dim=16, num_hidden_layers=2, linear_num_key_heads=2,
                       linear_num_value_heads=4, linear_key_head_dim=8, linear_value_head_dim=6,
                       linear_conv_kernel_dim=4, layer_types=["linear_attention", "full_attention"],
                       shared_expert_intermediate_size=20, norm_topk_prob=True, **EXPERTS,
                       rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.25)),
}
QWEN_VL_ROPE = dict(rope_type="default", rope_theta=10000.0, mrope_section=[2, 1, 1], mrope_interleaved=True)
QWEN35_ROPE = dict(QWEN_VL_ROPE, partial_rotary_factor=0.5)
QWEN35 = dict(head_dim=16, linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=8,
              linear_value_head_dim=6, linear_conv_kernel_dim=4, layer_types=["linear_attention", "full_attention"],
              rope_parameters=QWEN35_ROPE)
# Text towers of vision models: the text config, and what makes the vision tower small (it is left out of the file).
TOWERS = {
    "gemma3": (dict(model_type="gemma3"), dict({k: v for k, v in FAMILIES["gemma3_text"].items() if k != "model_type"})),
    "mistral3": (dict(model_type="mistral3"), dict(model_type="mistral", head_dim=8, sliding_window=None, **ROPE)),
    "qwen3_vl": (dict(model_type="qwen3_vl"), dict(head_dim=8, rope_parameters=QWEN_VL_ROPE)),
    "qwen3_vl_moe": (dict(model_type="qwen3_vl_moe"), dict(head_dim=8, rope_parameters=QWEN_VL_ROPE, **EXPERTS)),
    "qwen2_5_vl": (dict(model_type="qwen2_5_vl"),
                   dict(rope_parameters=dict(rope_type="default", rope_theta=10000.0, mrope_section=[2, 1, 1]))),
    "qwen3_5": (dict(model_type="qwen3_5"), QWEN35),
    "qwen3_5_moe": (dict(model_type="qwen3_5_moe"), dict(QWEN35, shared_expert_intermediate_size=20, **EXPERTS)),
}
VISION = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, depth=1, num_attention_heads=2, num_heads=2,
              out_hidden_size=32, image_size=28, patch_size=14, num_position_embeddings=4, deepstack_visual_indexes=[0],
              fullatt_block_indexes=[0])


def make(name):
    """The model of a family, with weights that matter: no norm is all ones, no bias zero."""
    torch.manual_seed(zlib.crc32(name.encode()))
    if name in TOWERS:
        outer, text = copy.deepcopy(TOWERS[name])  # a config keeps rope_parameters and adds to them
        config = transformers.AutoConfig.for_model(outer["model_type"])
        text_type = text.get("model_type", config.text_config.model_type)
        tied = text.get("tie_word_embeddings", False)
        text_config = transformers.AutoConfig.for_model(
            text_type, **{k: v for k, v in {**COMMON, **text}.items() if k != "model_type"})
        vision = type(config.vision_config)(**VISION)
        config = type(config)(text_config=text_config, vision_config=vision, tie_word_embeddings=tied)
        model = transformers.AutoModelForImageTextToText.from_config(config, attn_implementation="eager")
    else:
        kw = copy.deepcopy({**COMMON, **FAMILIES[name]})
        config = transformers.AutoConfig.for_model(kw.pop("model_type"), **kw)
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for key, p in list(model.named_parameters()) + list(model.named_buffers()):
            if "inv_freq" in key or "embed_scale" in key or not p.is_floating_point():
                continue
            if "bias" in key and "correction" in key:
                p.copy_(0.1 * torch.randn_like(p))
            elif p.ndim < 2:
                p.add_(0.2 * torch.randn_like(p))
            else:
                p.copy_(torch.randn_like(p) * (1.5 / p.shape[-1] ** 0.5))
    return model


def write(name, folder):
    model = make(name)
    with tempfile.TemporaryDirectory() as scratch:
        model.half().save_pretrained(scratch)
        tensors = {k: v.half().contiguous() for k, v in safetensors.torch.load_file(scratch + "/model.safetensors").items()
                   if not any(part in k for part in ("visual.", "vision_tower.", "multi_modal_projector."))}
        shutil.copy(scratch + "/config.json", folder / "config.json")
        safetensors.torch.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    kind = transformers.AutoModelForImageTextToText if name in TOWERS else transformers.AutoModelForCausalLM
    model, info = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    wrong = [k for k in list(info["missing_keys"]) + list(info["mismatched_keys"])
             if not any(part in str(k) for part in ("visual", "vision", "projector"))]
    assert not wrong, (name, wrong)
    return model.eval()


def watch(model):
    """Records q, k and v of every attention layer before RoPE: {layer: (q, k, v)}, each (T, heads, D)."""
    text = getattr(model, "model", model)
    text = getattr(text, "language_model", text)
    source = sys.modules[type(text).__module__]
    before, seen = [], {}
    for rotation in ("apply_rotary_pos_emb", "apply_rotary_pos_emb_interleave"):
        if hasattr(source, rotation):
            original = getattr(source, rotation)

            def rotate(q, k, *args, original=original, **kwargs):
                before.append((q, k))
                return original(q, k, *args, **kwargs)
            setattr(source, rotation, rotate)
    attend = source.eager_attention_forward

    def eager(module, q, k, v, *args, **kwargs):
        q0, k0 = before.pop() if before else (q, k)
        seen[module.layer_idx] = [x[0].transpose(0, 1) for x in (q0, k0, v)]
        return attend(module, q, k, v, *args, **kwargs)
    source.eager_attention_forward = eager
    return seen


def golden(name, model):
    seen = watch(model)
    tokens = [(i * i * 31 + i * 17 + 3) % COMMON["vocab_size"] for i in range(N_LONG)]
    out = {}
    with torch.no_grad():
        out["logits_short"] = model(torch.tensor([tokens[:N_SHORT]]), use_cache=False).logits[0]
        seen.clear()
        out["logits"] = model(torch.tensor([tokens]), use_cache=False).logits[0]
    for layer, arrays in seen.items():
        latent = model.config.model_type.startswith("deepseek")
        for letter, x in zip("qk" if latent else "qkv", arrays):
            out[f"{letter}.{layer}"] = x[::EVERY]
    return {k: v.contiguous() for k, v in out.items()}


def main():
    out = pathlib.Path(sys.argv[1])
    for name in sys.argv[2:] or list(FAMILIES) + list(TOWERS):
        (out / name).mkdir(parents=True, exist_ok=True)
        model = write(name, out / name)
        arrays = golden(name, model)
        safetensors.torch.save_file(arrays, out / name / "golden.safetensors")
        print(name, "spread of logits", float(arrays["logits"].std()), flush=True)


if __name__ == "__main__":
    main()
