#!/usr/bin/env python3
"""Writes tests/hf/sentencepiece/: small tokenizers with SentencePiece's kind of BPE, and what the library makes of texts.

    make_sentencepiece.py

Needs tokenizers (0.23.3). NAME.json are tokenizers as Llama-2, Gemma, Phi-3 and Mistral have them, with some 250 tokens
besides the bytes; expected.json holds strings with their ids, and the SHA-256 of the ids (int32, little-endian) of
data/texts/evaluation.txt.
"""
import hashlib
import json
import pathlib
import struct

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

SPACE = "\u2581"
ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests/hf/sentencepiece"
STRINGS = [
    "", " ", "a", "Hello, world!", "  two  spaces\n\n\tand tab ", "na\u00efve caf\u00e9 e\u0301", "\u4e2d\u6587 \ud55c\uae00 \u05e2\u05d1\u05e8\u05d9\u05ea",
    "\U0001f469\u200d\U0001f4bb\U0001f44d", "\u2581a \u2581\u2581b", "<s>a</s> <s> b", "a<s>", "<0x0A>\n\r\x00", "\ufeffx\u3000y", "the the  the   the\u2581the",
    "<|end|>  then<|end|>x <|end|>", "of the \u00e9t\u00e9of the",
]


def tokenizers():
    """name -> (normalizer, pre-tokenizer, decoder, whether tokens reach across spaces)."""
    prepend = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    bytes_too = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    stripped = decoders.Sequence(bytes_too + [decoders.Strip(" ", 1, 0)])
    yield "llama2", prepend, None, stripped, False
    yield "gemma", normalizers.Replace(" ", SPACE), pre_tokenizers.Split(" ", "merged_with_previous"), decoders.Sequence(bytes_too), True
    yield "mistral", None, pre_tokenizers.Metaspace(SPACE, prepend_scheme="first", split=False), stripped, False
    yield "words", None, pre_tokenizers.Metaspace(SPACE, prepend_scheme="always", split=True), decoders.Metaspace(SPACE, "always", True), False


def trained(across_spaces):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    if not across_spaces:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(SPACE)
    trainer = trainers.BpeTrainer(vocab_size=512, show_progress=False, limit_alphabet=80,
                                  special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)])
    text = (ROOT / "data/texts/calibration.txt").read_text(encoding="utf-8")
    tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
    return json.loads(tokenizer.to_str())["model"]


def main():
    FOLDER.mkdir(exist_ok=True)
    text = (ROOT / "data/texts/evaluation.txt").read_text(encoding="utf-8")
    expected = {"strings": STRINGS, "ids": {}, "decoded": {}, "sha256": {}}
    for name, normalizer, pre_tokenizer, decoder, across_spaces in tokenizers():
        empty = Tokenizer(models.BPE())
        if normalizer:
            empty.normalizer = normalizer
        if pre_tokenizer:
            empty.pre_tokenizer = pre_tokenizer
        empty.decoder = decoder
        base = json.loads(empty.to_str())
        base["model"] = {**trained(across_spaces), "byte_fallback": True, "fuse_unk": True, "unk_token": "<unk>"}
        tokenizer = Tokenizer.from_str(json.dumps(base))
        tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in ("<unk>", "<s>", "</s>")])
        tokenizer.add_tokens([AddedToken("<|end|>", rstrip=True, normalized=False)])
        (FOLDER / (name + ".json")).write_text(json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":")) + "\n",
                                               encoding="utf-8")
        ids = [tokenizer.encode(s, add_special_tokens=False).ids for s in STRINGS]
        expected["ids"][name] = ids
        expected["decoded"][name] = [tokenizer.decode(i, skip_special_tokens=False) for i in ids]
        all_ids = tokenizer.encode(text, add_special_tokens=False).ids
        expected["sha256"][name] = hashlib.sha256(struct.pack(f"<{len(all_ids)}i", *all_ids)).hexdigest()
    (FOLDER / "expected.json").write_text(json.dumps(expected, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
