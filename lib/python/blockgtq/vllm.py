"""A vLLM attention backend over packed pages, as a plugin: full-attention layers, block size 64.

    vllm serve MODEL --attention-backend CUSTOM --block-size 64 \
        --additional-config '{"blockgtq": {"map": "map.h5", "pair": "K3V3"}}'

Where a model has sliding layers as well, they stay with a backend of vLLM's own:
--attention-config '{"backend_per_kind": {"full_attention": "CUSTOM"}}'.

Written for vLLM 0.33: register() is its entry point (group vllm.general_plugins).
"""

import functools
import json
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from vllm.config import get_current_vllm_config
from vllm.v1.attention.backend import (
    AttentionBackend,
    AttentionCGSupport,
    AttentionImpl,
    AttentionMetadata,
    AttentionMetadataBuilder,
    AttentionType,
)
from vllm.v1.attention.backends.registry import AttentionBackendEnum, register_backend
from vllm.v1.attention.backends.utils import split_decodes_and_prefills
from vllm.v1.kv_cache_interface import KVCacheLayout

from . import ops
from .binding import BLOCK_SIZE, Error
from .page_format import PageFormat

# vLLM sees a page as 64 rows, of numbers of up to 4 bytes, so that its bytes are a multiple of this.
PITCH = 4 * BLOCK_SIZE


def register():
    """Makes CUSTOM this backend, where no other plugin has taken that name."""
    if not AttentionBackendEnum.CUSTOM.is_overridden():
        register_backend(AttentionBackendEnum.CUSTOM, "blockgtq.vllm.BlockGtqBackend")


