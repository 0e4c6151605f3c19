"""blockgtq.binding and PageFormat, by ctypes alone."""

import ctypes
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from array import array
from pathlib import Path

from common import LIBRARY, ROOT, Case, main, map_of

import blockgtq
from blockgtq import binding
from blockgtq.binding import F32, DecodeArgs, EncodeArgs, Options, ReadArgs

STRUCTURES = {
    "blockgtq_options": binding.Options,
    "blockgtq_description": binding.Description,
    "blockgtq_layer": binding.Layer,
    "blockgtq_tensor": binding.Tensor,
    "blockgtq_pages": binding.Pages,
    "blockgtq_rule": binding.Rule,
    "blockgtq_encode_args": binding.EncodeArgs,
    "blockgtq_decode_args": binding.DecodeArgs,
    "blockgtq_prefill_args": binding.PrefillArgs,
    "blockgtq_split_args": binding.SplitArgs,
    "blockgtq_read_args": binding.ReadArgs,
}
HEADER = ROOT / "lib/capi/blockgtq.h"


def floats(values):
    return array("f", values)


def address(values):
    return values.buffer_info()[0]


class Mirror(Case):
    """The binding says what the header says."""

    def test_structures_have_the_headers_fields_at_their_offsets(self):
        compiler = shutil.which("cc") or shutil.which("gcc")
        if not compiler:
            self.skipTest("no C compiler")
        prints = []
        for name, structure in STRUCTURES.items():
            prints.append(f'printf("{name} %zu\\n", sizeof({name}));')
            prints += [f'printf("{name}.{field[0]} %zu\\n", offsetof({name}, {field[0]}));'
                       for field in structure._fields_]
        source = f'#include <stdio.h>\n#include "{HEADER}"\nint main(void) {{ {"".join(prints)} return 0; }}\n'
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "sizes.c"
            file.write_text(source)
            subprocess.run([compiler, "-std=c11", str(file), "-o", folder + "/sizes"], check=True)
            said = subprocess.run([folder + "/sizes"], check=True, capture_output=True, text=True).stdout
        expected = []
        for name, structure in STRUCTURES.items():
            expected.append(f"{name} {ctypes.sizeof(structure)}")
            expected += [f"{name}.{field[0]} {getattr(structure, field[0]).offset}" for field in structure._fields_]
        self.assertEqual(said.split("\n")[:-1], expected)

    def test_nothing_of_the_header_is_missing(self):
        text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.S)
        functions = set(re.findall(r"BLOCKGTQ_API [\w\s*]*?blockgtq_(\w+)\(", text))
        self.assertEqual(functions, set(binding.CALLS) | set(binding.VALUES))
        structures = set(re.findall(r"\} (blockgtq_\w+);", text)) - {"blockgtq_status", "blockgtq_dtype"}
        self.assertEqual(structures, set(STRUCTURES))
        values = dict(re.findall(r"BLOCKGTQ_(\w+) = (\d+)", text))
        self.assertEqual({int(v) for k, v in values.items() if k not in ("OK", "F16", "BF16", "F32")},
                         set(binding.STATUS))
        self.assertEqual([int(values[k]) for k in ("F16", "BF16", "F32")], [binding.F16, binding.BF16, binding.F32])
        defines = dict(re.findall(r"#define BLOCKGTQ_(\w+) (\d+)u?\n", text))
        self.assertEqual(int(defines["INTERFACE"]), binding.INTERFACE)
        self.assertEqual(int(defines["BLOCK_SIZE"]), binding.BLOCK_SIZE)
        self.assertEqual(int(defines["TRUST_POINTERS"]), binding.TRUST_POINTERS)
        self.assertEqual(int(defines["JUST_ENCODED"]), binding.JUST_ENCODED)

    def test_a_structure_knows_its_size(self):
        self.assertEqual(Options().struct_size, ctypes.sizeof(Options))


class Loading(Case):
    def test_the_library_is_the_one_that_was_named(self):
        self.assertEqual(blockgtq.library().path, LIBRARY)
        self.assertEqual(blockgtq.library().interface(), binding.INTERFACE)
        self.assertRegex(blockgtq.library().version().decode(), r"^blockgtq \d+\.\d+\.\d+, ")

    def test_what_is_no_library_is_refused_by_name(self):
        self.refused("/nowhere/lib.so: not a library of blockgtq", binding.Library, "/nowhere/lib.so")
        self.refused("not a library of blockgtq", binding.Library, __file__)
        self.refused("not a library of blockgtq", binding.Library, "libc.so.6")

    def test_python_imports_neither_torch_nor_transformers(self):
        code = "import sys, blockgtq; assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "lib/python")}
        subprocess.run([sys.executable, "-c", code], check=True, env=environment)


