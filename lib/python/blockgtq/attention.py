"""Attention of transformers models over a BlockGtqCache: attn_implementation "blockgtq"."""

import math

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import causal_mask_function, sliding_window_causal_mask_function
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from .binding import Error

# What models hand to attention that does not change its result, or that a cache knows already.
IGNORED = {"position_ids", "cache_position", "position_embeddings", "use_cache", "output_attentions",
           "output_hidden_states", "output_router_logits", "num_items_in_batch"}


def attention(module, query, key, value, attention_mask, scaling=None, dropout=0.0, sliding_window=None,
              softcap=None, s_aux=None, is_causal=None, **others):
    """query (B, Hq, T, D); key and value (B, H, T, D), those of the new tokens as BlockGtqCache.update() returned
    them. Returns (B, T, Hq, D) and None."""
    layer = getattr(key, "blockgtq_layer", None)
    if layer is None:
        raise Error('attn_implementation "blockgtq" attends to the pages of a BlockGtqCache: '
                    "past_key_values=BlockGtqCache(...) is expected")
    for name, given in others.items():
        if name not in IGNORED and given is not None:
            raise Error(f"layer {layer.index}: {name} in attention: packed pages have no such thing")
    if attention_mask is not None:
        raise Error("an attention mask of the caller's own: packed pages are read causally")
    if is_causal is False or not getattr(module, "is_causal", True):
        raise Error("attention that is not causal")
    if dropout:
        raise Error(f"dropout {dropout}: packed pages serve, they do not train: model.eval()")
    if torch.is_grad_enabled() and query.requires_grad:
        raise Error("packed pages have no gradients: call the model under torch.no_grad()")
    _check_layer(layer, module, sliding_window, softcap, s_aux)
    if s_aux is not None and layer.sinks is None:
        layer.sinks = s_aux.detach().float().contiguous()
    out = layer.attend(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), scaling or 0.0, layer.sinks)
    return out, None


def _check_layer(layer, module, sliding_window, softcap, s_aux):
    """Refuses a model whose attention is not what the map says of this layer."""
    of_map = layer.sequences.format.layers[layer.index]
    of_model = (sliding_window or 0, softcap or 0.0, s_aux is not None)
    if of_map.window != of_model[0] or not math.isclose(of_map.softcap, of_model[1]) or of_map.sinks != of_model[2]:
        raise Error(f"layer {layer.index}: window, softcap, sinks {of_model}, the map has "
                    f"{(of_map.window, of_map.softcap, bool(of_map.sinks))}: a map of another model", "input")
    if not layer.checked:
        check_config(layer.sequences.format, module.config)
        layer.checked = True


def check_config(format, config):
    """Refuses a model with other numbers of layers and heads, or other frequencies, than the map's."""
    config = config.get_text_config(decoder=True)
    heads = config.num_attention_heads
    dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    found = (config.num_hidden_layers, heads, getattr(config, "num_key_value_heads", None) or heads, dim)
    expected = (format.n_layers, format.n_heads, format.n_kv_heads, format.head_dim)
    if found != expected:
        raise Error(f"a model with layers, heads, KV heads, head dimension {found}: the map is of {expected}", "input")
    of_model = frequencies(config, format.rotary_dim)
    for layer in range(format.n_layers if of_model and format.packed else 0):
        for i, (a, b) in enumerate(zip(of_model, format.frequencies(layer))):
            if not math.isclose(a, b, rel_tol=1e-4):
                raise Error(f"layer {layer}, RoPE block {i}: {a:.6g} radians per position, the map has {b:.6g}: "
                            "a map of another model", "input")


def frequencies(config, rotary_dim):
    """RoPE's radians per position (rotary_dim / 2); None where they differ between layers or depend on the text."""
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") == "default":
        return [rope["rope_theta"] ** (-2 * i / rotary_dim) for i in range(rotary_dim // 2)]
    if rope.get("rope_type") in ("linear", "llama3"):
        return ROPE_INIT_FUNCTIONS[rope["rope_type"]](config, device="cpu")[0].tolist()
    return None


def mask(batch_size, q_length, kv_length, q_offset=0, kv_offset=0, mask_function=causal_mask_function,
         attention_mask=None, local_size=None, **others):
    """No mask where attention is causal, or causal within the layer's window, and nothing is padded; else Error."""
    expected = causal_mask_function if local_size is None else sliding_window_causal_mask_function(local_size)
    if not _same(mask_function, expected):
        raise Error("a mask that is neither causal nor a sliding window: packed pages have no such attention")
    if attention_mask is not None and not torch.compiler.is_compiling() and not attention_mask.all():
        raise Error("a padded batch: sequences of a BlockGtqCache have one length, and no padding")
    return None


def _same(one, other):
    """Whether two functions have the same code over the same closure."""
    if not callable(one):
        return one == other
    if not callable(other) or one.__code__ is not other.__code__:
        return False
    cells = [[cell.cell_contents for cell in f.__closure__ or ()] for f in (one, other)]
    flat = [[x for c in side for x in (c if isinstance(c, tuple) else (c,))] for side in cells]
    return len(flat[0]) == len(flat[1]) and all(_same(a, b) for a, b in zip(*flat))


def register():
    AttentionInterface.register("blockgtq", attention)
    AttentionMaskInterface.register("blockgtq", mask)
