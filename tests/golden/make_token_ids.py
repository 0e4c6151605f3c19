#!/usr/bin/env python3
"""Makes token_ids.json: of every text of data/texts how many ids the `tokenizers` library gives and their sha256, as
little-endian int32. All models of data/models have the same tokenizer.

  make_token_ids.py DATA > token_ids.json      (tokenizers 0.23.3)
"""
import hashlib
import json
import pathlib
import struct
import sys

from tokenizers import Tokenizer


def main():
    data = pathlib.Path(sys.argv[1])
    models = sorted(data.glob("models/*/tokenizer.json"))
    out = {}
    for path in sorted(data.glob("texts/*.txt")):
        text = path.read_text(encoding="utf-8")
        ids, *others = [Tokenizer.from_file(str(m)).encode(text, add_special_tokens=False).ids for m in models]
        assert all(other == ids for other in others)
        sha256 = hashlib.sha256(struct.pack(f"<{len(ids)}i", *ids)).hexdigest()
        out[path.name] = {"n": len(ids), "sha256": sha256}
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
