#!/usr/bin/env bash
# tokenizer.json says how text is normalized, and whether transformers follows it depends on tokenizer_class.
#
# transformers 5.24.0 with tokenizers 0.23.3: where tokenizer_config.json names LlamaTokenizer, GemmaTokenizer or Qwen2Tokenizer, AutoTokenizer
# takes vocabulary and merges from tokenizer.json and builds normalizer and pre-tokenizer anew, as the class has them; those of the
# file are dropped without a word. With PreTrainedTokenizerFast, or read by the tokenizers library itself, the file counts. So one folder has two
# sets of token ids, and a reader of tokenizer.json alone has the tokenizers library's.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet transformers==5.24.0 tokenizers==0.23.3
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import json
import os
import sys

from tokenizers import Tokenizer, models, normalizers
from transformers import AutoTokenizer

pieces = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)] + list("▁abAB") + ["ab", "▁a", "▁ab", "AB"]
bpe = models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[("a", "b"), ("▁", "a"), ("▁", "ab"), ("A", "B")],
                 unk_token="<unk>", byte_fallback=True)
tokenizer = Tokenizer(bpe)
tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
want = tokenizer.encode("AB ab").tokens
print("tokenizers:", want)
found = {}
for name in ("PreTrainedTokenizerFast", "LlamaTokenizer", "GemmaTokenizer", "Qwen2Tokenizer"):
    folder = os.path.join(sys.argv[1], name)
    os.mkdir(folder)
    tokenizer.save(folder + "/tokenizer.json")
    with open(folder + "/tokenizer_config.json", "w") as config:
        json.dump({"tokenizer_class": name, "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}, config)
    loaded = AutoTokenizer.from_pretrained(folder)
    found[name] = loaded.tokenize("AB ab")
    print(f"{name}: {found[name]}, normalizer {loaded.backend_tokenizer.normalizer}")
assert want == ["▁ab", "▁ab"] and found["PreTrainedTokenizerFast"] == want, "the behaviour has changed"
assert all("AB" in found[name] for name in ("LlamaTokenizer", "GemmaTokenizer", "Qwen2Tokenizer")), "the behaviour has changed"
PYTHON
