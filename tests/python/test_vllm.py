"""blockgtq.vllm against vLLM's own interface: its cache spec, its views of memory, its metadata of a batch. No engine
runs here."""

from types import SimpleNamespace

from common import Case, main, map_of, need

need("torch", "vllm.v1.attention.backend")

import torch
from vllm.v1.attention.backend import AttentionCGSupport, CommonAttentionMetadata
from vllm.v1.attention.backends.registry import AttentionBackendEnum
from vllm.v1.kv_cache_interface import FullAttentionSpec, compute_layer_kv_cache_shape_bytes
from vllm.v1.worker.utils import customize_attention_spec

import blockgtq.vllm as plugin
from blockgtq import ops
from test_ops import attend


def config(map, **changed):
    """What the plugin reads of a VllmConfig."""
    hf = SimpleNamespace(num_hidden_layers=6, num_attention_heads=4)
    model = SimpleNamespace(hf_text_config=hf, max_model_len=512, get_total_num_kv_heads=lambda: 2,
                            get_num_kv_heads=lambda parallel: 2 // parallel.tensor_parallel_size,
                            get_head_size=lambda: 128)
    return SimpleNamespace(**{**dict(
        additional_config={"blockgtq": {"map": map, "pair": "K3V3"}}, model_config=model, speculative_config=None,
        parallel_config=SimpleNamespace(tensor_parallel_size=1, rank=0, decode_context_parallel_size=1),
        device_config=SimpleNamespace(device=torch.device("cpu")),
        scheduler_config=SimpleNamespace(max_num_seqs=8)), **changed})


def batch(table, rows):
    """vLLM's metadata of requests (tokens now, tokens before)."""
    now, before = (torch.tensor(x, dtype=torch.int32) for x in zip(*rows))
    ends = torch.cat([torch.zeros(1, dtype=torch.int32), now.cumsum(0, dtype=torch.int32)])
    lengths = now + before
    return CommonAttentionMetadata(
        query_start_loc=ends, query_start_loc_cpu=ends, seq_lens=lengths, num_reqs=len(rows),
        num_actual_tokens=int(now.sum()), max_query_len=int(now.max()), max_seq_len=int(lengths.max()),
        block_table_tensor=table[: len(rows)], slot_mapping=torch.zeros(0), seq_lens_cpu_upper_bound=lengths)


