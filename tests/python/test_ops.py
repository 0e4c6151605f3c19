"""blockgtq.ops: the calls on torch tensors, and as operators."""

import gc

from common import Case, main, map_of, need

need("torch")

import torch
import torch.nn.functional as F

import blockgtq
from blockgtq import ops

operators = torch.ops.blockgtq


def attend(q, k, v, n_before):
    """softmax(q k^T / sqrt(D)) v in double precision: queries (B, T, Hq, D) behind n_before positions, all of k and v
    (B, N, H, D) given."""
    q, k, v = (x.double().transpose(1, 2) for x in (q, k, v))
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    seen = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(n_before)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2)


class Ops(Case):
    def setUp(self):
        torch.manual_seed(3)
        self.format = blockgtq.PageFormat(map_of("tiny-qwen2"))  # 4 query heads, 2 KV heads, D = 128
        self.batch, self.n = 2, 100
        self.q, self.k, self.v = (torch.randn(2, self.n, heads, 128) for heads in (4, 2, 2))
        self.pages = torch.zeros(6, self.format.layers[1].page_pitch, dtype=torch.uint8)
        self.table = torch.tensor([[5, 0], [3, 4]], dtype=torch.int32)
        self.starts = torch.zeros(2, dtype=torch.int32)
        self.lengths = torch.full((2,), self.n, dtype=torch.int32)

    def fill(self, n=None):
        n = n or self.n
        ops.encode(self.format, 1, self.k[:, :n], self.v[:, :n], self.pages, self.table, self.starts, n)

    def held(self, n=None):
        return ops.read(self.format, 1, self.pages, self.table, 0, n or self.n)

    def test_pages_hold_what_was_encoded_and_no_other_page_changes(self):
        self.pages.fill_(7)
        self.fill()
        k, v = self.held()
        self.assertLess((k - self.k).norm() / self.k.norm(), 0.4)
        self.assertLess((v - self.v).norm() / self.v.norm(), 0.4)
        self.assertTrue((self.pages[1:3] == 7).all())

    def test_strides_and_types_do_not_matter(self):
        k, v = (x.half().float() for x in (self.k, self.v))
        self.k, self.v = k, v
        self.fill()
        expected = self.pages.clone()
        for k2, v2 in ((k.half(), v.half()), (k.transpose(1, 2).contiguous().transpose(1, 2), v),
                       (torch.cat([k, v], -1)[..., :128], torch.cat([k, v], -1)[..., 128:])):
            self.pages.zero_()
            ops.encode(self.format, 1, k2, v2, self.pages, self.table, self.starts, self.n)
            self.assertTrue(torch.equal(self.pages, expected))

    def test_decoding_attends_to_what_pages_hold(self):
        self.fill()
        out = ops.decode(self.format, 1, self.q[:, :1], self.pages, self.table, self.lengths, self.n)
        torch.testing.assert_close(out.double(), attend(self.q[:, :1], *self.held(), self.n), atol=1e-5, rtol=1e-5)
        half = ops.decode(self.format, 1, self.q[:, :1].bfloat16(), self.pages, self.table, self.lengths, self.n)
        self.assertEqual(half.dtype, torch.bfloat16)
        torch.testing.assert_close(half.float(), out, atol=0.02, rtol=0.02)

    def test_a_step_is_the_token_and_then_attention(self):
        n = self.n - 1
        self.fill(n)
        q, k, v = (x[:, n:] for x in (self.q, self.k, self.v))
        starts = torch.full((2,), n, dtype=torch.int32)
        out = ops.step(self.format, 1, q, k, v, self.pages, self.table, starts, self.lengths, self.n)
        torch.testing.assert_close(out.double(), attend(q, *self.held(), self.n), atol=1e-5, rtol=1e-5)

    def test_a_chunk_attends_to_itself_exactly_and_to_pages(self):
        out = ops.prefill(self.format, 1, self.q, self.k, self.v)
        torch.testing.assert_close(out.double(), attend(self.q, self.k, self.v, 0), atol=1e-5, rtol=1e-5)
        n = 70
        self.fill(n)
        rest = [x[:, n:] for x in (self.q, self.k, self.v)]
        out = ops.prefill(self.format, 1, *rest, self.pages, self.table, torch.full_like(self.lengths, n), n)
        k, v = (torch.cat([a, b], 1) for a, b in zip(self.held(n), rest[1:]))
        torch.testing.assert_close(out.double(), attend(rest[0], k, v, n), atol=1e-5, rtol=1e-5)

    def test_wrong_tensors_are_errors(self):
        self.fill()
        decode = lambda **changed: ops.decode(**{**dict(
            format=self.format, layer=1, q=self.q[:, :1], pages=self.pages, block_table=self.table,
            lengths=self.lengths, longest=self.n), **changed})
        decode()
        self.refused("q: torch.float64", decode, q=self.q[:, :1].double())
        self.refused("q: shape (2, 1, 2, 128)", decode, q=self.k[:, :1])
        self.refused("q: shape", decode, q=self.q[:, :2])
        self.refused("q: shape", decode, q=self.q[:, 0])
        self.refused("q: strides", decode, q=self.q[:, :1].transpose(2, 3).contiguous().transpose(2, 3))
        self.refused("q: strides", decode, q=torch.zeros(128).expand(2, 1, 4, 128))
        self.refused("q: on meta", decode, q=self.q[:, :1].to("meta"))
        self.refused("pages: torch.int8", decode, pages=self.pages.to(torch.int8))
        self.refused("pages: shape", decode, pages=self.pages[:, :-16])
        self.refused("pages: not contiguous", decode, pages=self.pages.t().contiguous().t())
        self.refused("pages (n_pages", decode, pages=self.pages[0])
        self.refused("block table: torch.int64", decode, block_table=self.table.long())
        self.refused("block table: shape (1, 2)", decode, block_table=self.table[:1])
        self.refused("lengths: torch.int64", decode, lengths=self.lengths.long())
        self.refused("lengths: shape", decode, lengths=self.lengths[:1])
        self.refused("lengths: missing", decode, lengths=None)
        self.refused("sinks: shape", decode, sinks=torch.zeros(3))
        self.refused("layer 6", decode, layer=6)
        self.refused("layer -1", decode, layer=-1)
        self.assertEqual(self.refused("", decode, longest=129).kind, "pages")
        self.assertEqual(self.refused("", decode, block_table=self.table + 2).kind, "pages")
        self.refused("", decode, lengths=self.lengths + 1)  # more than `longest`
        self.refused("k: torch.int32", ops.encode, self.format, 1, self.k.int(), self.v, self.pages, self.table,
                     self.starts, self.n)
        self.refused("v: shape", ops.encode, self.format, 1, self.k, self.v[:, 1:], self.pages, self.table,
                     self.starts, self.n)

    def test_operators_are_the_same_and_say_what_they_write(self):
        id, k, v = self.format.id, self.k, self.v
        operators.encode(id, 1, k, v, self.pages, self.table, self.starts, self.n)
        expected = ops.decode(self.format, 1, self.q[:, :1], self.pages, self.table, self.lengths, self.n)
        out = operators.decode(id, 1, self.q[:, :1], self.pages, self.table, self.lengths, self.n)
        self.assertTrue(torch.equal(out, expected))
        decode = (id, 1, self.q[:, :1], self.pages, self.table, self.lengths, self.n)
        start = torch.full((2,), self.n - 1, dtype=torch.int32)
        step = (id, 1, self.q[:, :1], k[:, :1], v[:, :1], self.pages, self.table, start, self.lengths, self.n)
        encode = (id, 1, k, v, self.pages, self.table, self.starts, self.n)
        for name, arguments in (("decode", decode), ("step", step), ("encode", encode),
                                ("prefill", (id, 1, self.q, k, v))):
            torch.library.opcheck(getattr(operators, name).default, arguments,
                                  test_utils=("test_schema", "test_faketensor"))

    def test_errors_pass_through_operators(self):
        arguments = (self.q[:, :1].double(), self.pages, self.table, self.lengths, self.n)
        self.refused("q: torch.float64", operators.decode, self.format.id, 1, *arguments)
        self.refused("no page format with the id 0", operators.decode, 0, 1, *arguments)
        format = blockgtq.PageFormat(map_of("tiny-qwen2"))
        gone = format.id
        del format
        gc.collect()
        self.refused("no page format", operators.decode, gone, 1, *arguments)

    def test_compiled_code_calls_them_without_a_break(self):
        id = self.format.id

        def layer(q, k, v, pages, table, starts, lengths):
            out = operators.step(id, 1, q * 2, k, v, pages, table, starts, lengths, 100)
            return out + 1

        n = self.n - 1
        self.fill(n)
        pages = self.pages.clone()
        tail = [x[:, n:] for x in (self.q, self.k, self.v)]
        starts = torch.full((2,), n, dtype=torch.int32)
        expected = layer(*tail, pages, self.table, starts, self.lengths)
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        out = compiled(*tail, self.pages, self.table, starts, self.lengths)
        self.assertTrue(torch.equal(out, expected))
        self.assertTrue(torch.equal(self.pages, pages))