class Formats(Case):
    def test_a_map_is_described(self):
        f = blockgtq.PageFormat(map_of("tiny-qwen2"))
        self.assertEqual((f.n_layers, f.n_heads, f.n_kv_heads, f.head_dim), (6, 4, 2, 128))
        self.assertEqual((f.packed, f.device, f.block_size, f.pair), (1, -1, 64, "K3V3"))
        self.assertEqual((f.key_method, f.value_method, f.code), ("block-gtq", "tq-mse", "scalar"))
        self.assertEqual(len(f.layers), 6)
        self.assertEqual(f.bytes_per_token, sum(layer.page_bytes for layer in f.layers) / 64)
        self.assertAlmostEqual(f.layers[0].scale, 128**-0.5)
        self.assertEqual(f.rotary_dim, 128)
        for i, frequency in enumerate(f.frequencies(0)):
            self.assertAlmostEqual(frequency, 1e6 ** (-2 * i / 128), delta=1e-6 * frequency)

    def test_trellis_codes_and_other_budgets(self):
        f = blockgtq.PageFormat(map_of("tiny-qwen2", "2,3"), code="trellis", pair="K2V3")
        self.assertEqual((f.key_method, f.value_method), ("tq-mse-cb", "tq-mse-centred"))
        self.assertEqual((f.code, f.pair), ("trellis", "K2V3"))
        self.assertEqual((f.key_bits, f.value_bits), (2, 3))

    def test_what_cannot_be_opened_is_said_in_one_line(self):
        path = map_of("tiny-qwen2")
        self.assertEqual(self.refused("/nowhere.h5", blockgtq.PageFormat, "/nowhere.h5").kind, "input")
        self.refused("", blockgtq.PageFormat, __file__)
        self.refused("K9V9", blockgtq.PageFormat, path, pair="K9V9")
        self.refused("tq-mse-centres", blockgtq.PageFormat, path, key_method="tq-mse-centres")
        self.refused("huffman", blockgtq.PageFormat, path, code="huffman")
        self.refused("tpu", blockgtq.PageFormat, path, device="tpu")
        self.assertEqual(self.refused("", blockgtq.PageFormat, path, model=(6, 4, 2, 64)).kind, "input")
        self.refused("longest", blockgtq.PageFormat, path, longest=0)
        self.refused("", blockgtq.PageFormat, None)


class Calls(Case):
    """Tokens go into pages and come back, and attention is softmax over what came back."""

    def setUp(self):
        self.format = blockgtq.PageFormat(map_of("tiny-qwen2"))
        self.library = self.format.library
        n = 2 * self.format.head_dim
        self.tokens = 70
        self.k = floats(math.sin(0.37 * i * i % 11) for i in range(self.tokens * n))
        self.v = floats(math.cos(0.11 * i * i % 13) for i in range(self.tokens * n))
        self.page_bytes = self.format.layers[0].page_bytes
        self.memory = ctypes.create_string_buffer(3 * self.page_bytes + 16)
        self.pages = -(-ctypes.addressof(self.memory) // 16) * 16
        self.table, self.starts, self.lengths = array("i", [2, 0]), array("i", [0]), array("i", [self.tokens])

    def set_pages(self, pages, longest):
        pages.data, pages.n_pages, pages.stride, pages.longest = self.pages, 3, 2, longest
        pages.block_table, pages.starts = address(self.table), address(self.starts)
        pages.lengths = address(self.lengths)

    def encode(self):
        args = EncodeArgs(layer=0, batch=1, tokens=self.tokens)
        self.set_pages(args.pages, self.tokens)
        args.k.data, args.k.dtype, args.v.data, args.v.dtype = address(self.k), F32, address(self.v), F32
        self.library.encode(self.format.pointer, args)

    def read(self):
        k, v = floats([0]) * len(self.k), floats([0]) * len(self.v)
        args = ReadArgs(layer=0, batch=1, first=0, tokens=self.tokens)
        self.set_pages(args.pages, self.tokens)
        args.pages.lengths = args.pages.starts = None
        args.k.data, args.k.dtype, args.v.data, args.v.dtype = address(k), F32, address(v), F32
        self.library.read(self.format.pointer, args)
        return k, v

    def test_attention_is_softmax_over_what_pages_hold(self):
        self.encode()
        k, v = self.read()
        error = math.dist(k, self.k) / math.hypot(*self.k)
        self.assertTrue(0.05 < error < 0.5, error)  # three bits: coded, and not lost
        dim, heads = self.format.head_dim, self.format.n_heads
        q, out = floats(math.sin(0.7 * i) for i in range(heads * dim)), floats([0]) * (heads * dim)
        args = DecodeArgs(layer=0, batch=1)
        self.set_pages(args.pages, self.tokens)
        args.q.data, args.q.dtype, args.out.data, args.out.dtype = address(q), F32, address(out), F32
        self.library.decode(self.format.pointer, args)
        for head in range(heads):
            mine, at = q[head * dim:][:dim], lambda x, t: x[(2 * t + head // 2) * dim:][:dim]
            logits = [sum(a * b for a, b in zip(mine, at(k, t))) * dim**-0.5 for t in range(self.tokens)]
            weights = [math.exp(x - max(logits)) for x in logits]
            for d in range(dim):
                expected = sum(w * at(v, t)[d] for t, w in enumerate(weights)) / sum(weights)
                self.assertAlmostEqual(out[head * dim + d], expected, delta=1e-5)

    def test_wrong_calls_are_errors(self):
        args = EncodeArgs(layer=6, batch=1, tokens=1)
        self.refused("layer", self.library.encode, self.format.pointer, args)
        args = EncodeArgs(layer=0, batch=1, tokens=self.tokens)
        self.set_pages(args.pages, self.tokens)
        self.refused("", self.library.encode, self.format.pointer, args)  # no keys
        args.k.data, args.k.dtype, args.v.data, args.v.dtype = address(self.k), F32, address(self.v), F32
        args.pages.longest = 129
        self.assertEqual(self.refused("", self.library.encode, self.format.pointer, args).kind, "pages")
        args.pages.longest = self.tokens
        self.table[1] = 3
        self.assertEqual(self.refused("", self.library.encode, self.format.pointer, args).kind, "pages")


if __name__ == "__main__":
    main()