@functools.cache
def _open(options, device, longest, model, first_kv_head, kv_heads):
    """A format whose layers have pages of one size, as vLLM wants them. options: JSON of PageFormat's."""
    arguments = {**json.loads(options), "device": device, "longest": longest, "model": model,
                 "first_kv_head": first_kv_head, "kv_heads": kv_heads}
    needed = PageFormat(**{**arguments, "device": "cpu"}).largest_page_bytes
    return PageFormat(**arguments, page_pitch=-(-needed // PITCH) * PITCH)


def page_format_of(config):
    """The format of this worker: the map that additional_config names, the KV heads of its rank."""
    options = (config.additional_config or {}).get("blockgtq", {})
    if "map" not in options:
        raise Error("""no map: --additional-config '{"blockgtq": {"map": "map.h5"}}' names it""", "input")
    model, parallel = config.model_config, config.parallel_config
    hf = model.hf_text_config
    ranks, kv_heads = parallel.tensor_parallel_size, model.get_total_num_kv_heads()
    mine = model.get_num_kv_heads(parallel)
    if ranks > kv_heads:
        raise Error(f"{ranks} ranks share {kv_heads} KV heads: no more ranks than KV heads are served")
    shape = (hf.num_hidden_layers, hf.num_attention_heads, kv_heads, model.get_head_size())
    device = str(config.device_config.device)
    first = parallel.rank % ranks * mine if ranks > 1 else 0
    text = json.dumps(options, sort_keys=True)
    return _open(text, device, model.max_model_len, shape, first, mine if ranks > 1 else 0)


class BlockGtqBackend(AttentionBackend):
    supported_dtypes: ClassVar[list[torch.dtype]] = [torch.float16, torch.bfloat16]
    format = None  # of this process, set by the first layer that is made

    @staticmethod
    def get_name():
        return "CUSTOM"

    @staticmethod
    def get_impl_cls():
        return BlockGtqImpl

    @staticmethod
    def get_builder_cls():
        return BlockGtqMetadataBuilder

    @staticmethod
    def get_supported_kernel_block_sizes(kv_cache_spec=None):
        return [BLOCK_SIZE]

    @classmethod
    def get_supported_head_sizes(cls):
        return [64, 80, 96, 128, 256]

    @classmethod
    def supports_sliding_window(cls):
        return False

    @classmethod
    def supports_attn_type(cls, attn_type):
        return attn_type == AttentionType.DECODER

    @classmethod
    def supports_compute_capability(cls, capability):
        return capability.major >= 8

    @classmethod
    def supported_kv_cache_layouts(cls):
        return (KVCacheLayout.LBHNC,)

    @classmethod
    def customize_spec(cls, spec):
        """A page is one run of bytes, of all KV heads: one head slot of 64 rows."""
        if spec.state_content_bytes is not None:
            return spec
        if cls.format is None:
            cls.format = page_format_of(get_current_vllm_config())
        return replace(spec, num_head_slots=1, state_content_bytes=cls.format.layers[0].page_pitch // BLOCK_SIZE)


@dataclass
class BlockGtqMetadata(AttentionMetadata):
    """A batch: decoding requests first, one token each, then those that read a prompt."""

    n_decodes: int
    n_tokens: int
    longest: int  # of the decoding requests
    block_table: torch.Tensor  # (requests, columns)
    lengths: torch.Tensor  # (requests), new tokens included
    starts: torch.Tensor  # (requests), positions of the first new tokens
    chunks: list  # of the others: (request, first token, end of tokens, positions before)


class BlockGtqMetadataBuilder(AttentionMetadataBuilder[BlockGtqMetadata]):
    _cudagraph_support: ClassVar[AttentionCGSupport] = AttentionCGSupport.UNIFORM_SINGLE_TOKEN_DECODE

    def __init__(self, kv_cache_spec, layer_names, vllm_config, device):
        super().__init__(kv_cache_spec, layer_names, vllm_config, device)
        self._init_reorder_batch_threshold(1)
        self.most_tokens = vllm_config.model_config.max_model_len
        # A CUDA graph reads these at their address.
        self.starts = torch.zeros(vllm_config.scheduler_config.max_num_seqs, dtype=torch.int32, device=device)

    def build(self, common_prefix_len, common_attn_metadata, fast_build=False):
        m = common_attn_metadata
        n_decodes, n_prefills, _, _ = split_decodes_and_prefills(m, decode_threshold=1)
        n = n_decodes + n_prefills
        counts = m.query_start_loc[1 : n + 1] - m.query_start_loc[:n]
        # Rows that only fill up a batch have no tokens: they write into vLLM's empty page 0, which nobody reads.
        self.starts[:n] = (m.seq_lens[:n] - counts).clamp_(min=0)
        first = m.query_start_loc_cpu.tolist()
        chunks = []
        for i in range(n_decodes, n):
            tokens = first[i + 1] - first[i]
            chunks.append((i, first[i], first[i + 1], int(m.seq_lens_cpu_upper_bound[i]) - tokens))
        return BlockGtqMetadata(n_decodes, m.num_actual_tokens, m.max_seq_len, m.block_table_tensor, m.seq_lens,
                                self.starts[:n], chunks)

    def build_for_cudagraph_capture(self, common_attn_metadata):
        return replace(self.build(0, common_attn_metadata), longest=self.most_tokens)


class BlockGtqImpl(AttentionImpl[BlockGtqMetadata]):
    def __init__(self, num_heads, head_size, scale, num_kv_heads=None, alibi_slopes=None, sliding_window=None,
                 kv_cache_dtype="auto", logits_soft_cap=None, attn_type=AttentionType.DECODER,
                 kv_sharing_target_layer_name=None, **others):
        unknown = {"alibi_slopes": alibi_slopes, "sliding_window": sliding_window,
                   "kv_sharing_target_layer_name": kv_sharing_target_layer_name, **others}
        for name, value in unknown.items():
            if value is not None and value is not False:
                raise Error(f"{name}: {value}: packed pages have no such attention")
        self.num_heads, self.head_size, self.scale = num_heads, head_size, scale
        self.num_kv_heads, self.kv_cache_dtype = num_kv_heads or num_heads, kv_cache_dtype
        self.softcap = logits_soft_cap or 0.0
        if BlockGtqBackend.format is None:
            BlockGtqBackend.format = page_format_of(get_current_vllm_config())
        self.format = BlockGtqBackend.format
        self.index = None

    def _layer(self, name):
        if self.index is None:
            self.index = next(int(part) for part in name.split(".") if part.isdigit())
            if self.index < self.format.n_layers and self.format.layers[self.index].window:
                raise Error(f"{name}: the map has a window here, vLLM has none: a map of another model", "input")
        return self.index

    def forward(self, layer, query, key, value, kv_cache, attn_metadata, output, output_scale=None,
                output_block_scale=None):
        """query, output (tokens, Hq, D); key, value (tokens, H, D); kv_cache (pages, 1, 64, numbers)."""
        m = attn_metadata
        if m is None:  # vLLM measures memory
            return output.fill_(0)
        pages = kv_cache.view(torch.uint8).flatten(1)
        rule = {"scale": self.scale, "softcap": self.softcap}
        index, d = self._layer(layer.layer_name), m.n_decodes
        out = output.view(-1, self.num_heads, self.head_size)
        if d:
            q, k, v = (x[:d, None] for x in (query, key, value))
            out[:d] = ops.step(self.format, index, q, k, v, pages, m.block_table[:d], m.starts[:d], m.lengths[:d],
                               m.longest, **rule)[:, 0]
        for i, first, end, before in m.chunks:
            q, k, v = (x[None, first:end] for x in (query, key, value))
            table, starts = m.block_table[i : i + 1], m.starts[i : i + 1]
            prefix = {"pages": pages, "block_table": table, "lengths": starts, "longest": before} if before else {}
            out[first:end] = ops.prefill(self.format, index, q, k, v, **prefix, **rule)[0]
            ops.encode(self.format, index, k, v, pages, table, starts, before + end - first)
        return output