class Backend(Case):
    def setUp(self):
        self.config = config(map_of("tiny-qwen2"))
        self.format = plugin.BlockGtqBackend.format = plugin.page_format_of(self.config)
        spec = FullAttentionSpec(block_size=64, num_kv_heads=2, head_size=128, dtype=torch.bfloat16)
        self.spec = customize_attention_spec(plugin.BlockGtqBackend, spec)

    def test_it_is_registered(self):
        plugin.register()
        plugin.register()
        self.assertIs(AttentionBackendEnum.CUSTOM.get_class(), plugin.BlockGtqBackend)
        self.assertIs(AttentionBackendEnum[plugin.BlockGtqBackend.get_name()], AttentionBackendEnum.CUSTOM)

    def test_a_page_of_vllm_is_a_page_of_ours(self):
        pitch = self.format.layers[0].page_pitch
        self.assertEqual({layer.page_pitch for layer in self.format.layers}, {pitch})
        self.assertGreaterEqual(pitch, self.format.largest_page_bytes)
        self.assertLess(pitch, self.format.largest_page_bytes + 256)
        self.assertEqual(self.spec.page_size_bytes, pitch)
        self.assertEqual(compute_layer_kv_cache_shape_bytes(self.spec, 5), (5, 1, 64, pitch // 64))
        merged = FullAttentionSpec.merge([self.spec, self.spec])
        self.assertEqual(merged.page_size_bytes, pitch)

    def test_what_is_served_is_said(self):
        backend = plugin.BlockGtqBackend
        capability = lambda major: SimpleNamespace(major=major)
        reasons = lambda **more: backend.validate_configuration(**{**dict(
            head_size=128, dtype=torch.bfloat16, kv_cache_dtype="auto", block_size=64, use_mla=False, has_sink=False,
            use_sparse=False, use_mm_prefix=False, use_per_head_quant_scales=False, device_capability=capability(9),
            attn_type="decoder"), **more})
        self.assertEqual(reasons(), [])
        for changed in (dict(head_size=72), dict(dtype=torch.float32), dict(kv_cache_dtype="fp8"), dict(block_size=16),
                        dict(use_mla=True), dict(has_sink=True), dict(device_capability=capability(7)),
                        dict(attn_type="encoder"), dict(has_sliding_window=True)):
            self.assertEqual(len(reasons(**changed)), 1, changed)
        support = plugin.BlockGtqMetadataBuilder.get_cudagraph_support(self.config, self.spec)
        self.assertEqual(support, AttentionCGSupport.UNIFORM_SINGLE_TOKEN_DECODE)

    def test_wrong_configurations_are_errors(self):
        map = map_of("tiny-qwen2")
        self.refused("no map", plugin.page_format_of, config(map, additional_config={}))
        self.refused("", plugin.page_format_of, config(map_of("tiny-qwen2-gqa8")))
        four = SimpleNamespace(tensor_parallel_size=4, rank=0)
        self.refused("4 ranks share 2 KV heads", plugin.page_format_of, config(map, parallel_config=four))
        self.refused("alibi_slopes", plugin.BlockGtqImpl, 4, 128, 0.1, 2, alibi_slopes=[1.0])
        self.refused("sinks", plugin.BlockGtqImpl, 4, 128, 0.1, 2, sinks=torch.zeros(4))

    def test_a_rank_has_its_heads(self):
        ranks = [SimpleNamespace(tensor_parallel_size=2, rank=rank) for rank in (0, 1)]
        formats = [plugin.page_format_of(config(map_of("tiny-qwen2"), parallel_config=rank)) for rank in ranks]
        self.assertEqual([(f.n_heads, f.n_kv_heads) for f in formats], [(2, 1), (2, 1)])

    def test_batches_of_prompts_and_tokens(self):
        torch.manual_seed(5)
        builder = plugin.BlockGtqMetadataBuilder(self.spec, ["model.layers.1.self_attn.attn"], self.config, "cpu")
        impl = plugin.BlockGtqImpl(4, 128, 128**-0.5, 2)
        layer = SimpleNamespace(layer_name="model.layers.1.self_attn.attn")
        shape = compute_layer_kv_cache_shape_bytes(self.spec, 12)
        cache = torch.zeros(shape, dtype=torch.int8).view(torch.bfloat16)
        table = torch.tensor([[3, 4, 0], [7, 0, 0], [1, 2, 5]], dtype=torch.int32)
        bytes_of = lambda cache: cache.view(torch.uint8).flatten(1)
        new = lambda n: tuple(torch.randn(n, heads, 128).bfloat16() for heads in (4, 2, 2))

        def step(rows, order=(0, 1, 2)):
            q, k, v = new(sum(now for now, _ in rows))
            rows_of = table[list(order)[: len(rows)]].contiguous()
            held = [ops.read(self.format, 1, bytes_of(cache), rows_of[i : i + 1], 0, max(before, 1))
                    for i, (_, before) in enumerate(rows)]
            output = torch.full((len(q), 4 * 128), 9.0).bfloat16()
            impl.forward(layer, q, k, v, cache, builder.build(0, batch(rows_of, rows)), output)
            first = 0
            for i, (now, before) in enumerate(rows):
                mine = slice(first, first + now)
                before_k, before_v = (x[:, :before] for x in held[i])
                after = ops.read(self.format, 1, bytes_of(cache), rows_of[i : i + 1], 0, now + before)
                decodes = now == 1
                keys = after[0] if decodes else torch.cat([before_k, k[None, mine].float()], 1)
                values = after[1] if decodes else torch.cat([before_v, v[None, mine].float()], 1)
                expected = attend(q[None, mine].float(), keys, values, before)[0].flatten(1)
                torch.testing.assert_close(output[mine].double(), expected, atol=0.02, rtol=0.02)
                self.assertLess((after[0][:, before:] - k[None, mine].float()).norm(), 0.4 * k[mine].float().norm())
                first += now
            return output

        step([(70, 0), (10, 0)])
        step([(1, 70), (30, 10)])
        step([(1, 40), (1, 71), (65, 0)], order=(1, 0, 2))
        step([(1, 72), (1, 41), (64, 65)])

    def test_rows_that_fill_up_a_batch_write_into_page_0(self):
        builder = plugin.BlockGtqMetadataBuilder(self.spec, ["model.layers.1.self_attn.attn"], self.config, "cpu")
        table = torch.tensor([[3, 4], [0, 0], [0, 0]], dtype=torch.int32)
        ends = torch.tensor([0, 1, 1, 1], dtype=torch.int32)
        common = batch(table, [(1, 5), (1, 0), (1, 0)])
        common.query_start_loc = common.query_start_loc_cpu = ends
        common.seq_lens = torch.tensor([6, 0, 0], dtype=torch.int32)
        m = builder.build_for_cudagraph_capture(common)
        self.assertEqual((m.n_decodes, m.longest, m.starts.tolist()), (3, 512, [5, 0, 0]))
        self.assertEqual(m.starts.data_ptr(), builder.starts.data_ptr())

    def test_memory_is_measured_without_metadata(self):
        impl = plugin.BlockGtqImpl(4, 128, 128**-0.5, 2)
        output = torch.ones(3, 512)
        impl.forward(SimpleNamespace(layer_name="model.layers.0"), None, None, None, None, None, output)
        self.assertEqual(output.abs().sum(), 0)


if __name__ == "__main__":
    main()