class ExactPositions(Case):
    """blockgtq_split and fp16 pages beside packed ones."""

    def test_split_says_what_lies_where(self):
        format = blockgtq.PageFormat(map_of("tiny-qwen2"))
        sink, recent = 64, 64
        columns = format.library.exact_columns(sink, recent)
        pages = torch.arange(columns, dtype=torch.int32)[None]
        held = torch.tensor([299], dtype=torch.int32)
        packed, exact, starts = (torch.empty(1, dtype=torch.int32) for _ in range(3))
        table = torch.empty_like(pages)
        operators.split(format.id, held, pages, sink, recent, packed, exact, starts, table)
        self.assertEqual(packed.item(), format.library.packed_end(sink, recent, 300))
        self.assertEqual(exact.item(), format.library.exact_length(sink, recent, 300))
        self.assertEqual(packed.item() + exact.item() - sink, 300)
        self.assertEqual(sorted(table[0].tolist()), pages[0].tolist())
        self.refused("exact pages: shape", ops.split, format, held, pages[:, 1:], sink, recent, packed, exact,
                     starts, table)

    def test_fp16_pages_hold_what_was_written(self):
        format = blockgtq.PageFormat(None, model=(2, 4, 2, 64))
        self.assertEqual((format.packed, format.code, format.bytes_per_token), (0, "fp16", 2 * 2 * 2 * 64 * 2))
        k, v = (torch.randn(1, 80, 2, 64).half() for _ in range(2))
        pages = torch.zeros(2, format.layers[0].page_pitch, dtype=torch.uint8)
        table = torch.tensor([[1, 0]], dtype=torch.int32)
        ops.encode(format, 0, k, v, pages, table, torch.zeros(1, dtype=torch.int32), 80)
        held = ops.read(format, 0, pages, table, 0, 80)
        self.assertTrue(torch.equal(held[0], k.float()) and torch.equal(held[1], v.float()))


if __name__ == "__main__":
    main()
