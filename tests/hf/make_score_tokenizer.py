#!/usr/bin/env python3
"""Writes score_tokenizer.json: a small SentencePiece BPE model as a GGUF file's metadata has it (pieces, scores, types),
strings, and the ids that SentencePiece itself gives them. Needs sentencepiece 0.2:  make_score_tokenizer.py"""
import io
import json
import pathlib

import sentencepiece

ROOT = pathlib.Path(__file__).resolve().parents[2]
STRINGS = [
    "", " ", "a", "Hello, world!", "  two  spaces\n\n\tand tab ", "na\u00efve caf\u00e9 e\u0301", "\u4e2d\u6587 \ud55c\uae00",
    "\U0001f469\u200d\U0001f4bb", "the the  the   the", "aaaaaaaa", "aa a aaa aaaa", "=== a == b", "1234567 89", "\ufeffx\u3000y",
]


def main():
    text = (ROOT / "data/texts/calibration.txt").read_text(encoding="utf-8")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text.splitlines() + ["aaaa aaa aa a"] * 40), model_writer=model, vocab_size=700, model_type="bpe",
        byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=True,
        character_coverage=0.995, minloglevel=2)
    sp = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    kinds = []
    for i in range(sp.vocab_size()):
        kinds.append(6 if sp.is_byte(i) else 2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 5 if sp.is_unused(i) else 1)
    evaluation = (ROOT / "data/texts/evaluation.txt").read_text(encoding="utf-8")
    out = {
        "tokens": [sp.id_to_piece(i) for i in range(sp.vocab_size())],
        "scores": [sp.get_score(i) for i in range(sp.vocab_size())],
        "types": kinds,
        "strings": STRINGS + [line for line in evaluation.splitlines() if line.strip()][:40],
    }
    out["ids"] = [sp.encode(s) for s in out["strings"]]
    path = pathlib.Path(__file__).parent / "score_tokenizer.json"
    path.write_text(json.dumps(out, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
